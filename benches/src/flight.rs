//! What a flight costs: by itself, and with ten thousand callers on one cold key.

use std::{
    any::TypeId,
    convert::Infallible,
    future::Future,
    hint::black_box,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use larder::Cache;
use larder_core::Key;
use larder_flight::{FlightId, Flights, Join};
use tokio::runtime::Runtime;

use crate::{
    contest::{Contestant, compete},
    effort::Effort,
    row::{Budget, Row},
};

type Value = Arc<u64>;

/// Flights a round, one after another.
const ALONE: u32 = 20_000;

/// Callers of one cold key.
const CALLERS: usize = 10_000;

/// How long its load takes.
const LOAD: Duration = Duration::from_millis(20);

/// What a flight without company may cost, its load included, in nanoseconds.
const OVER_THE_LOADER: Budget = Budget::FigureAtMost(2_000.0);

const BESIDE_QUICK_CACHE: Budget = Budget::RatioAtMost(1.1);

const ID: FlightId = FlightId { value: TypeId::of::<u64>(), error: TypeId::of::<Infallible>(), options: 0 };

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    eprintln!("flights");
    let mut rows = alone(&runtime, effort)?;
    rows.extend(crowd(&runtime, effort)?);
    Ok(rows)
}

/// A load that is ready at once: what is measured is the way around it.
async fn quick_load(number: u64) -> Value {
    Arc::new(black_box(number))
}

async fn slow_load(number: u64) -> Value {
    tokio::time::sleep(LOAD).await;
    quick_load(number).await
}

fn alone(runtime: &Runtime, effort: Effort) -> Result<Vec<Row>> {
    let value = quick_load;
    let keys: Vec<Key> = (0..1000_u32).map(|number| Key::new(&number)).collect();
    let flights = Flights::<Value>::new();
    let contestants = vec![
        Contestant::new("the loader alone", || {
            Ok(each(|| {
                runtime.block_on(async {
                    for number in 0..ALONE {
                        black_box(value(u64::from(number)).await);
                    }
                });
            }))
        }),
        Contestant::new("larder-flight", || {
            Ok(each(|| {
                runtime.block_on(async {
                    for (number, key) in (0..ALONE).zip(keys.iter().cycle()) {
                        black_box(flown(&flights, key, || value(u64::from(number))).await);
                    }
                });
            }))
        }),
    ];
    let series = compete(effort.rounds, contestants)?;
    let [loader, flight] = series.as_slice() else { unreachable!("two were sent") };
    Ok(vec![Row::compare("flight, join, commit and finish alone", "ns/load", flight, loader, OVER_THE_LOADER)])
}

/// Nanoseconds of one of [`ALONE`].
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 nanoseconds")]
fn each(all: impl FnOnce()) -> f64 {
    let began = Instant::now();
    all();
    began.elapsed().as_nanos() as f64 / f64::from(ALONE)
}

async fn flown<F: Future<Output = Value>>(flights: &Flights<Value>, key: &Key, load: impl FnOnce() -> F) -> Value {
    loop {
        match flights.join(key, ID) {
            Join::Lead(mut leader) => {
                let value = load().await;
                leader.ticket().commit(|| ());
                drop(leader.finish(Arc::clone(&value)));
                return value;
            }
            Join::Follow(follower) => {
                if let Some(value) = follower.wait().await {
                    return value;
                }
            }
        }
    }
}

fn crowd(runtime: &Runtime, effort: Effort) -> Result<Vec<Row>> {
    let quick = Contestant::new("quick_cache", || {
        let cache = Arc::new(quick_cache::sync::Cache::<String, Value>::new(100));
        crowded(runtime, move || {
            let cache = Arc::clone(&cache);
            async move {
                let load = async { Ok::<_, Infallible>(slow_load(7).await) };
                cache.get_or_insert_async("hot", load).await.unwrap_or_else(|never| match never {})
            }
        })
    });
    let flight = Contestant::new("larder-flight", || {
        let (flights, key) = (Flights::<Value>::new(), Key::new("hot"));
        let stored = Arc::new(OnceLock::<Value>::new());
        crowded(runtime, move || {
            let (flights, key, stored) = (flights.clone(), key.clone(), Arc::clone(&stored));
            // Who comes after the flight finds what it stored, as in a cache.
            async move {
                match stored.get() {
                    Some(value) => Arc::clone(value),
                    None => flown(&flights, &key, || load_into(&stored)).await,
                }
            }
        })
    });
    let facade = Contestant::new("Cache::get_or_load", || {
        let cache = Cache::in_memory();
        crowded(runtime, move || {
            let cache = cache.clone();
            async move {
                let load = || async { Ok::<_, Infallible>(*slow_load(7).await) };
                cache.get_or_load("hot", load).await.unwrap_or_default()
            }
        })
    });
    let moka = Contestant::new("moka", || {
        let cache = moka::future::Cache::<Arc<str>, Value>::new(100);
        crowded(runtime, move || {
            let cache = cache.clone();
            async move { cache.get_with(Arc::from("hot"), slow_load(7)).await }
        })
    });
    let series = compete(effort.rounds, vec![quick, moka, flight, facade])?;
    let [quick, moka, flight, facade] = series.as_slice() else { unreachable!("four were sent") };
    let mut rows = Vec::new();
    for ours in [flight, facade] {
        let name = format!("flight, {CALLERS} callers on one cold key, {}", ours.name);
        rows.push(Row::compare(format!("{name}, beside quick_cache"), "ms", ours, quick, BESIDE_QUICK_CACHE));
        rows.push(Row::compare(format!("{name}, beside moka"), "ms", ours, moka, Budget::None));
    }
    Ok(rows)
}

async fn load_into(stored: &OnceLock<Value>) -> Value {
    let value = match stored.get() {
        // Stored between this caller's look and its lead.
        Some(value) => Arc::clone(value),
        None => slow_load(7).await,
    };
    Arc::clone(stored.get_or_init(|| value))
}

/// Milliseconds from the first of [`CALLERS`] tasks to the last one's answer.
fn crowded<F>(runtime: &Runtime, call: impl Fn() -> F + Send + 'static) -> Result<f64>
where
    F: Future<Output = Value> + Send + 'static,
{
    runtime.block_on(async {
        // On a worker, where its callers run.
        let spawned = tokio::spawn(async move {
            let began = Instant::now();
            let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(call())).collect();
            for caller in callers {
                ensure!(*caller.await? == 7, "a caller got something else than was loaded");
            }
            Ok(began.elapsed().as_secs_f64() * 1e3)
        });
        spawned.await?
    })
}
