//! What many callers with large values cost in memory: the peak of a process of its own.

use std::{fs, sync::Arc};

use anyhow::{Context, Result, ensure};
use larder_core::{BackendExt, Key};
use larder_redis::{RedisBackend, RedisConfig};
use redis::AsyncCommands;
use tokio::sync::Barrier;

use crate::{
    backend::PATIENCE,
    process::Role,
    row::{Budget, Row},
};

const CALLERS: usize = 256;
const VALUE_BYTES: usize = 64 << 10;

/// How often all callers ask, so that what is kept between calls is counted too.
const ROUNDS: usize = 5;

const KEY: &str = "memory:value";

/// Who asks, in the process that is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker {
    Larder,
    Raw,
}

/// The growth of a process in which so many callers hold a value each, for both askers.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
pub(crate) fn row(url: &str) -> Result<Row> {
    eprintln!("memory of {CALLERS} callers with 64 KiB each");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        connection.set::<_, _, ()>(KEY, "v".repeat(VALUE_BYTES)).await
    })?;
    let grown = |role: Role| -> Result<u64> {
        let output = role.command(url)?.output()?;
        ensure!(output.status.success(), "the measured process failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    let (larder, raw) = (grown(Role::Values)?, grown(Role::RawValues)?);
    let payload = (CALLERS * VALUE_BYTES) as f64;
    let name = format!(
        "memory of {CALLERS} callers x 64 KiB (raw connection: {:.2} x payload), beside the payload",
        raw as f64 / payload
    );
    Ok(Row::figures(name, "bytes", larder as f64, (payload, "the payload"), Budget::RatioAtMost(3.0)))
}

/// In the process that is measured: prints by how many bytes its peak exceeds what it had before the calls.
pub(crate) fn measure(asker: Asker, url: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let config = RedisConfig::builder().url(url).command_deadline(PATIENCE).connect_deadline(PATIENCE);
        let backend = Arc::new(RedisBackend::connect(config.build()?).await?);
        let raw = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let before = kibibytes("VmRSS")?;
        let together = Arc::new(Barrier::new(CALLERS));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (backend, mut raw, together) = (Arc::clone(&backend), raw.clone(), Arc::clone(&together));
                tokio::spawn(async move {
                    for _ in 0..ROUNDS {
                        let bytes: bytes::Bytes = match asker {
                            Asker::Larder => backend.get(&Key::new(KEY)).await?.context("the value is gone")?,
                            Asker::Raw => raw.get(KEY).await?,
                        };
                        // All values are held at the same time.
                        together.wait().await;
                        ensure!(bytes.len() == VALUE_BYTES, "a value of {} bytes", bytes.len());
                        drop(bytes);
                        together.wait().await;
                    }
                    Ok(())
                })
            })
            .collect();
        for caller in callers {
            caller.await??;
        }
        println!("{}", (kibibytes("VmHWM")?.saturating_sub(before)) << 10);
        Ok(())
    })
}

/// A figure of the kernel about this process.
pub(crate) fn kibibytes(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("memory is only measured on Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("the kernel does not tell {name}"))?.parse()?)
}
