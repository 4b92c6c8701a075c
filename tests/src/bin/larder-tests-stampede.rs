//! Many callers in several processes on one cold key: what `cargo xtask stampede` runs.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report goes to standard output, progress beside it"
)]

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use larder_tests::stampede::{Job, Options, Report, Scenario, Stampede, work};

/// A stampede of callers in several processes on one cold key: how many loads become of it
///
/// Runs three scenarios on a Redis server of its own: processes wait for the one that loads (leases); they do not; they
/// do, and the one that loads is killed in the middle. Succeeds only if the bounds hold: one load with leases, at most one
/// a process without, exactly one more after the kill, and all callers answered.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask stampede", bin_name = "cargo xtask stampede [--release]")]
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
    if let Some(job) = cli.worker {
        let job: Job = serde_json::from_str(&job).context("the job is no JSON of the right form")?;
        tokio::runtime::Runtime::new()?.block_on(work(job, |line| println!("{line}")))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = cli.options;
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let stampede = Stampede::start(program, options.clone())?;
    let mut scenarios = Vec::new();
    for scenario in Scenario::ALL {
        eprintln!("{scenario}: {} callers in each of {} processes ...", options.callers, options.processes);
        scenarios.push(stampede.run(scenario)?);
    }
    let report = Report::new(options, scenarios);
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
