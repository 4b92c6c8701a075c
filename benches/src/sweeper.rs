//! The processes that remove what matches a pattern, and the one that they are compared with.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use larder::Status;
use larder_core::SCAN_PAGE;
use redis::AsyncCommands;

use crate::{
    memory::kibibytes,
    process::{cache, obey, raw, runtime},
};

/// What is swept, below the namespace and with it.
const PATTERN: &str = "swept:*";
pub(crate) const PREFIX: &str = "bench:swept:";

/// What is asked for besides.
pub(crate) const PROBE: &str = "probe";

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    pub(crate) removed: u64,
    pub(crate) time: Duration,
    /// By how much the process's peak exceeded what it had before.
    pub(crate) grown_kib: u64,
}

impl Sweep {
    /// Reads what a sweeper has answered.
    pub(crate) fn parse(answer: &str) -> Result<Self> {
        let numbers: Vec<u64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [removed, micros, grown_kib] = numbers[..] else { anyhow::bail!("not a sweep: {answer}") };
        Ok(Self { removed, time: Duration::from_micros(micros), grown_kib })
    }
}

fn measured(sweep: impl FnOnce() -> Result<u64>) -> Result<String> {
    let before = kibibytes("VmRSS")?;
    let began = Instant::now();
    let removed = sweep()?;
    let micros = began.elapsed().as_micros();
    Ok(format!("{removed} {micros} {}", kibibytes("VmHWM")?.saturating_sub(before)))
}

pub(crate) fn by_larder(url: &str) -> Result<()> {
    let runtime = runtime()?;
    let cache = runtime.block_on(cache(url))?;
    obey(|_| {
        measured(|| {
            let invalidated = runtime.block_on(async { cache.invalidate().pattern(PATTERN).await })?;
            ensure!(invalidated.status == Status::Done, "the run was put off");
            Ok(invalidated.remote)
        })
    })
}

/// SCAN and UNLINK, with pages of the same size.
pub(crate) fn by_hand(url: &str) -> Result<()> {
    let runtime = runtime()?;
    let mut raw = runtime.block_on(raw(url))?;
    obey(|_| {
        measured(|| {
            runtime.block_on(async {
                let (mut removed, mut cursor) = (0, 0_u64);
                loop {
                    let mut scan = redis::cmd("SCAN");
                    scan.arg(cursor).arg("MATCH").arg(format!("{PREFIX}*")).arg("COUNT").arg(SCAN_PAGE);
                    let keys: Vec<String>;
                    (cursor, keys) = scan.query_async(&mut raw).await?;
                    if !keys.is_empty() {
                        removed += raw.unlink::<_, u64>(keys).await?;
                    }
                    if cursor == 0 {
                        return Ok(removed);
                    }
                }
            })
        })
    })
}

/// Asks for one small value after another, for so many milliseconds.
pub(crate) fn ask(url: &str) -> Result<()> {
    let runtime = runtime()?;
    let mut raw = runtime.block_on(raw(url))?;
    obey(|millis| {
        let until = Instant::now() + Duration::from_millis(millis.parse()?);
        runtime.block_on(async {
            let mut asked = 0_u64;
            while Instant::now() < until {
                raw.get::<_, Option<String>>(PROBE).await?.context("what is asked for is gone")?;
                asked += 1;
            }
            Ok(asked.to_string())
        })
    })
}
