//! What several processes cost each other: how soon an invalidation has arrived, and what tags add to a hit.

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use larder::{Cache, ManualClock, Status};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, RedisServer};
use redis::AsyncCommands;
use tokio::runtime::Runtime;

use crate::{
    contest::{Contestant, Series, compete, quantile},
    effort::Effort,
    listener::{CHANNEL, KEY},
    process::{self, Partner, Role, patient, trusting},
    row::{Budget, Row},
    workload::{KEYS, Reads, polled},
};

/// Invalidations a round, and as many bare messages.
const ARRIVALS: usize = 300;

/// Remote hits that are counted.
const COUNTED: u32 = 500;

/// Rounds of near hits that are begun anew because the bus was distrusted meanwhile.
const ATTEMPTS: usize = 20;

/// How long an invalidation may be under way, in microseconds.
const ARRIVED: Budget = Budget::FigureAtMost(2_000.0);
const BESIDE_PUBLISH: Budget = Budget::RatioAtMost(2.0);
const BESIDE_UNTAGGED: Budget = Budget::RatioAtMost(1.1);
const ONE_COMMAND: Budget = Budget::FigureAtMost(1.0);

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let runtime = process::runtime()?;
    let server = process::server()?;
    eprintln!("invalidations on their way");
    let mut rows = arrivals(&runtime, &server, effort)?;
    eprintln!("near hits with tags");
    let reads = Reads::draw();
    for (what, cache) in [
        ("a cache without Redis", Cache::in_memory()),
        ("a cache on Redis, bus trusted", runtime.block_on(process::cache(&server.url()))?),
    ] {
        rows.push(tagged(&runtime, &cache, &reads, what, effort)?);
    }
    eprintln!("commands of remote hits with tags");
    rows.push(runtime.block_on(commands(&server))?);
    Ok(rows)
}

/// From before an invalidation is asked for in one process until another process's near tier has dropped the entry; in turns
/// with a PUBLISH, from before it is sent until a subscriber in that other process has it. Both sides do something small right
/// before, so that neither finds the cores asleep.
fn arrivals(runtime: &Runtime, server: &RedisServer, effort: Effort) -> Result<Vec<Row>> {
    let cache = runtime.block_on(process::cache(&server.url()))?;
    let raw = runtime.block_on(process::raw(&server.url()))?;
    let mut listener = Partner::start(Role::Listener, &server.url())?;
    let invalidated = |listener: &mut Partner| {
        listener.ask("hold")?;
        let began = SystemTime::now();
        let invalidated = runtime.block_on(async { cache.invalidate().key(KEY).await })?;
        ensure!(invalidated.status == Status::Done, "the invalidation was put off");
        until(began, &listener.ask("gone")?)
    };
    // About as long as Larder's.
    let message = "m".repeat(64);
    let published = |listener: &mut Partner| {
        listener.ask("wake")?;
        let began = SystemTime::now();
        let heard: u64 = runtime.block_on(raw.clone().publish(CHANNEL, &message))?;
        ensure!(heard == 1, "{heard} subscribers");
        until(began, &listener.ask("heard")?)
    };
    let mut figures: [[Vec<f64>; 2]; 2] = Default::default();
    for round in 0..=effort.remote_rounds {
        let (mut ours, mut bare) = (Vec::with_capacity(ARRIVALS), Vec::with_capacity(ARRIVALS));
        for turn in 0..ARRIVALS {
            if turn % 2 == 0 {
                ours.push(invalidated(&mut listener)?);
                bare.push(published(&mut listener)?);
            } else {
                bare.push(published(&mut listener)?);
                ours.push(invalidated(&mut listener)?);
            }
        }
        if round == 0 {
            continue;
        }
        for (part, figures) in [0.5, 0.99].into_iter().zip(&mut figures) {
            figures[0].push(quantile(&mut ours, part));
            figures[1].push(quantile(&mut bare, part));
        }
    }
    let [p50, p99] = figures.map(|[ours, bare]| [Series::new("larder", ours), Series::new("a bare PUBLISH", bare)]);
    let name = "invalidation until it is gone from another process's near tier";
    let row = |name: String, [ours, bare]: &[Series; 2], budget| Row::compare(name, "us", ours, bare, budget);
    Ok(vec![
        row(format!("{name}, p99"), &p99, ARRIVED),
        row(format!("{name}, p99, beside a bare PUBLISH"), &p99, BESIDE_PUBLISH),
        row(format!("{name}, p50, beside a bare PUBLISH"), &p50, Budget::None),
    ])
}

/// Microseconds until a moment that another process has noted.
fn until(began: SystemTime, nanos: &str) -> Result<f64> {
    let arrived = UNIX_EPOCH + Duration::from_nanos(nanos.parse()?);
    let took = arrived.duration_since(began).context("it arrived before it was sent, or the clock was set")?;
    Ok(took.as_secs_f64() * 1e6)
}

/// Near hits of entries with three tags beside such without: the draw of the near tier's measurements. The tags are shared by all
/// entries, by a hundred, and by ten.
fn tagged(runtime: &Runtime, cache: &Cache, reads: &Reads, what: &str, effort: Effort) -> Result<Row> {
    let paths = |kind: &str| -> Vec<String> { (0..KEYS).map(|id| format!("{kind}:{id}")).collect() };
    let (plain, three) = (paths("plain"), paths("three"));
    runtime.block_on(async {
        for (id, (plain, three)) in (0..KEYS).zip(plain.iter().zip(&three)) {
            let entry =
                cache.set(three, id).tag("all").tag(format!("group:{}", id % 100)).tag(format!("user:{}", id % 1000));
            ensure!(cache.set(plain, id).await && entry.await, "an entry was not stored");
        }
        Ok(())
    })?;
    let contestant = |name: &str, paths: &'_ [String]| {
        let paths = paths.to_vec();
        Contestant::new(name, move || near_hits(runtime, cache, &paths, reads, effort.tagged_reads))
    };
    let series =
        compete(effort.rounds, vec![contestant("without tags", &plain), contestant("with three tags", &three)])?;
    let [plain, three] = series.as_slice() else { unreachable!("two were sent") };
    Ok(Row::compare(format!("near hit with three tags, {what}"), "ns/hit", three, plain, BESIDE_UNTAGGED))
}

/// Nanoseconds of a hit. All have to be hits: where the machine was so busy that the bus was distrusted, and so the near tier
/// emptied, it is begun anew.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 nanoseconds and hits")]
fn near_hits(runtime: &Runtime, cache: &Cache, paths: &[String], reads: &Reads, count: usize) -> Result<f64> {
    let _entered = runtime.enter();
    for _ in 0..ATTEMPTS {
        runtime.block_on(async {
            if cache.health().await.remote.is_some() {
                trusting(cache).await?;
            }
            for path in paths {
                cache.get::<_, u32>(path).await.context("an entry is gone")?;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        let mut missed = 0;
        let began = Instant::now();
        for id in reads.from(0).take(count) {
            let found = polled(cache.get::<_, u32>(black_box(&paths[id as usize])).into_future());
            missed += usize::from(black_box(found).flatten().is_none());
        }
        let took = began.elapsed();
        if missed == 0 {
            return Ok(took.as_nanos() as f64 / count as f64);
        }
    }
    bail!("the near tier was emptied in each of {ATTEMPTS} rounds");
}

/// Commands of a remote hit, counted between client and server, once the versions of the tags are known.
async fn commands(server: &RedisServer) -> Result<Row> {
    let writer = process::cache(&server.url()).await?;
    for number in 0..=COUNTED {
        let tagged = writer.set(("counted", number), number).tag("a").tag("b").tag("c").await;
        ensure!(tagged && writer.set(("uncounted", number), number).await, "an entry was not stored");
    }
    let proxy = FaultProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))).await?;
    let backend = RedisBackend::new(RedisConfig::from_url(format!("redis://{}", proxy.address()))?)?;
    // A clock that stands still: nothing but the reads has reason to ask the server.
    let builder = Cache::builder().namespace("bench").strategy(patient()).timer(Arc::new(ManualClock::new()));
    let cache = builder.backend(Arc::new(backend)).build().await?;
    trusting(&cache).await?;
    let mut counts = Vec::new();
    for kind in ["uncounted", "counted"] {
        // The first brings the versions along.
        let mut before = 0;
        for number in 0..=COUNTED {
            let found = cache.get::<_, u32>((kind, number)).await.context("an entry is gone")?;
            ensure!(*found == number, "an entry holds {found}");
            if number == 0 {
                before = sent(&proxy);
            }
        }
        counts.push((sent(&proxy) - before) as f64 / f64::from(COUNTED));
    }
    let [plain, tagged] = counts[..] else { unreachable!("two were counted") };
    let name = "commands of a remote hit with three tags, bus trusted, versions known";
    Ok(Row::figures(name, "commands/hit", tagged, (plain, "without tags"), ONE_COMMAND))
}

/// Commands that passed, those aside that only ask whether a socket still lives.
fn sent(proxy: &FaultProxy) -> u64 {
    proxy.commands() - proxy.commands_named("PING")
}
