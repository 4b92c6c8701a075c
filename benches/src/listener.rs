//! The process that hears: of an invalidation, by losing an entry of its near tier, and of a bare PUBLISH.
//!
//! Nobody looks whether the entry is still there, which would take a core from those that carry the message: the value itself
//! notes when it is dropped, and the near tier is its only owner. Both moments are noted by tasks of one runtime.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use larder::{Cache, LoadError};
use serde::{Deserialize, Serialize};
use tokio::{task::yield_now, time::timeout};

use crate::{
    backend::PATIENCE,
    process::{cache, obey, runtime},
};

pub(crate) const KEY: &str = "watched";
pub(crate) const CHANNEL: &str = "bare";

/// Whom the next value that is dropped tells when that was.
static WATCHING: Mutex<Option<Sender<SystemTime>>> = Mutex::new(None);

fn watching() -> MutexGuard<'static, Option<Sender<SystemTime>>> {
    WATCHING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Serialize, Deserialize)]
struct Watched(u64);

impl Drop for Watched {
    fn drop(&mut self) {
        let now = SystemTime::now();
        // Where it took too long nobody waits any more.
        let _untold = watching().take().map(|watcher| watcher.send(now));
    }
}

/// Answers `hold` once the near tier holds the entry, `gone` with when it no longer did, and `heard` with when the bare message
/// arrived; in nanoseconds of the wall clock, which all processes share.
pub(crate) fn listen(url: &str) -> Result<()> {
    let runtime = runtime()?;
    let cache = runtime.block_on(cache(url))?;
    let (hears, heard) = channel();
    runtime.block_on(subscribe(url, hears))?;
    let mut gone = None;
    obey(|order| match order {
        "hold" => {
            gone = Some(runtime.block_on(hold(&cache))?);
            Ok("held".to_owned())
        }
        "gone" => {
            let time = nanos(&gone.take().context("nothing is held")?)?;
            let left = runtime.block_on(cache.near().get::<_, Watched>(KEY).into_future());
            ensure!(left.is_none(), "a value was dropped that is still there");
            Ok(time)
        }
        "heard" => nanos(&heard),
        // As much as keeps the connections and the cores as awake as holding does.
        "wake" => {
            runtime.block_on(cache.get::<_, u64>("absent").into_future());
            Ok("awake".to_owned())
        }
        other => anyhow::bail!("an unknown order: {other}"),
    })
}

fn nanos(moments: &Receiver<SystemTime>) -> Result<String> {
    let moment = moments.recv_timeout(PATIENCE).context("nothing arrived")?;
    Ok(moment.duration_since(UNIX_EPOCH)?.as_nanos().to_string())
}

async fn subscribe(url: &str, hears: Sender<SystemTime>) -> Result<()> {
    let (mut sink, mut messages) = redis::Client::open(url)?.get_async_pubsub().await?.split();
    sink.subscribe(CHANNEL).await?;
    tokio::spawn(async move {
        // The subscription ends with its sink.
        let _sink = sink;
        while messages.next().await.is_some() && hears.send(SystemTime::now()).is_ok() {}
    });
    Ok(())
}

/// A first fill: no message goes around that could still be under way when the invalidation comes.
async fn hold(cache: &Cache) -> Result<Receiver<SystemTime>> {
    let held = async {
        loop {
            let load = || async { Ok::<_, std::convert::Infallible>(Watched(1)) };
            cache.get_or_load(KEY, load).await.map_err(|error: LoadError<_>| anyhow::anyhow!("{error}"))?;
            let near = cache.near().get::<_, Watched>(KEY).await;
            // The near tier's and this one: whoever carried the value there has let go of it.
            if near.is_some_and(|value| Arc::strong_count(&value) == 2) {
                return Ok::<_, anyhow::Error>(());
            }
            yield_now().await;
        }
    };
    timeout(PATIENCE, held).await.context("the value does not get into the near tier")??;
    let (watcher, gone) = channel();
    *watching() = Some(watcher);
    Ok(gone)
}
