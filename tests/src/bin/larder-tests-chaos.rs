//! Caches under load while their Redis fails: what `cargo xtask chaos` runs.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report goes to standard output, progress beside it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use larder_tests::chaos::{Latencies, Progress, Report, Scenario, ScenarioReport, Settings, draw, refresh, run};

/// The page with the figures, and the folder of the pictures.
const PAGE: &str = "docs/reliability.md";
const PICTURES: &str = "target/chaos";

/// Caches under load while their Redis fails: errors, wrong values, lost invalidations, and how long things took
///
/// Runs each scenario on a Redis server of its own, one after the other. Succeeds only if no caller saw an error or a wrong
/// value and no invalidation was lost. The latency over time is drawn in target/chaos/.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos [--release]")]
struct Cli {
    /// How long callers ask, in all scenarios together
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=36_000))]
    seconds: u64,

    /// Decides what callers ask for and when, and what is changed
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How long a read waits for Redis, in milliseconds; 50 is the cache's own default
    ///
    /// On a machine that is busy with other things answers come too late at any time, and faults are not seen. Then give more.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(5..=5000))]
    remote_deadline_ms: u64,

    /// Runs only this scenario, for all of the time; may be given more than once
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    scenario: Vec<Scenario>,

    /// Prints the report in JSON
    #[arg(long)]
    json: bool,

    /// Says which scenarios there are
    #[arg(long)]
    list: bool,

    /// Writes the figures into docs/reliability.md
    #[arg(long, conflicts_with = "scenario")]
    write_docs: bool,

    /// The workspace to write into
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    workspace: PathBuf,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if cli.list {
        for scenario in Scenario::all() {
            println!("{:26} {}", scenario.name(), scenario.what());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let report = tokio::runtime::Runtime::new()?.block_on(run_all(&cli))?;
    if cli.write_docs {
        let path = cli.workspace.join(PAGE);
        let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, refresh(&page, &report)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_all(cli: &Cli) -> Result<Report> {
    let scenarios = if cli.scenario.is_empty() { Scenario::all() } else { &cli.scenario };
    let length = Duration::from_secs(cli.seconds) / u32::try_from(scenarios.len())?;
    let settings = Settings::long(cli.seed, length, Duration::from_millis(cli.remote_deadline_ms));
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {prefix} {msg}")?);
    let mut reports = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        bar.set_prefix(format!("[{}/{}] {scenario:26}", number + 1, scenarios.len()));
        let show = |progress: Progress| {
            let Progress { part, elapsed, calls, errors, wrong, breaker } = progress;
            let seconds = elapsed.as_secs_f64();
            bar.set_message(format!(
                "{part:9} {seconds:5.1} s  {calls:8} calls  {errors} errors  {wrong} wrong  breaker {breaker}"
            ));
            bar.tick();
        };
        let (report, latencies) = run(*scenario, &settings, &show).await.with_context(|| scenario.to_string())?;
        picture(&cli.workspace, &report, &latencies)?;
        if bar.is_hidden() {
            let holds = if report.problems.is_empty() { "holds" } else { "DOES NOT HOLD" };
            eprintln!("{scenario}: {} calls, {holds}", report.calls);
        }
        reports.push(report);
    }
    bar.finish_and_clear();
    Ok(Report::new(cli.seed, cli.seconds, reports))
}

fn picture(workspace: &Path, report: &ScenarioReport, latencies: &Latencies) -> Result<()> {
    let folder = workspace.join(PICTURES);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{}.svg", report.scenario));
    fs::write(&path, draw(report, latencies)).with_context(|| format!("cannot write {}", path.display()))
}
