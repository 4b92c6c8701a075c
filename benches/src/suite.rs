//! What is measured, and in which order.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::{
    backend, codecs, coherence, effort::Effort, flight, invalidation, near, outage, process::Role, remote, report,
    row::Row,
};

/// Measures Larder against its budgets, as ratios within one run.
///
/// Prints a table and writes target/larder-bench/summary.json and docs/performance.md.
#[derive(Debug, Parser)]
#[command(name = "larder-bench")]
pub struct Options {
    /// Takes less than two minutes, with more noise
    #[arg(long)]
    quick: bool,

    /// Measures only this part, and writes no files
    #[arg(long, value_name = "NAME", value_enum)]
    only: Option<Part>,

    /// The workspace to write into
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    workspace: PathBuf,

    /// Takes part in a measurement; for the program's own use
    #[arg(long, hide = true, value_enum, requires = "redis")]
    role: Option<Role>,

    /// The server that it asks
    #[arg(long, hide = true, value_name = "URL")]
    redis: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Hits in the near tier and their allocations
    Near,
    /// Flights, alone and with many callers
    Flight,
    /// The fallback, while nothing is wrong and while Redis is away
    Fallback,
    /// The Redis backend by itself, beside the client library and pools of it
    Backend,
    /// Reads from Redis
    Remote,
    /// Reads of many keys from Redis at once
    Batches,
    /// Invalidations by tag and by pattern where there are many keys
    Invalidation,
    /// Invalidations on their way to other processes, and hits with tags
    Coherence,
    /// Encoding and decoding of entries, and their sizes
    Codecs,
}

/// Measures.
///
/// # Errors
/// If a server cannot be started, a read misses, or a file cannot be written.
pub fn run(options: &Options) -> Result<()> {
    if let (Some(role), Some(url)) = (options.role, &options.redis) {
        return role.play(url);
    }
    let effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut rows: Vec<Row> = Vec::new();
    if wanted(Part::Near) {
        rows.extend(near::run(effort)?);
    }
    if wanted(Part::Flight) {
        rows.extend(flight::run(effort)?);
    }
    if wanted(Part::Fallback) {
        rows.extend(outage::run(effort)?);
    }
    if wanted(Part::Backend) {
        rows.extend(backend::run(effort)?);
    }
    if wanted(Part::Remote) {
        rows.extend(remote::run(effort)?);
    }
    if wanted(Part::Batches) {
        rows.extend(remote::run_batches(effort)?);
    }
    if wanted(Part::Invalidation) {
        rows.extend(invalidation::run(effort)?);
    }
    if wanted(Part::Coherence) {
        rows.extend(coherence::run(effort)?);
    }
    if wanted(Part::Codecs) {
        rows.extend(codecs::run(effort)?);
    }
    println!("{}", report::table(&rows));
    if options.only.is_none() {
        report::write(&options.workspace, &rows, options.quick)?;
    }
    Ok(())
}
