//! What an invalidation costs where there is much: by tag, beside one where there is little, and by pattern, for others too.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use larder::{Cache, ManualClock, Status};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;
use redis::{AsyncCommands, Commands, aio::MultiplexedConnection};
use tokio::runtime::Runtime;

use crate::{
    backend::PATIENCE,
    contest::{Contestant, Series, compete, quantile},
    effort::Effort,
    process::{self, Partner, Role, patient},
    report::grouped,
    row::{Budget, Row},
    sweeper::{PREFIX, PROBE, Sweep},
};

/// Tags of the entries.
const TAGS: usize = 1000;

/// Entries where there are few.
const FEW: usize = 2000;

/// Tags that are invalidated a round.
const A_ROUND: usize = 20;

/// Keys that one script writes.
const A_SCRIPT: usize = 10_000;

/// The prober's pause between two of its questions.
const PAUSE: Duration = Duration::from_millis(1);

const SAME_COUNT: Budget = Budget::RatioAtMost(1.0);
const SAME_TIME: Budget = Budget::RatioAtMost(1.2);
/// In MiB.
const MEMORY: Budget = Budget::FigureAtMost(32.0);
const BESIDE_AN_ASKER: Budget = Budget::RatioAtMost(2.0);

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let runtime = process::runtime()?;
    let mut rows = tags(&runtime, effort)?;
    rows.extend(pattern(&runtime, effort)?);
    Ok(rows)
}

/// A server with so many entries over [`TAGS`] tags, and a cache on it.
struct Tagged {
    name: String,
    cache: Cache,
    /// The next tag that nobody has invalidated.
    next: usize,
    // Stops when it is dropped, after its clients.
    server: RedisServer,
}

fn entry(number: usize) -> String {
    format!("entry:{number}")
}

fn tag(number: usize) -> String {
    format!("tag:{number}")
}

impl Tagged {
    async fn start(keys: usize) -> Result<Self> {
        eprintln!("invalidation, filling {} keys", grouped(&keys.to_string()));
        let server = process::server()?;
        let cache = process::cache(&server.url()).await?;
        // One entry of each tag as Larder writes it; all others are copies.
        for number in 0..TAGS {
            cache.try_set(entry(number), number as u64).tag(tag(number)).await?;
        }
        let mut raw = process::raw(&server.url()).await?;
        let names: Vec<String> = (0..TAGS).map(|number| format!("bench:{}", entry(number))).collect();
        let templates: Vec<Vec<u8>> = raw.mget(names).await?;
        fill(&mut raw, "bench:entry:", TAGS..keys, &templates).await?;
        let held: usize = redis::cmd("DBSIZE").query_async(&mut raw).await?;
        ensure!(held >= keys, "the server holds {held} keys of {keys}");
        let tagged = Self { name: format!("{} keys", grouped(&keys.to_string())), cache, next: 0, server };
        tagged.check(keys).await?;
        Ok(tagged)
    }

    /// Copies are entries, and die with their tag.
    async fn check(&self, keys: usize) -> Result<()> {
        let last = keys - 1;
        let is_there = async |number| self.cache.get::<_, u64>(entry(number)).await.is_some();
        ensure!(is_there(last).await && is_there(last - 1).await, "a copied entry cannot be read");
        self.cache.invalidate().tag(tag(last % TAGS)).await?;
        ensure!(!is_there(last).await, "an entry outlived its tag");
        ensure!(is_there(last - 1).await, "an entry died with the tag of another");
        Ok(())
    }

    /// Microseconds that an invalidation takes, the median of [`A_ROUND`].
    fn time(&mut self, runtime: &Runtime) -> Result<f64> {
        let mut times = Vec::with_capacity(A_ROUND);
        for _ in 0..A_ROUND {
            let began = Instant::now();
            let invalidated = runtime.block_on(async { self.cache.invalidate().tag(tag(self.next)).await })?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
            // The marker was there.
            ensure!((invalidated.status, invalidated.remote) == (Status::Done, 1), "it came to {invalidated:?}");
            self.next += 1;
        }
        Ok(quantile(&mut times, 0.5))
    }

    /// Commands that the server carries out for an invalidation, by its own count.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 commands")]
    async fn commands(&mut self) -> Result<f64> {
        let config = RedisConfig::builder().url(self.server.url()).command_deadline(PATIENCE).build()?;
        // A clock that stands still: nothing else has reason to ask the server. The other cache is no more.
        let builder = Cache::builder().namespace("bench").strategy(patient()).timer(Arc::new(ManualClock::new()));
        self.cache = builder.backend(Arc::new(RedisBackend::new(config)?)).build().await?;
        process::trusting(&self.cache).await?;
        // Opens the sockets.
        for _ in 0..A_ROUND {
            self.invalidate_next().await?;
        }
        self.server.try_command(&["CONFIG", "RESETSTAT"])?;
        for _ in 0..A_ROUND {
            self.invalidate_next().await?;
        }
        let statistics = self.server.try_command(&["INFO", "commandstats"])?;
        Ok(calls(&statistics)? as f64 / A_ROUND as f64)
    }

    async fn invalidate_next(&mut self) -> Result<()> {
        let invalidated = self.cache.invalidate().tag(tag(self.next)).await?;
        ensure!((invalidated.status, invalidated.remote) == (Status::Done, 1), "it came to {invalidated:?}");
        self.next += 1;
        Ok(())
    }
}

/// All calls in the server's statistics, but those of the statistics themselves and those that only ask whether a socket
/// still lives.
fn calls(statistics: &str) -> Result<u64> {
    let mut sum = 0;
    for line in statistics.lines() {
        let Some((name, figures)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls=")) else {
            continue;
        };
        if ["config", "info", "ping"].iter().any(|own| name.starts_with(own)) {
            continue;
        }
        sum += figures.split(',').next().context("a number of calls")?.trim().parse::<u64>()?;
    }
    ensure!(sum > 0, "the server counted nothing");
    Ok(sum)
}

/// Writes copies of entries under `prefix` and a number, the templates in turn. The server does it, by a script.
async fn fill(
    raw: &mut MultiplexedConnection,
    prefix: &str,
    numbers: std::ops::Range<usize>,
    templates: &[Vec<u8>],
) -> Result<()> {
    let script = redis::Script::new(
        "for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
            redis.call('SET', KEYS[1] .. number, ARGV[3 + number % (#ARGV - 2)], 'PX', 86400000)
        end",
    );
    for first in numbers.clone().step_by(A_SCRIPT) {
        let last = (first + A_SCRIPT).min(numbers.end) - 1;
        let mut call = script.key(prefix);
        call.arg(first).arg(last).arg(templates);
        call.invoke_async::<()>(raw).await?;
    }
    Ok(())
}

/// A tag where there are few keys beside one where there are many.
fn tags(runtime: &Runtime, effort: Effort) -> Result<Vec<Row>> {
    let few = RefCell::new(runtime.block_on(Tagged::start(FEW))?);
    let many = RefCell::new(runtime.block_on(Tagged::start(effort.tagged_keys))?);
    eprintln!("invalidation by tag");
    let contestants = [&few, &many].map(|tagged| {
        let name = tagged.borrow().name.clone();
        Contestant::new(name, || tagged.borrow_mut().time(runtime))
    });
    let series = compete(effort.remote_rounds, contestants.into())?;
    let [few_times, many_times] = series.as_slice() else { unreachable!("two were sent") };
    let name = format!("invalidation of one of {TAGS} tags, {}", many_times.name);
    let time = Row::compare(format!("{name}, time"), "us", many_times, few_times, SAME_TIME);
    let few_count = runtime.block_on(few.borrow_mut().commands())?;
    let many_count = runtime.block_on(many.borrow_mut().commands())?;
    let baseline = (few_count, few_times.name.as_str());
    let count = Row::figures(format!("{name}, commands at the server"), "commands", many_count, baseline, SAME_COUNT);
    Ok(vec![count, time])
}

/// A pattern that matches every key of a server, and what another client of that server sees meanwhile.
fn pattern(runtime: &Runtime, effort: Effort) -> Result<Vec<Row>> {
    let keys = effort.swept_keys;
    let swept = Swept::start(runtime, effort)?;
    eprintln!("invalidation by pattern, {} keys", grouped(&keys.to_string()));
    let (ours, raw) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let contestants = vec![
        Contestant::new("the server otherwise idle", || swept.left_alone()),
        Contestant::new("a client with one GET at a time under way", || swept.asked()),
        Contestant::new("SCAN and UNLINK by the client library", || swept.swept(Role::RawSweeper, &raw)),
        Contestant::new("larder", || swept.swept(Role::Sweeper, &ours)),
    ];
    let series = compete(effort.sweeps, contestants)?;
    let [idle, asker, by_hand, larder] = series.as_slice() else { unreachable!("four were sent") };
    let name = format!("pattern over {} keys", grouped(&keys.to_string()));
    let latency = |baseline: &Series, budget| {
        let name = format!("{name}, p99 of another client's GET meanwhile, beside {}", baseline.name);
        Row::compare(name, "us", larder, baseline, budget)
    };
    let of = |figure: fn(&Sweep) -> f64| {
        // The first round warms up.
        [&ours, &raw].map(|sweeps| Series::new(&by_hand.name, sweeps.borrow().iter().skip(1).map(figure).collect()))
    };
    let [time, time_by_hand] = of(|sweep| sweep.time.as_secs_f64() * 1e3);
    let [memory, memory_by_hand] = of(mebibytes);
    Ok(vec![
        latency(asker, BESIDE_AN_ASKER),
        latency(by_hand, Budget::None),
        latency(idle, Budget::None),
        Row::compare(format!("{name}, growth of the process's peak"), "MiB", &memory, &memory_by_hand, MEMORY),
        Row::compare(format!("{name}, time"), "ms", &time, &time_by_hand, Budget::None),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^52 KiB")]
fn mebibytes(sweep: &Sweep) -> f64 {
    sweep.grown_kib as f64 / 1024.0
}

struct Swept<'a> {
    runtime: &'a Runtime,
    server: RedisServer,
    /// What the keys hold: an entry of Larder's.
    template: Vec<u8>,
    keys: usize,
    /// How long it is probed while nothing is swept.
    time: Duration,
}

impl<'a> Swept<'a> {
    fn start(runtime: &'a Runtime, effort: Effort) -> Result<Self> {
        let server = process::server()?;
        let template = runtime.block_on(async {
            let cache = process::cache(&server.url()).await?;
            cache.try_set("template", 1_u64).await?;
            let mut raw = process::raw(&server.url()).await?;
            raw.set::<_, _, ()>(PROBE, "p".repeat(100)).await?;
            Ok::<_, anyhow::Error>(raw.get("bench:template").await?)
        })?;
        Ok(Self { runtime, server, template, keys: effort.swept_keys, time: effort.probe_time })
    }

    fn left_alone(&self) -> Result<f64> {
        let pause = || {
            thread::sleep(self.time);
            Ok(())
        };
        Ok(self.probed(pause)?.1)
    }

    fn asked(&self) -> Result<f64> {
        let mut asker = Partner::start(Role::Asker, &self.server.url())?;
        let (answered, p99) = self.probed(|| asker.ask(&self.time.as_millis().to_string()))?;
        ensure!(answered.parse::<u64>()? > 0, "the other client got no answer");
        Ok(p99)
    }

    fn swept(&self, role: Role, sweeps: &RefCell<Vec<Sweep>>) -> Result<f64> {
        self.runtime.block_on(async {
            let mut raw = process::raw(&self.server.url()).await?;
            fill(&mut raw, PREFIX, 0..self.keys, std::slice::from_ref(&self.template)).await
        })?;
        let mut sweeper = Partner::start(role, &self.server.url())?;
        let (answer, p99) = self.probed(|| sweeper.ask("sweep"))?;
        let sweep = Sweep::parse(&answer)?;
        ensure!(sweep.removed == self.keys as u64, "{} of {} keys were removed", sweep.removed, self.keys);
        sweeps.borrow_mut().push(sweep);
        Ok(p99)
    }

    /// The p99 of a GET, in microseconds, as a thread sees it that asks about a thousand times a second, while something
    /// else happens.
    fn probed<T>(&self, during: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let mut connection = redis::Client::open(self.server.url())?.get_connection()?;
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let prober = scope.spawn(|| {
                let mut times = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    thread::sleep(PAUSE);
                    let began = Instant::now();
                    connection.get::<_, Option<String>>(PROBE)?.context("what is asked for is gone")?;
                    times.push(began.elapsed().as_secs_f64() * 1e6);
                }
                Ok::<_, anyhow::Error>(times)
            });
            let done = during();
            ended.store(true, Ordering::Relaxed);
            let mut times = prober.join().expect("asking does not panic")?;
            Ok((done?, quantile(&mut times, 0.99)))
        })
    }
}
