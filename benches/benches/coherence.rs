//! How long an invalidation takes to reach another cache's near tier, beside a bare PUBLISH that reaches a SUBSCRIBE; and
//! what tags add to a near hit.

#![expect(clippy::print_stdout, reason = "what was measured is the output")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use larder::{Cache, Strategy};
use larder_benches::workload::ready;
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;
use redis::AsyncCommands;
use tokio::time::{sleep, timeout};

/// Invalidations that are measured.
const ROUNDS: usize = 2000;

/// Near hits of one round, and rounds of which the fastest counts.
const HITS: u32 = 1_000_000;
const HIT_ROUNDS: usize = 9;

/// So long nothing takes that works.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let server = RedisServer::builder().option("save", "").option("appendonly", "no").try_start()?;
        let bare = bare(&server).await?;
        let removed = invalidations(&server).await?;
        println!("{:<54} {:>10} {:>10}", "", "p50", "p99");
        show("PUBLISH until a subscriber has the message", &bare);
        show("invalidate until another near tier has dropped it", &removed);
        let ratio = |part: f64| at(&removed, part).as_secs_f64() / at(&bare, part).as_secs_f64();
        println!("{:<54} {:>9.2}x {:>9.2}x", "ratio", ratio(0.5), ratio(0.99));
        hits().await
    })
}

/// From before PUBLISH is sent until the subscriber has the message.
async fn bare(server: &RedisServer) -> Result<Vec<Duration>> {
    let client = redis::Client::open(server.url())?;
    let mut publisher = client.get_multiplexed_async_connection().await?;
    let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
    sink.subscribe("bench").await?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let (sent, heard) = tokio::join!(publisher.publish::<_, _, u64>("bench", "larder:key"), async {
            let message = futures_util::StreamExt::next(&mut messages).await;
            message.map(|_| began.elapsed())
        });
        sent?;
        times.push(heard.context("the subscription ended")?);
    }
    times.sort_unstable();
    Ok(times)
}

/// From before the invalidation is asked for until the other cache's near tier no longer has the key.
async fn invalidations(server: &RedisServer) -> Result<Vec<Duration>> {
    let (one, two) = (cache(server).await?, cache(server).await?);
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        one.try_set("key", round as u64).await?;
        let holding = async {
            while ready(two.near().get::<_, u64>("key").into_future()).is_none_or(|value| *value != round as u64) {
                two.get::<_, u64>("key").await;
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, holding).await.context("the value does not arrive")?;
        let watched = two.clone();
        let began = Instant::now();
        let watching = tokio::spawn(async move {
            while ready(watched.near().get::<_, u64>("key").into_future()).is_some() {
                tokio::task::yield_now().await;
            }
            began.elapsed()
        });
        one.invalidate().key("key").await?;
        times.push(timeout(PATIENCE, watching).await.context("the invalidation does not arrive")??);
    }
    times.sort_unstable();
    Ok(times)
}

async fn cache(server: &RedisServer) -> Result<Cache> {
    let strategy = Strategy::new("coherence", Duration::from_secs(3600)).remote_deadline(PATIENCE);
    let config = RedisConfig::builder().url(server.url()).command_deadline(PATIENCE).build()?;
    let builder = Cache::builder().backend(Arc::new(RedisBackend::new(config)?)).strategy(strategy);
    let cache = builder.remote_command_deadline(PATIENCE).build().await?;
    let trusting = async {
        while !cache.health().await.remote.is_some_and(|remote| remote.bus_trusted) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, trusting).await.context("the bus does not stand")?;
    Ok(cache)
}

/// Near hits of an entry with three tags beside one without.
async fn hits() -> Result<()> {
    let cache = Cache::in_memory();
    cache.set("plain", 1_u64).ttl(Duration::from_secs(3600)).await;
    cache.set("tagged", 1_u64).ttl(Duration::from_secs(3600)).tag("a").tag("b").tag("c").await;
    let round = |key: &str| {
        let began = Instant::now();
        for _ in 0..HITS {
            black_box(ready(cache.get::<_, u64>(black_box(key)).into_future()));
        }
        began.elapsed() / HITS
    };
    let (mut plain, mut tagged) = (Duration::MAX, Duration::MAX);
    for _ in 0..HIT_ROUNDS {
        plain = plain.min(round("plain"));
        tagged = tagged.min(round("tagged"));
    }
    let ratio = tagged.as_secs_f64() / plain.as_secs_f64();
    println!("near hit: {plain:?} without tags, {tagged:?} with three ({ratio:.2}x)");
    Ok(())
}

fn show(what: &str, times: &[Duration]) {
    println!("{what:<54} {:>10.1?} {:>10.1?}", at(times, 0.5), at(times, 0.99));
}

/// The time that this part of all took at most.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
fn at(times: &[Duration], part: f64) -> Duration {
    times[((times.len() - 1) as f64 * part) as usize]
}
