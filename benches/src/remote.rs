//! Reads of a value that Redis holds, near tier left out, beside the usual ways to ask Redis.

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
use larder::Cache;
use larder_core::{Backend, BackendExt, GetOptions, Key};
use larder_redis::{RedisBackend, RedisConfig};
use larder_strategy::{Strategy, Tiers};
use larder_testing::RedisServer;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio::{runtime::Runtime, sync::Barrier};

use crate::{
    contest::{Contestant, compete},
    effort::Effort,
    row::{Budget, Row},
    workload::Document,
};

/// Connections of a conventional pool.
const POOL: u32 = 50;

/// Keys of one `get_many`.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 1024;

/// Longer than any run.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// So long that a machine busy with other things does not turn a hit into a miss.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sizes of values, in bytes, their names, and how many keys hold one.
const SIZES: [(usize, &str, usize); 3] = [(100, "100 B", 10_000), (1024, "1 KiB", 10_000), (64 << 10, "64 KiB", 1024)];

const CALLERS: [usize; 4] = [1, 16, 64, 256];

/// A server, and everything that asks it.
struct Clients {
    cache: Cache,
    backend: Arc<dyn Backend>,
    one_socket: Arc<dyn Backend>,
    raw: MultiplexedConnection,
    pool: bb8::Pool<RedisConnectionManager>,
    tested_pool: bb8::Pool<RedisConnectionManager>,
    // Stops when it is dropped, after its clients.
    _server: RedisServer,
}

impl Clients {
    async fn start() -> Result<Self> {
        let server = RedisServer::builder().option("save", "").option("appendonly", "no").try_start()?;
        let config = || RedisConfig::builder().url(server.url()).command_deadline(PATIENCE);
        let backend: Arc<dyn Backend> = Arc::new(RedisBackend::connect(config().build()?).await?);
        let one_socket: Arc<dyn Backend> = Arc::new(RedisBackend::connect(config().sockets(1).build()?).await?);
        // Both tiers off the near one: neither a single read nor a batch may find its values there.
        let strategy = Strategy::new("benches", TTL).tiers(Tiers::Remote).remote_deadline(PATIENCE);
        let cache = Cache::builder().backend(Arc::clone(&backend)).strategy(strategy).build().await?;
        let client = redis::Client::open(server.url())?;
        Ok(Self {
            cache,
            backend,
            one_socket,
            raw: client.get_multiplexed_async_connection().await?,
            pool: pool(&server, false).await?,
            tested_pool: pool(&server, true).await?,
            _server: server,
        })
    }

    /// The same documents for everybody: as an entry of Larder's, and as plain MessagePack.
    async fn fill(&self, bytes: usize, keys: usize) -> Result<()> {
        let mut raw = self.raw.clone();
        for index in 0..keys {
            let document = Document::of_bytes(index as u64, bytes);
            raw.set::<_, _, ()>(plain_key(bytes, index), rmp_serde::to_vec_named(&document)?).await?;
            self.cache.try_set(key(bytes, index), document).await?;
        }
        Ok(())
    }
}

async fn pool(server: &RedisServer, test_on_check_out: bool) -> Result<bb8::Pool<RedisConnectionManager>> {
    let manager = RedisConnectionManager::new(server.url())?;
    let builder = bb8::Pool::builder().max_size(POOL).min_idle(POOL).connection_timeout(PATIENCE);
    Ok(builder.test_on_check_out(test_on_check_out).build(manager).await?)
}

fn key(bytes: usize, index: usize) -> String {
    format!("document:{bytes}:{index}")
}

fn plain_key(bytes: usize, index: usize) -> String {
    format!("plain:document:{bytes}:{index}")
}

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clients = Arc::new(runtime.block_on(Clients::start())?);
    let mut rows = Vec::new();
    for (bytes, size, keys) in SIZES {
        eprintln!("remote hits, filling {keys} keys of {size}");
        runtime.block_on(clients.fill(bytes, keys))?;
        for callers in CALLERS {
            eprintln!("remote hits, {size}, {callers} caller(s)");
            let asked =
                Asked { runtime: &runtime, clients: &clients, bytes, size, keys, callers, time: effort.remote_time };
            rows.extend(asked.rows(effort.remote_rounds)?);
        }
    }
    Ok(rows)
}

/// `get_many` beside MGET.
pub(crate) fn run_batches(effort: Effort) -> Result<Vec<Row>> {
    eprintln!("get_many of {BATCH}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clients = Arc::new(runtime.block_on(Clients::start())?);
    runtime.block_on(clients.fill(BATCH_BYTES, BATCH))?;
    batches(&runtime, &clients, effort)
}

/// One size of values, asked for by so many callers at once.
struct Asked<'a> {
    runtime: &'a Runtime,
    clients: &'a Arc<Clients>,
    bytes: usize,
    size: &'static str,
    keys: usize,
    callers: usize,
    time: Duration,
}

impl Asked<'_> {
    fn rows(&self, rounds: usize) -> Result<Vec<Row>> {
        let bytes = self.bytes;
        let mut contestants = vec![
            self.contestant("larder", move |clients, index| async move {
                clients
                    .cache
                    .get::<_, Document>(key(bytes, index))
                    .skip_near()
                    .await
                    .context("a read of Larder's missed")
            }),
            self.contestant("one multiplexed connection", move |clients, index| async move {
                decoded(&clients.raw.clone().get::<_, Vec<u8>>(plain_key(bytes, index)).await?)
            }),
            self.contestant("bb8 pool of 50", move |clients, index| async move {
                decoded(&clients.pool.get().await?.get::<_, Vec<u8>>(plain_key(bytes, index)).await?)
            }),
            self.contestant("bb8 pool of 50, tested at checkout", move |clients, index| async move {
                decoded(&clients.tested_pool.get().await?.get::<_, Vec<u8>>(plain_key(bytes, index)).await?)
            }),
        ];
        let is_budgeted = (self.callers, self.bytes) == (64, 1024);
        if is_budgeted {
            contestants.push(self.contestant("RedisBackend alone", move |clients, index| async move {
                found(clients.backend.get(&Key::new(&plain_key(bytes, index))).await?)
            }));
            contestants.push(self.contestant("RedisBackend alone with one socket", move |clients, index| async move {
                found(clients.one_socket.get(&Key::new(&plain_key(bytes, index))).await?)
            }));
        }
        let series = compete(rounds, contestants)?;
        let budget = |limit| if is_budgeted { Budget::RatioAtLeast(limit) } else { Budget::None };
        let callers = if self.callers == 1 { "1 caller".to_owned() } else { format!("{} callers", self.callers) };
        let row = |baseline: usize, budget| {
            let name = format!("remote hit, {}, {callers}, beside {}", self.size, series[baseline].name);
            Row::compare(name, "hits/s", &series[0], &series[baseline], budget)
        };
        let mut rows = vec![row(1, budget(0.9)), row(2, budget(3.0)), row(3, Budget::None)];
        rows.extend(series.iter().skip(4).map(|backend| {
            let name = format!("remote read by {}, {}, {callers}, beside {}", backend.name, self.size, series[1].name);
            Row::compare(name, "hits/s", backend, &series[1], Budget::None)
        }));
        Ok(rows)
    }

    /// Hits a second of all callers together.
    fn contestant<'a, Read, Fut>(&'a self, name: &str, read: Read) -> Contestant<'a>
    where
        Read: Fn(Arc<Clients>, usize) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<Document>>> + Send,
    {
        Contestant::new(name, move || {
            let asking = hits_a_second(Arc::clone(self.clients), self.callers, self.keys, self.time, read);
            self.runtime.block_on(asking)
        })
    }
}

fn found(bytes: Option<impl AsRef<[u8]>>) -> Result<Arc<Document>> {
    decoded(bytes.context("a read of the backend's missed")?.as_ref())
}

fn decoded(bytes: &[u8]) -> Result<Arc<Document>> {
    Ok(Arc::new(rmp_serde::from_slice(bytes)?))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 reads")]
async fn hits_a_second<Read, Fut>(
    clients: Arc<Clients>,
    callers: usize,
    keys: usize,
    time: Duration,
    read: Read,
) -> Result<f64>
where
    Read: Fn(Arc<Clients>, usize) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Arc<Document>>> + Send,
{
    let start = Arc::new(Barrier::new(callers + 1));
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (clients, start, stop) = (Arc::clone(&clients), Arc::clone(&start), Arc::clone(&stop));
            tokio::spawn(async move {
                start.wait().await;
                let mut hits = 0_u64;
                // Keys of its own, so that no caller is answered by what another one asked for.
                let mut index = caller;
                while !stop.load(Ordering::Relaxed) {
                    read(Arc::clone(&clients), index).await?;
                    hits += 1;
                    index = if index + callers < keys { index + callers } else { caller };
                }
                Ok::<_, anyhow::Error>(hits)
            })
        })
        .collect();
    start.wait().await;
    let began = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut hits = 0;
    for task in tasks {
        hits += task.await??;
    }
    Ok(hits as f64 / began.elapsed().as_secs_f64())
}

/// `get_many` beside MGET, with and without decoding what it answers.
fn batches(runtime: &Runtime, clients: &Arc<Clients>, effort: Effort) -> Result<Vec<Row>> {
    let bytes = BATCH_BYTES;
    let keys: Vec<String> = (0..BATCH).map(|index| key(bytes, index)).collect();
    let plain: Vec<String> = (0..BATCH).map(|index| plain_key(bytes, index)).collect();
    let times = effort.batches;
    let mget = async || -> Result<Vec<Vec<u8>>> { Ok(clients.raw.clone().mget(&plain).await?) };
    let timed = |name, batch: &dyn Fn() -> Result<usize>| -> Result<f64> {
        let began = Instant::now();
        for _ in 0..times {
            let found = batch()?;
            ensure!(found == BATCH, "{name} found {found} of {BATCH} keys");
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(times))
    };
    let larder = || {
        let found = runtime.block_on(clients.cache.get_many::<_, Document>(&keys));
        Ok(found.into_iter().flatten().count())
    };
    let decoding = || {
        let found = runtime.block_on(mget())?;
        Ok(found.iter().map(|bytes| decoded(bytes)).collect::<Result<Vec<_>>>()?.len())
    };
    let backend_keys: Vec<Key> = plain.iter().map(|key| Key::new(key.as_str())).collect();
    let backend = || {
        let found = runtime.block_on(clients.backend.get_many(&backend_keys, GetOptions::new()));
        Ok(found.into_iter().filter(|found| matches!(found, Ok(Some(_)))).count())
    };
    let bare = || Ok(runtime.block_on(mget())?.len());
    let contestants = vec![
        Contestant::new("larder", || timed("get_many", &larder)),
        Contestant::new("MGET", || timed("MGET", &bare)),
        Contestant::new("MGET and decoding", || timed("MGET", &decoding)),
        Contestant::new("RedisBackend alone", || timed("get_many", &backend)),
    ];
    let series = compete(effort.remote_rounds, contestants)?;
    let row = |baseline: usize| {
        let name = format!("get_many of {BATCH} keys, 1 KiB, beside {}", series[baseline].name);
        Row::compare(name, "us/batch", &series[0], &series[baseline], Budget::RatioAtMost(1.3))
    };
    let name = format!("get_many of {BATCH} keys by {}, 1 KiB, beside {}", series[3].name, series[1].name);
    let alone = Row::compare(name, "us/batch", &series[3], &series[1], Budget::None);
    Ok(vec![row(1), row(2), alone])
}
