//! The Redis backend by itself, beside the client library it stands on and the usual ways to share that.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bb8_redis::{RedisConnectionManager, bb8};
use larder_core::{Backend, BackendExt, GetOptions, Key, SetItem, SetOptions};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::{runtime::Runtime, sync::Barrier};

use crate::{
    contest::{Contestant, compete},
    effort::Effort,
    memory,
    row::{Budget, Row},
};

/// Connections of a conventional pool.
const POOL: u32 = 50;

const KEYS: usize = 10_000;
pub(crate) const VALUE_BYTES: usize = 1024;

/// Keys of one batch.
const BATCH: usize = 1000;

const TTL: Duration = Duration::from_secs(24 * 3600);

/// So long that a machine busy with other things does not turn a read into a fault.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Numbers of sockets that are compared; the first is what the others are compared with.
const SOCKETS: [usize; 4] = [1, 2, 4, 8];

const ONE: &str = "one multiplexed connection";

/// Everything that asks the one server.
struct Clients {
    backend: RedisBackend,
    by_sockets: Vec<Arc<RedisBackend>>,
    raw: MultiplexedConnection,
    pool: bb8::Pool<RedisConnectionManager>,
    tested_pool: bb8::Pool<RedisConnectionManager>,
    #[cfg(feature = "rivals")]
    rivals: crate::backend_rivals::Rivals,
    // Stops when it is dropped, after its clients.
    server: RedisServer,
}

impl Clients {
    async fn start() -> Result<Self> {
        let server = RedisServer::builder().try_start()?;
        let config = || RedisConfig::builder().url(server.url()).command_deadline(PATIENCE).connect_deadline(PATIENCE);
        let mut by_sockets = Vec::new();
        for sockets in SOCKETS {
            by_sockets.push(Arc::new(RedisBackend::connect(config().sockets(sockets).build()?).await?));
        }
        let clients = Self {
            backend: RedisBackend::connect(config().build()?).await?,
            by_sockets,
            raw: redis::Client::open(server.url())?.get_multiplexed_async_connection().await?,
            pool: pool(&server, false).await?,
            tested_pool: pool(&server, true).await?,
            #[cfg(feature = "rivals")]
            rivals: crate::backend_rivals::Rivals::start(&server.url(), POOL as usize).await?,
            server,
        };
        clients.fill().await?;
        Ok(clients)
    }

    async fn fill(&self) -> Result<()> {
        let value = "v".repeat(VALUE_BYTES);
        let items: Vec<_> =
            (0..KEYS).map(|index| SetItem::new(larder_key(index), value.clone(), SetOptions::new().ttl(TTL))).collect();
        self.backend.set_many(&items).await.into_iter().try_for_each(|stored| stored.map(drop))?;
        Ok(())
    }
}

async fn pool(server: &RedisServer, test_on_check_out: bool) -> Result<bb8::Pool<RedisConnectionManager>> {
    let manager = RedisConnectionManager::new(server.url())?;
    let builder = bb8::Pool::builder().max_size(POOL).min_idle(POOL).connection_timeout(PATIENCE);
    Ok(builder.test_on_check_out(test_on_check_out).build(manager).await?)
}

fn larder_key(index: usize) -> Key {
    Key::new(key(index).as_str())
}

pub(crate) fn key(index: usize) -> String {
    format!("backend:{index}")
}

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clients = Arc::new(runtime.block_on(Clients::start())?);
    let bench = Bench { runtime: &runtime, clients: &clients, effort };
    let mut rows = bench.reads(64)?;
    rows.extend(bench.reads(256)?);
    rows.extend(bench.latencies(256)?);
    rows.extend(bench.sockets(64)?);
    rows.extend(bench.sockets(256)?);
    rows.extend(bench.batches()?);
    rows.push(memory::row(&clients.server.url())?);
    Ok(rows)
}

#[derive(Clone, Copy)]
struct Bench<'a> {
    runtime: &'a Runtime,
    clients: &'a Arc<Clients>,
    effort: Effort,
}

/// What is made of the calls of a round.
#[derive(Clone, Copy)]
enum Figure {
    CallsASecond,
    /// Microseconds that 99 of 100 calls do not exceed.
    P99,
}

impl<'a> Bench<'a> {
    /// GET of 1 KiB, so many callers at once.
    fn reads(self, callers: usize) -> Result<Vec<Row>> {
        eprintln!("the backend alone, {callers} callers");
        let figure = Figure::CallsASecond;
        let contestants = vec![
            self.larder(callers, figure),
            self.raw(callers, figure),
            self.contestant("bb8 pool of 50", callers, figure, |clients, index| async move {
                Ok(clients.pool.get().await?.get::<_, Vec<u8>>(key(index)).await?.len())
            }),
            self.contestant("bb8 pool of 50, tested at checkout", callers, figure, |clients, index| async move {
                Ok(clients.tested_pool.get().await?.get::<_, Vec<u8>>(key(index)).await?.len())
            }),
        ];
        #[cfg(feature = "rivals")]
        let contestants = contestants.into_iter().chain(self.rivals(callers)).collect();
        let series = compete(self.effort.remote_rounds, contestants)?;
        let budgets = if callers == 64 { [0.9, 3.0].map(Budget::RatioAtLeast) } else { [Budget::None; 2] };
        let rows = series.iter().enumerate().skip(1).map(|(place, baseline)| {
            let name = format!("GET by RedisBackend, 1 KiB, {callers} callers, beside {}", baseline.name);
            let budget = budgets.get(place - 1).copied().unwrap_or(Budget::None);
            Row::compare(name, "reads/s", &series[0], baseline, budget)
        });
        Ok(rows.collect())
    }

    fn latencies(self, callers: usize) -> Result<Vec<Row>> {
        eprintln!("the backend alone, latency at {callers} callers");
        let contestants = vec![self.larder(callers, Figure::P99), self.raw(callers, Figure::P99)];
        let series = compete(self.effort.remote_rounds, contestants)?;
        let name = format!("p99 of GET by RedisBackend, 1 KiB, {callers} callers, beside {ONE}");
        Ok(vec![Row::compare(name, "us", &series[0], &series[1], Budget::RatioAtMost(1.3))])
    }

    /// What the default number of sockets rests on.
    fn sockets(self, callers: usize) -> Result<Vec<Row>> {
        eprintln!("the backend alone, numbers of sockets, {callers} callers");
        let with = |place: usize| {
            let name = format!("{} socket(s)", SOCKETS[place]);
            self.contestant(&name, callers, Figure::CallsASecond, move |clients, index| async move {
                let found = clients.by_sockets[place].get(&larder_key(index)).await?;
                Ok(found.context("a read of the backend's missed")?.len())
            })
        };
        let series = compete(self.effort.remote_rounds, (0..SOCKETS.len()).map(with).collect())?;
        let rows = series.iter().skip(1).map(|more| {
            let name = format!("GET by RedisBackend with {}, {callers} callers, beside {}", more.name, series[0].name);
            Row::compare(name, "reads/s", more, &series[0], Budget::None)
        });
        Ok(rows.collect())
    }

    fn batches(self) -> Result<Vec<Row>> {
        eprintln!("the backend alone, batches of {BATCH}");
        let (clients, runtime, times) = (self.clients, self.runtime, self.effort.batches);
        let names: Vec<String> = (0..BATCH).map(key).collect();
        let keys: Vec<Key> = (0..BATCH).map(larder_key).collect();
        let value = "w".repeat(VALUE_BYTES);
        let items: Vec<_> =
            keys.iter().map(|key| SetItem::new(key.clone(), value.clone(), SetOptions::new().ttl(TTL))).collect();
        let timed = |batch: &dyn Fn() -> Result<usize>| -> Result<f64> {
            let began = Instant::now();
            for _ in 0..times {
                let done = batch()?;
                ensure!(done == BATCH, "{done} of {BATCH} keys were answered");
            }
            Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(times))
        };
        let read = |options: GetOptions| {
            let found = runtime.block_on(clients.backend.get_many(&keys, options));
            Ok(found.into_iter().filter(|found| matches!(found, Ok(Some(_)))).count())
        };
        let raw_mget = || Ok(runtime.block_on(clients.raw.clone().mget::<_, Vec<Vec<u8>>>(&names))?.len());
        let raw_with_ttl = || {
            let mut pipe = redis::pipe();
            names.iter().for_each(|name| {
                pipe.get(name).pttl(name);
            });
            let answers: Vec<redis::Value> = runtime.block_on(pipe.query_async(&mut clients.raw.clone()))?;
            Ok(answers.len() / 2)
        };
        let written = || {
            let stored = runtime.block_on(clients.backend.set_many(&items));
            Ok(stored.into_iter().filter(Result::is_ok).count())
        };
        let raw_written = || {
            let mut pipe = redis::pipe();
            names.iter().for_each(|name| {
                pipe.cmd("SET").arg(name).arg(&value).arg("PX").arg(TTL.as_secs() * 1000);
            });
            let answers: Vec<redis::Value> = runtime.block_on(pipe.query_async(&mut clients.raw.clone()))?;
            Ok(answers.len())
        };
        let contestants = vec![
            Contestant::new("get_many", || timed(&|| read(GetOptions::new()))),
            Contestant::new("MGET", || timed(&raw_mget)),
            Contestant::new("get_many with TTLs", || timed(&|| read(GetOptions::new().with_ttl()))),
            Contestant::new("a pipeline of GET and PTTL", || timed(&raw_with_ttl)),
            Contestant::new("set_many", || timed(&written)),
            Contestant::new("a pipeline of SET", || timed(&raw_written)),
        ];
        let series = compete(self.effort.remote_rounds, contestants)?;
        let row = |place: usize, budget| {
            let (mine, raw) = (&series[place], &series[place + 1]);
            let name = format!("{} of {BATCH} keys by RedisBackend, 1 KiB, beside {}", mine.name, raw.name);
            Row::compare(name, "us/batch", mine, raw, budget)
        };
        let bound = Budget::RatioAtMost(1.3);
        Ok(vec![row(0, bound), row(2, Budget::None), row(4, bound)])
    }

    fn larder(self, callers: usize, figure: Figure) -> Contestant<'a> {
        self.contestant("larder", callers, figure, |clients, index| async move {
            Ok(clients.backend.get(&larder_key(index)).await?.context("a read of the backend's missed")?.len())
        })
    }

    fn raw(self, callers: usize, figure: Figure) -> Contestant<'a> {
        self.contestant(ONE, callers, figure, |clients, index| async move {
            Ok(clients.raw.clone().get::<_, Vec<u8>>(key(index)).await?.len())
        })
    }

    #[cfg(feature = "rivals")]
    fn rivals(self, callers: usize) -> Vec<Contestant<'a>> {
        let figure = Figure::CallsASecond;
        vec![
            self.contestant("fred, one connection", callers, figure, |clients, index| async move {
                clients.rivals.fred_one(&key(index)).await
            }),
            self.contestant("fred, pool of 4", callers, figure, |clients, index| async move {
                clients.rivals.fred_four(&key(index)).await
            }),
            self.contestant("deadpool-redis, pool of 50", callers, figure, |clients, index| async move {
                clients.rivals.deadpool(&key(index)).await
            }),
        ]
    }

    fn contestant<Read, Fut>(self, name: &str, callers: usize, figure: Figure, read: Read) -> Contestant<'a>
    where
        Read: Fn(Arc<Clients>, usize) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<usize>> + Send,
    {
        Contestant::new(name, move || {
            let asking = drive(Arc::clone(self.clients), callers, self.effort.remote_time, figure, read);
            self.runtime.block_on(asking)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 reads")]
async fn drive<Read, Fut>(
    clients: Arc<Clients>,
    callers: usize,
    time: Duration,
    figure: Figure,
    read: Read,
) -> Result<f64>
where
    Read: Fn(Arc<Clients>, usize) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<usize>> + Send,
{
    let start = Arc::new(Barrier::new(callers + 1));
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (clients, start, stop) = (Arc::clone(&clients), Arc::clone(&start), Arc::clone(&stop));
            tokio::spawn(async move {
                start.wait().await;
                let mut waits = Vec::new();
                let mut calls = 0_u64;
                // Keys of its own, so that no caller is answered by what another one asked for.
                let mut index = caller;
                while !stop.load(Ordering::Relaxed) {
                    let began = matches!(figure, Figure::P99).then(Instant::now);
                    let bytes = read(Arc::clone(&clients), index).await?;
                    ensure!(bytes == VALUE_BYTES, "a value of {bytes} bytes");
                    waits.extend(began.map(|began| began.elapsed()));
                    calls += 1;
                    index = if index + callers < KEYS { index + callers } else { caller };
                }
                Ok((calls, waits))
            })
        })
        .collect();
    start.wait().await;
    let began = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let (mut calls, mut waits) = (0, Vec::new());
    for task in tasks {
        let (own, own_waits) = task.await??;
        calls += own;
        waits.extend(own_waits);
    }
    Ok(match figure {
        Figure::CallsASecond => calls as f64 / began.elapsed().as_secs_f64(),
        Figure::P99 => {
            waits.sort_unstable();
            let place = (waits.len() * 99).div_ceil(100).saturating_sub(1);
            waits.get(place).context("no call came to an end")?.as_secs_f64() * 1e6
        }
    })
}
