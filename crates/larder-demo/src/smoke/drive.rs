//! Clients that send a sequence of requests side by side.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use xxhash_rust::xxh3::xxh3_64;

use crate::workload::Request;

/// What a phase has seen.
#[derive(Debug, Default)]
pub(super) struct Driven {
    pub(super) latencies: Vec<Duration>,
    /// The hash of the body, by path.
    pub(super) bodies: HashMap<String, u64>,
    pub(super) took: Duration,
}

/// What is seen of a phase while it runs, and whether it may end.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) answered: AtomicUsize,
    /// Whatever is done to the servers meanwhile is over.
    pub(super) is_over: AtomicBool,
}

pub(super) struct Fetched {
    pub(super) body: String,
    pub(super) x_cache: String,
}

/// One GET.
pub(super) async fn fetch(client: &reqwest::Client, base: &str, path: &str) -> Result<Fetched, String> {
    let failed = |error: reqwest::Error| format!("GET {path}: {error}");
    let response = client.get(format!("{base}{path}")).send().await.map_err(failed)?;
    let status = response.status();
    let x_cache = response.headers().get("x-cache").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let body = response.text().await.map_err(failed)?;
    if !status.is_success() {
        return Err(format!("GET {path}: {status}: {body}"));
    }
    Ok(Fetched { body, x_cache })
}

/// Sends requests in their order for a while, and on until the watch says that it may end; every answer to a path must be
/// the same.
pub(super) async fn drive(
    base: &str,
    requests: &Arc<Vec<Request>>,
    length: Duration,
    clients: usize,
    bar: &ProgressBar,
    watch: &Arc<Watch>,
) -> Result<Driven, Box<dyn std::error::Error>> {
    let started = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let client = reqwest::Client::new();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (next, requests, client, base) =
                (Arc::clone(&next), Arc::clone(requests), client.clone(), base.to_owned());
            let (bar, watch) = (bar.clone(), Arc::clone(watch));
            tokio::spawn(async move {
                let mut driven = Driven::default();
                while started.elapsed() < length || !watch.is_over.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(request) = requests.get(index) else { break };
                    let path = request.path();
                    let begun = Instant::now();
                    let answer = fetch(&client, &base, &path).await?;
                    driven.latencies.push(begun.elapsed());
                    watch.answered.fetch_add(1, Ordering::Relaxed);
                    let hash = xxh3_64(answer.body.as_bytes());
                    if driven.bodies.insert(path.clone(), hash).is_some_and(|earlier| earlier != hash) {
                        return Err(format!("GET {path} was answered in two ways within one phase"));
                    }
                    if index.is_multiple_of(16) {
                        let share = started.elapsed().as_secs_f64() / length.as_secs_f64().max(f64::EPSILON);
                        bar.set_position(per_mille(share));
                        bar.set_message(format!("{index} requests"));
                    }
                }
                Ok::<_, String>(driven)
            })
        })
        .collect();
    let mut all = Driven::default();
    for task in tasks {
        let driven = task.await??;
        all.latencies.extend(driven.latencies);
        for (path, hash) in driven.bodies {
            if all.bodies.insert(path.clone(), hash).is_some_and(|earlier| earlier != hash) {
                return Err(format!("GET {path} was answered in two ways within one phase").into());
            }
        }
    }
    all.took = started.elapsed();
    all.latencies.sort_unstable();
    Ok(all)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 1000")]
fn per_mille(share: f64) -> u64 {
    (share * 1000.0).clamp(0.0, 1000.0) as u64
}
