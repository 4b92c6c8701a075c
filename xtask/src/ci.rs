//! `cargo xtask ci`: everything that has to hold before a change goes in.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{docs, process::Command, test, tidy, workspace::Workspace};

/// A step, in the order in which they run: what is quick and often wrong first, the tests last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// The formatting of all crates
    Fmt,
    /// The order of the crates, and what each has to have
    Tidy,
    /// Clippy on everything, warnings denied
    Clippy,
    /// API documentation, warnings denied, and the links of the Markdown pages
    Docs,
    /// larder-core by itself
    Core,
    /// larder-memory by itself
    Memory,
    /// larder-strategy by itself
    Strategy,
    /// larder without its features
    Facade,
    /// The examples of larder-memory, which need larder-core and larder-memory only
    Examples,
    /// larder-core has no runtime, no Redis client and no cache among its dependencies
    CoreTree,
    /// Licences, advisories and sources of the dependencies, where cargo-deny is installed
    Deny,
    /// All tests
    Test,
}

/// How a step went that did not fail.
enum Done {
    Passed,
    Skipped(String),
}

/// What larder-core promises not to need.
const NOT_IN_CORE: [&str; 3] = ["tokio", "redis", "moka"];

/// Runs the steps, or those that are named, and stops at the first that fails.
///
/// # Errors
/// The failure of a step, with how to run that step alone.
pub(crate) fn run(workspace: &Workspace, only: &[Step]) -> Result<()> {
    let start = Instant::now();
    for step in Step::value_variants().iter().copied().filter(|step| only.is_empty() || only.contains(step)) {
        println!("\n=== {step}: {} (at {})", step.help(), seconds(start.elapsed()));
        let begun = Instant::now();
        let alone = || format!("step `{step}` failed; `cargo xtask ci --only {step}` runs it alone");
        let done = step.run(workspace).with_context(alone)?;
        match done {
            // The summary of the test runner ends the output.
            Done::Passed if step == Step::Test => {}
            Done::Passed => println!("    ok in {}", seconds(begun.elapsed())),
            Done::Skipped(reason) => println!("    skipped: {reason}"),
        }
    }
    Ok(())
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

impl Step {
    fn run(self, workspace: &Workspace) -> Result<Done> {
        match self {
            Self::Fmt => passed(cargo(workspace, &["fmt", "--all", "--check"]).run()),
            Self::Tidy => passed(tidy::run(workspace)),
            Self::Clippy => passed(clippy(workspace)),
            Self::Docs => passed(docs::run(workspace, false)),
            Self::Core => check_alone(workspace, "larder-core", &["--no-default-features"]),
            Self::Memory => check_alone(workspace, "larder-memory", &[]),
            Self::Strategy => check_alone(workspace, "larder-strategy", &[]),
            Self::Facade => check_alone(workspace, "larder", &["--no-default-features"]),
            Self::Examples => examples(workspace, "larder-memory"),
            Self::CoreTree => core_tree(workspace),
            Self::Deny => deny(workspace),
            Self::Test => passed(test::run(workspace, &test::Options::ALL)),
        }
    }

    fn help(self) -> String {
        self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

fn passed(result: Result<()>) -> Result<Done> {
    result.map(|()| Done::Passed)
}

fn cargo(workspace: &Workspace, args: &[&str]) -> Command {
    Command::cargo(&workspace.root).args(args)
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let everything = cargo(workspace, &["clippy", "--quiet", "--all-targets"]).args(workspace.everything());
    everything.args(["--", "-D", "warnings"]).run()
}

fn check_alone(workspace: &Workspace, package: &str, args: &[&str]) -> Result<Done> {
    if workspace.package(package).is_none() {
        return Ok(absent(package));
    }
    passed(cargo(workspace, &["check", "--quiet", "-p", package]).args(args).run())
}

fn examples(workspace: &Workspace, package: &str) -> Result<Done> {
    let found = workspace.package(package);
    if found.is_some_and(|found| found.examples.is_empty()) {
        bail!("`{package}` has lost its examples");
    }
    check_alone(workspace, package, &["--examples"])
}

fn absent(package: &str) -> Done {
    Done::Skipped(format!("the workspace has no package `{package}`"))
}

fn core_tree(workspace: &Workspace) -> Result<Done> {
    let args = ["tree", "--quiet", "-e", "normal", "-p", "larder-core", "--prefix", "none", "--format", "{p}"];
    let tree = cargo(workspace, &args).output()?;
    let unwanted = unwanted_in(&tree);
    if !unwanted.is_empty() {
        bail!(
            "larder-core depends on {}: `cargo tree -e normal -p larder-core -i {}` says through what",
            unwanted.join(", "),
            unwanted[0]
        );
    }
    Ok(Done::Passed)
}

/// The packages of a tree, one `name vVersion` a line, that larder-core must not need: also their companions, such as
/// `tokio-util`.
fn unwanted_in(tree: &str) -> Vec<&str> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let is_unwanted = |name: &&str| {
        NOT_IN_CORE
            .iter()
            .any(|unwanted| name.strip_prefix(unwanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    let mut unwanted: Vec<&str> = names.filter(is_unwanted).collect();
    unwanted.sort_unstable();
    unwanted.dedup();
    unwanted
}

fn deny(workspace: &Workspace) -> Result<Done> {
    if !cargo(workspace, &["deny", "--version"]).succeeds() {
        return Ok(Done::Skipped("cargo-deny is not installed (`cargo install cargo-deny --locked`)".to_owned()));
    }
    passed(cargo(workspace, &["deny", "check"]).run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_the_last_step() {
        assert_eq!(Step::value_variants().last(), Some(&Step::Test));
    }

    #[test]
    fn every_step_says_what_it_checks() {
        for step in Step::value_variants() {
            assert!(!step.help().is_empty(), "{step} has no help");
        }
    }

    #[test]
    fn a_runtime_in_the_tree_of_core_is_found() {
        let tree =
            "larder-core v0.1.0 (/project)\nbytes v1.12.0\ntokio-util v0.7.0\ntokio v1.54.0\ntokio v1.54.0 (*)\n";
        assert_eq!(unwanted_in(tree), ["tokio", "tokio-util"]);
    }

    #[test]
    fn a_name_that_only_begins_alike_is_not_meant() {
        assert_eq!(unwanted_in("larder-core v0.1.0\nmokalite v1.0.0\nrediscover v1.0.0\n"), [""; 0]);
    }
}
