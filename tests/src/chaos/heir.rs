//! What a process that was killed in an outage, with a journal that did not fit on its disk, leaves to its successor.
//!
//! The process of the run lives on and replays its journal from memory. Of one that was killed the file alone is left: that of
//! the run, as it was before the server came back. When the run is over, Redis is given the old values back that the killed
//! process was to remove, and a successor with that file is asked for everything.

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use larder_testing::FaultProxy;
use serde::Serialize;

use super::{
    audit,
    disk::File,
    load::ask_of,
    log,
    servers::Servers,
    truth::ITEMS,
    world::{Process, World},
};

/// Reads at once.
const AT_ONCE: usize = 16;

/// What was seen of a full disk under the journal's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FullDisk {
    /// Writes to the file that failed, as the cache has counted them.
    pub write_errors: u64,
    /// Whether its health said so.
    pub in_health: bool,
    /// Lines in the log that said so.
    pub log_lines: u64,
    /// How often a successor that found the file removed the generation.
    pub generations_removed: u64,
}

impl FullDisk {
    /// Whether everybody who must know of it was told.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.write_errors > 0 && self.in_health && self.log_lines > 0 && self.generations_removed == 1
    }
}

/// Starts a successor on what was left, and asks it for every item; what it is told is judged like any answer.
pub(super) async fn inherit(world: &World, servers: &Servers, left: &File) -> Result<FullDisk> {
    let before = &world.processes[0];
    let write_errors = before.cache.fallback().context("there is a remote tier")?.stats().file_errors;
    let (in_health, log_lines) = (before.watched.journal_file_failed(), log::lines());
    audit::put_old_values(servers, &world.truth).await?;

    let proxy = FaultProxy::start(servers.main.address()).await?;
    let url = servers.url(world.scenario, &proxy);
    let heir = Process::start(url, proxy, &world.settings, (world.scenario, Some(left))).await?;
    let asked = (0..ITEMS).map(|item| ask_of(world, &heir, (0, item)));
    stream::iter(asked).buffer_unordered(AT_ONCE).for_each(|_| std::future::ready(())).await;
    let generations_removed = heir.cache.fallback().context("there is a remote tier")?.stats().generations_removed;
    heir.cache.shutdown().await;
    Ok(FullDisk { write_errors, in_health, log_lines, generations_removed })
}
