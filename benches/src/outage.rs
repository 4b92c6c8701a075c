//! What the fallback costs: while nothing is wrong, and while Redis is away.

use std::{
    convert::Infallible,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use larder::{Cache, Source};
use larder_core::{
    Backend, BackendExt, Each, Expiry, Found, GetOptions, Key, Remaining, SetItem, SetOutcome, SystemClock, Timer,
};
use larder_fallback::FallbackBackend;
use larder_testing::RedisServer;
use tokio::runtime::Runtime;

use crate::{
    contest::{Contestant, compete},
    effort::Effort,
    row::{Budget, Row},
};

/// Calls a round.
const CALLS: u32 = 20_000;

/// Reads a round of keys that have to be loaded.
const READS: u32 = 20;

/// How long such a load takes.
const LOAD: Duration = Duration::from_millis(5);

/// How long a call may take.
const DEADLINE: Duration = Duration::from_millis(50);

/// What the breaker may add to a call, in nanoseconds.
const BREAKER: Budget = Budget::FigureAtMost(100.0);

const BESIDE_THE_LOADER: Budget = Budget::RatioAtMost(1.1);

/// Answers when it is asked a second time, as one whose answer has to come over a network.
#[derive(Debug)]
struct Distant;

#[async_trait]
impl Backend for Distant {
    fn name(&self) -> &str {
        "distant"
    }

    async fn get_many(&self, keys: &[Key], _options: GetOptions) -> Each<Option<Found>> {
        tokio::task::yield_now().await;
        keys.iter().map(|_| Ok(None)).collect()
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        items.iter().map(|_| Ok(SetOutcome::Stored)).collect()
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        keys.iter().map(|_| Ok(false)).collect()
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        keys.iter().map(|_| Ok(None)).collect()
    }

    async fn expire_many(&self, keys: &[Key], _expiry: Expiry) -> Each<bool> {
        keys.iter().map(|_| Ok(false)).collect()
    }

    async fn ping(&self) -> larder_core::Result<()> {
        Ok(())
    }
}

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    eprintln!("fallback");
    let mut rows = closed(&runtime, effort)?;
    rows.push(open(&runtime, effort)?);
    Ok(rows)
}

fn closed(runtime: &Runtime, effort: Effort) -> Result<Vec<Row>> {
    let distant: Arc<dyn Backend> = Arc::new(Distant);
    let fallback = FallbackBackend::builder(Arc::clone(&distant), Arc::new(Distant)).deadline(DEADLINE).build()?;
    let (clock, key) = (SystemClock::new(), Key::new("k"));
    let contestants = vec![
        Contestant::new("the backend alone", || {
            each(runtime, async || {
                black_box(distant.get(&key).await?);
                Ok(())
            })
        }),
        Contestant::new("the backend with a deadline", || {
            each(runtime, async || {
                tokio::select! {
                    biased;
                    found = distant.get(&key) => black_box(found?),
                    () = clock.sleep(DEADLINE) => None,
                };
                Ok(())
            })
        }),
        Contestant::new("larder-fallback", || {
            each(runtime, async || {
                black_box(fallback.get(&key).await?);
                Ok(())
            })
        }),
    ];
    let series = compete(effort.rounds, contestants)?;
    let [alone, bounded, fallback] = series.as_slice() else { unreachable!("three were sent") };
    let name = "fallback, breaker closed, added to a call";
    let [alone, bounded, fallback] = [alone, bounded, fallback].map(|series| (series.median(), series.name.as_str()));
    Ok(vec![
        Row::figures(format!("{name} that has a deadline"), "ns", fallback.0 - bounded.0, bounded, BREAKER),
        Row::figures(format!("{name}, the deadline included"), "ns", fallback.0 - alone.0, alone, Budget::None),
    ])
}

/// Nanoseconds of one of [`CALLS`].
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 nanoseconds")]
fn each(runtime: &Runtime, call: impl AsyncFn() -> Result<()>) -> Result<f64> {
    runtime.block_on(async {
        let began = Instant::now();
        for _ in 0..CALLS {
            call().await?;
        }
        Ok(began.elapsed().as_nanos() as f64 / f64::from(CALLS))
    })
}

async fn load(number: u32) -> u32 {
    tokio::time::sleep(LOAD).await;
    number
}

fn open(runtime: &Runtime, effort: Effort) -> Result<Row> {
    let mut server = RedisServer::builder().option("save", "").try_start()?;
    let cache = runtime.block_on(Cache::builder().redis(server.url()).build())?;
    server.kill();
    runtime.block_on(async {
        for number in 0..10 {
            cache.get::<_, u32>(number).await;
        }
    });
    let asked = std::cell::Cell::new(0_u32);
    let contestants = vec![
        Contestant::new("the loader alone", || {
            runtime.block_on(async {
                let began = Instant::now();
                for number in 0..READS {
                    black_box(load(number).await);
                }
                Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(READS))
            })
        }),
        Contestant::new("Cache::get_or_load", || {
            runtime.block_on(async {
                let began = Instant::now();
                for _ in 0..READS {
                    let number = asked.replace(asked.get() + 1);
                    let loader = move || async move { Ok::<_, Infallible>(load(number).await) };
                    let outcome = cache.get_or_load(("absent", number), loader).outcome().await?;
                    ensure!(outcome.source == Source::Loaded, "a key was there that nobody had loaded");
                }
                Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(READS))
            })
        }),
    ];
    let series = compete(effort.remote_rounds, contestants)?;
    let [loader, cache] = series.as_slice() else { unreachable!("two were sent") };
    Ok(Row::compare("fallback, breaker open, read of an absent key", "us", cache, loader, BESIDE_THE_LOADER))
}
