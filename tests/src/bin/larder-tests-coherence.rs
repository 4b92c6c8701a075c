//! Coherence under torture: what `cargo xtask coherence` runs.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report goes to standard output, progress beside it"
)]

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;
use larder_tests::coherence::{Driver, Job, Options, Progress, work};

/// Processes that read and invalidate the same keys while links, processes and the server fail
///
/// Starts a redis-server and the processes. One of them changes values in a file that all loaders read, and invalidates them;
/// all of them read. Meanwhile links are cut, late or half open, processes and the server are stopped or killed, all at random
/// from the seed. Succeeds only if no read returned a value that it must not return any more, and if in the end nobody, Redis
/// included, holds an old one.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask coherence", bin_name = "cargo xtask coherence [--release]")]
struct Cli {
    #[command(flatten)]
    options: Options,

    /// Prints the report in JSON
    #[arg(long)]
    json: bool,

    /// Is one of the processes, and does what this says in JSON
    #[arg(long, hide = true)]
    worker: Option<String>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(job) = cli.worker {
        let job: Job = serde_json::from_str(&job).context("the job is no JSON of the right form")?;
        runtime.block_on(work(job, |line| println!("{line}")))?;
        return Ok(ExitCode::SUCCESS);
    }
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let (seed, seconds) = (cli.options.seed, cli.options.seconds);
    eprintln!("seed {seed}: {seconds} s of faults, then some seconds until all is settled ...");
    let report = runtime.block_on(async {
        let driver = Driver::start(program, cli.options).await?;
        driver.run(show).await
    })?;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line that overwrites itself, where somebody can see it.
fn show(progress: Progress) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let Progress { reads, deeds, faults, violations, elapsed } = progress;
        let elapsed = elapsed.as_secs();
        // Who cannot be shown the progress gets the report all the same.
        drop(write!(
            stderr,
            "\r\x1b[K{elapsed} s: {reads} reads, {deeds} writes and invalidations, {faults} faults, {violations} violations"
        ));
    }
}
