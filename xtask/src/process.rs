//! Running other programs.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::Path,
    process::{self, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

/// Prefixes of the variables that `cargo run` sets for this program and that its children must not see: build scripts
/// that look at them would run again, and compile again, whenever cargo is called with and without `xtask` in turn.
const OWN_VARIABLES: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];

/// A program to run, which can be shown as one would type it.
#[derive(Debug)]
pub(crate) struct Command {
    inner: process::Command,
    /// Variables that are set for it, as they are shown.
    variables: Vec<(String, String)>,
}

impl Command {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = process::Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| OWN_VARIABLES.iter().any(|own| name.starts_with(own))) {
                inner.env_remove(name);
            }
        }
        Self { inner, variables: Vec::new() }
    }

    /// The cargo that runs this program, in the folder `dir`.
    pub(crate) fn cargo(dir: &Path) -> Self {
        let mut command = Self::cargo_here();
        command.inner.current_dir(dir);
        command
    }

    /// The cargo that runs this program, in the caller's folder: relative paths in arguments mean what they say.
    pub(crate) fn cargo_here() -> Self {
        Self::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.inner.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.inner.env(name, value);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it with this program's own input and output.
    ///
    /// # Errors
    /// If it cannot be started. How it ended is the answer.
    pub(crate) fn status(mut self) -> Result<ExitStatus> {
        self.inner.status().with_context(|| format!("cannot start `{self}`"))
    }

    /// Runs it and fails unless it succeeds.
    ///
    /// # Errors
    /// If it cannot be started or does not succeed.
    pub(crate) fn run(self) -> Result<()> {
        let shown = self.to_string();
        let status = self.status()?;
        if !status.success() {
            bail!("`{shown}` failed ({status})");
        }
        Ok(())
    }

    /// Runs it quietly and says whether it could be started and succeeded.
    pub(crate) fn succeeds(mut self) -> bool {
        let quiet = self.inner.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    /// What it writes to its standard output.
    ///
    /// # Errors
    /// If it cannot be started, does not succeed, or writes anything but UTF-8.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.inner.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{self}`"))?;
        if !output.status.success() {
            bail!("`{self}` failed ({})", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("the output of `{self}` is not UTF-8"))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.variables {
            write!(f, "{name}={} ", quoted(value))?;
        }
        let program = Path::new(self.inner.get_program());
        write!(f, "{}", program.file_name().unwrap_or(program.as_os_str()).to_string_lossy())?;
        for arg in self.inner.get_args() {
            write!(f, " {}", quoted(&arg.to_string_lossy()))?;
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The exit code that passes on how a child ended. A child that a signal ended has none, and counts as failed.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let command = Command::new("/opt/bin/cargo")
            .args(["doc", "-p", "larder core", "it's"])
            .env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(command.to_string(), r"RUSTDOCFLAGS='-D warnings' cargo doc -p 'larder core' 'it'\''s'");
    }

    #[test]
    fn an_empty_argument_stays_visible() {
        assert_eq!(Command::new("echo").args([""]).to_string(), "echo ''");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let error = Command::new("larder-no-such-program").run().unwrap_err();
        assert!(error.to_string().contains("larder-no-such-program"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_does_not_succeed() {
        assert!(!Command::new("larder-no-such-program").succeeds());
    }
}
