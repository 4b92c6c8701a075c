//! The project's own commands: `cargo xtask --help` lists them.
//!
//! They need nothing but cargo, and say what they install. Few dependencies, because this is what a newcomer builds
//! first.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands talk to the person who runs them")]

mod ci;
mod docs;
mod links;
mod prerequisites;
mod process;
mod test;
mod tidy;
mod workspace;

use std::{ffi::OsString, path, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    process::{Command, exit_code},
    workspace::{BENCHES, TESTS, Workspace},
};

/// Larder's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs the demo: a small trading service whose answers come from the cache
    ///
    /// What follows `--` goes to the demo: `cargo xtask demo -- --smoke` drives it with requests, with the cache off and
    /// on, and compares; `cargo xtask demo -- --help` lists the rest. Ends with the demo's exit code.
    Demo(DemoOptions),
    /// Runs the doc tests, then all other tests
    ///
    /// Looks for redis-server (`LARDER_REDIS_SERVER`, `REDIS_SERVER_BIN`, the PATH), redis-cli and cargo-nextest. What is
    /// missing is installed where that is possible (apt-get as root or with a sudo that asks nothing; cargo install), and
    /// otherwise named, with how to install it. What follows `--` goes to cargo-nextest.
    Test(test::Options),
    /// Runs all that has to hold before a change goes in, the tests last
    ///
    /// A step that fails says how to run it alone.
    Ci {
        /// Runs only this step; may be given more than once
        #[arg(long, value_name = "STEP", value_enum)]
        only: Vec<ci::Step>,
    },
    /// Measures Larder against its budgets and prints the table
    ///
    /// Writes target/larder-bench/summary.json and docs/performance.md.
    Bench(BenchOptions),
    /// Counts the loads of a stampede: many callers in several processes on one cold key
    ///
    /// `--release`, then `--callers`, `--processes`, `--seed`, `--load-ms`, `--json`; `cargo xtask stampede --help` builds the
    /// program and shows all of them. Starts a redis-server and the processes, with leases, without, and with the process
    /// that loads killed. Fails if there are more loads than there may be.
    #[command(disable_help_flag = true)]
    Stampede(ProgramOptions),
    /// Tortures the coherence of several processes: links, processes and the server fail while they read and invalidate
    ///
    /// `--release`, then `--seconds`, `--seed`, `--faults`, `--json`; `cargo xtask coherence --help` builds the program and
    /// shows all of them. Starts a redis-server and the processes. Fails if a read returns a value that it must not return
    /// any more.
    #[command(disable_help_flag = true)]
    Coherence(ProgramOptions),
    /// Lets Redis fail in all ways while callers ask, and shows what they notice of it
    ///
    /// `--release`, then `--seconds`, `--seed`, `--scenario`, `--json`, `--list`, `--write-docs`; `cargo xtask chaos --help` builds
    /// the program and shows all of them. Starts Redis servers of its own, draws the latency over time in target/chaos/, and
    /// fails if a caller saw an error or a wrong value, or an invalidation was lost.
    #[command(disable_help_flag = true)]
    Chaos(ProgramOptions),
    /// Checks the order of the crates and what each has to have; reports long files and functions
    Tidy,
    /// Builds the API documentation with warnings denied and checks the links of the Markdown pages
    Docs {
        /// Shows the documentation in the browser
        #[arg(long)]
        open: bool,
    },
}

#[derive(Debug, Args)]
struct DemoOptions {
    /// Builds with optimizations: takes longer to start, answers faster
    #[arg(long)]
    release: bool,

    /// Goes to the demo as it stands
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

#[derive(Debug, Args)]
struct BenchOptions {
    /// Takes less than two minutes once built, with more noise
    #[arg(long)]
    quick: bool,

    /// Compares with other caches too, which have to be built first
    #[arg(long)]
    rivals: bool,

    /// Runs the detailed benchmarks of criterion instead
    #[arg(long, conflicts_with = "quick")]
    criterion: bool,

    /// Goes to the benchmarks as it stands
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

#[derive(Debug, Args)]
struct ProgramOptions {
    /// Builds with optimizations; has to stand first
    #[arg(long)]
    release: bool,

    /// Goes to the program as it stands
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    // Without a backtrace, whatever the environment asks for: what went wrong is in what was run, not in this program.
    run(Cli::parse().task).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    match task {
        Task::Demo(options) => return demo(&workspace, &options),
        Task::Bench(options) => return bench(&workspace, &options),
        Task::Stampede(options) => return program(&workspace, "larder-tests-stampede", &options),
        Task::Coherence(options) => return program(&workspace, "larder-tests-coherence", &options),
        Task::Chaos(options) => return program(&workspace, "larder-tests-chaos", &options),
        Task::Test(options) => test::run(&workspace, &options)?,
        Task::Ci { only } => ci::run(&workspace, &only)?,
        Task::Tidy => tidy::run(&workspace)?,
        Task::Docs { open } => docs::run(&workspace, open)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn demo(workspace: &Workspace, options: &DemoOptions) -> Result<ExitCode> {
    workspace.require("larder-demo")?;
    let run = Command::cargo_here().args(["run", "--quiet", "-p", "larder-demo"]);
    let run = run.args(options.release.then_some("--release")).args(["--"]).args(&options.args);
    Ok(exit_code(run.status()?))
}

fn bench(workspace: &Workspace, options: &BenchOptions) -> Result<ExitCode> {
    workspace.require(BENCHES)?;
    Ok(exit_code(bench_command(workspace, options).status()?))
}

fn bench_command(workspace: &Workspace, options: &BenchOptions) -> Command {
    let cargo = Command::cargo(&workspace.root);
    let cargo = if options.criterion {
        cargo.args(["bench", "-p", BENCHES])
    } else {
        cargo.args(["run", "--release", "-p", BENCHES, "--bin", "larder-bench"])
    };
    let cargo = if options.rivals { cargo.args(["--features", "rivals"]) } else { cargo };
    cargo.args(["--"]).args(options.quick.then_some("--quick")).args(&options.args)
}

/// Runs a program of the tests' package, with a Redis server that it can start.
fn program(workspace: &Workspace, name: &str, options: &ProgramOptions) -> Result<ExitCode> {
    workspace.require(TESTS)?;
    let server = path::absolute(prerequisites::redis_server(true)?)?;
    let server = server.to_str().context("the path of redis-server is not UTF-8")?;
    let run = Command::cargo(&workspace.root).env("LARDER_REDIS_SERVER", server);
    let run = run.args(["run", "--quiet", "-p", TESTS, "--bin", name]);
    Ok(exit_code(run.args(options.release.then_some("--release")).args(["--"]).args(&options.args).status()?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_described() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
        }
    }

    #[test]
    fn what_follows_the_dashes_goes_to_the_demo() {
        let cli = Cli::try_parse_from(["xtask", "demo", "--release", "--", "--smoke", "--json"]).unwrap();
        let Task::Demo(options) = cli.task else { panic!("parsed as {cli:?}") };
        assert!(options.release);
        assert_eq!(options.args, ["--smoke", "--json"]);
    }

    #[test]
    fn a_stampedes_options_need_no_dashes_before_them() {
        let cli =
            Cli::try_parse_from(["xtask", "stampede", "--release", "--callers", "9", "--json", "--help"]).unwrap();
        let Task::Stampede(options) = cli.task else { panic!("parsed as {cli:?}") };
        assert!(options.release);
        assert_eq!(options.args, ["--callers", "9", "--json", "--help"]);
    }

    #[test]
    fn the_options_of_a_torture_need_no_dashes_before_them() {
        let cli = Cli::try_parse_from(["xtask", "coherence", "--seconds", "60", "--seed", "7", "--json"]).unwrap();
        let Task::Coherence(options) = cli.task else { panic!("parsed as {cli:?}") };
        assert_eq!(options.args, ["--seconds", "60", "--seed", "7", "--json"]);
    }

    #[test]
    fn chaos_takes_its_options_as_the_stampede_does() {
        let cli = Cli::try_parse_from(["xtask", "chaos", "--seconds", "600", "--scenario", "oom", "--list"]).unwrap();
        let Task::Chaos(options) = cli.task else { panic!("parsed as {cli:?}") };
        assert!(!options.release);
        assert_eq!(options.args, ["--seconds", "600", "--scenario", "oom", "--list"]);
    }

    #[test]
    fn criterion_has_no_quick_form() {
        assert!(Cli::try_parse_from(["xtask", "bench", "--criterion", "--quick"]).is_err());
    }

    /// The arguments that cargo gets for `cargo xtask bench` with `args`.
    fn bench_arguments(args: &[&str]) -> String {
        let cli = Cli::try_parse_from(["xtask", "bench"].iter().chain(args)).unwrap();
        let Task::Bench(options) = cli.task else { panic!("parsed as {cli:?}") };
        let workspace = Workspace { root: "/project".into(), packages: Vec::new() };
        let shown = bench_command(&workspace, &options).to_string();
        shown.split_once(' ').map(|(_, arguments)| arguments.to_owned()).unwrap()
    }

    #[test]
    fn the_table_is_made_by_the_program_with_optimizations() {
        assert_eq!(
            bench_arguments(&["--quick", "--rivals", "--", "--json"]),
            "run --release -p larder-benches --bin larder-bench --features rivals -- --quick --json"
        );
    }

    #[test]
    fn criterion_gets_what_follows_the_dashes() {
        assert_eq!(bench_arguments(&["--criterion", "--", "hit"]), "bench -p larder-benches -- hit");
    }

    #[test]
    fn what_follows_the_dashes_is_no_filter_of_the_tests() {
        let cli = Cli::try_parse_from(["xtask", "test", "near", "--", "--no-capture"]).unwrap();
        let Task::Test(options) = cli.task else { panic!("parsed as {cli:?}") };
        assert_eq!((options.filters, options.runner_args), (vec!["near".to_owned()], vec!["--no-capture".to_owned()]));
    }
}
