//! `cargo xtask test`: the doc tests and all the others, with what they need.

use std::{path, process::ExitStatus};

use anyhow::{Context, Result, bail};

use crate::{prerequisites, process::Command, workspace::Workspace};

/// Which tests, and what may be done to be able to run them.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Runs only the tests whose names contain one of these texts
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,

    /// Installs nothing: says what is missing instead
    #[arg(long)]
    no_install: bool,

    /// Goes to cargo-nextest as it stands, for example `--no-capture`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) runner_args: Vec<String>,
}

impl Options {
    /// Every test, on this machine as it may be completed.
    pub(crate) const ALL: Self = Self { filters: Vec::new(), no_install: false, runner_args: Vec::new() };
}

/// Runs the doc tests, then the others, whose summary is the last output.
///
/// # Errors
/// If a test fails, or what the tests need is missing and cannot be installed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let server = prerequisites::redis_server(!options.no_install)?;
    // The tests run in the folders of their packages, so that a relative path would mislead them.
    let server = path::absolute(&server).context("the path of redis-server cannot be made absolute")?;
    let server = server.to_str().context("the path of redis-server is not UTF-8")?;
    let nextest = prerequisites::nextest(&workspace.root, !options.no_install)?;

    if !nextest && !options.runner_args.is_empty() {
        bail!("what follows `--` is for cargo-nextest, which is missing: leave it out to use `cargo test`");
    }

    let cargo = || Command::cargo(&workspace.root).env("LARDER_REDIS_SERVER", server);
    println!("doc tests");
    let docs = cargo().args(["test", "--doc", "--quiet"]).args(workspace.everything());
    succeeded("the doc tests", docs.args(separated(&options.filters)).status()?)?;
    println!("unit and integration tests");
    let others = if nextest {
        cargo().args(["nextest", "run"]).args(workspace.everything()).args(&options.filters).args(&options.runner_args)
    } else {
        cargo().args(["test", "--tests"]).args(workspace.everything()).args(separated(&options.filters))
    };
    succeeded("the tests", others.status()?)
}

/// For `cargo test`, filters stand behind `--`.
fn separated(filters: &[String]) -> Vec<&str> {
    if filters.is_empty() {
        Vec::new()
    } else {
        std::iter::once("--").chain(filters.iter().map(String::as_str)).collect()
    }
}

fn succeeded(what: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{what} did not pass ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_separated_from_cargos_own_arguments() {
        assert_eq!(separated(&["a".to_owned(), "b".to_owned()]), ["--", "a", "b"]);
    }

    #[test]
    fn without_filters_nothing_is_separated() {
        assert_eq!(separated(&[]), [""; 0]);
    }
}
