//! What the tests need on the machine: a Redis server and the test runner.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::process::Command;

/// Variables that name the server's program, the first one that is set counts.
const SERVER_VARIABLES: [&str; 2] = ["LARDER_REDIS_SERVER", "REDIS_SERVER_BIN"];
const SERVER: &str = "redis-server";

/// Installs the server without starting it as a service: the tests start their own, on free ports. Starting is refused
/// through Debian's policy file, which is put there only if there is none, and taken away again.
const APT_SCRIPT: &str = "\
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends redis-server redis-sentinel
";

const HOW_TO_INSTALL: &str = "\
the tests start Redis servers of their own, but there is no `redis-server` on this machine. Install it:
    Debian, Ubuntu:  sudo apt-get install redis-server redis-sentinel
    Fedora:          sudo dnf install redis     (or valkey-compat-redis where redis is gone)
    macOS:           brew install redis
or name the program in LARDER_REDIS_SERVER";

/// The Redis server that the tests will start, installed first where that is possible and wanted.
///
/// # Errors
/// If there is none, with what to do about it, or if a variable names a program that does not exist.
pub(crate) fn redis_server(may_install: bool) -> Result<PathBuf> {
    if let Some(found) = find_server(|name| env::var_os(name), &Path::is_file)? {
        return Ok(found);
    }
    if may_install
        && Command::new("apt-get").args(["--version"]).succeeds()
        && let Some(shell) = root_shell()
    {
        println!("redis-server is missing: installing the packages redis-server and redis-sentinel with apt-get");
        println!("(the tests start their own servers; no service is started)");
        let status = shell.args([APT_SCRIPT]).status()?;
        // What counts is the program: setting up the service may fail where there is no systemd.
        if let Some(found) = find_server(|name| env::var_os(name), &Path::is_file)? {
            return Ok(found);
        }
        println!("apt-get did not bring redis-server ({status})");
    }
    bail!(HOW_TO_INSTALL)
}

/// A shell that runs a script as root without asking for a password, if there is one.
fn root_shell() -> Option<Command> {
    if Command::new("id").args(["-u"]).output().is_ok_and(|id| id.trim() == "0") {
        Some(Command::new("sh").args(["-c"]))
    } else if Command::new("sudo").args(["-n", "true"]).succeeds() {
        Some(Command::new("sudo").args(["-n", "sh", "-c"]))
    } else {
        None
    }
}

fn find_server(
    variable: impl Fn(&str) -> Option<OsString>,
    is_file: &dyn Fn(&Path) -> bool,
) -> Result<Option<PathBuf>> {
    let path = variable("PATH").unwrap_or_default();
    for name in SERVER_VARIABLES {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        return match find_program(&value, &path, is_file) {
            Some(found) => Ok(Some(found)),
            None => bail!("{name} is `{}`, which is no program; unset it or name a redis-server", value.display()),
        };
    }
    Ok(find_program(OsStr::new(SERVER), &path, is_file))
}

/// A program by its path, or by its name in the folders of `path`.
fn find_program(program: &OsStr, path: &OsStr, is_file: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let program = Path::new(program);
    if program.components().count() > 1 {
        return is_file(program).then(|| program.to_owned());
    }
    env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| is_file(candidate))
}

/// Whether `cargo nextest` can be used, installed first where that is wanted.
pub(crate) fn nextest(root: &Path, may_install: bool) -> Result<bool> {
    let present = || Command::cargo(root).args(["nextest", "--version"]).succeeds();
    if present() {
        return Ok(true);
    }
    if may_install {
        println!("cargo-nextest is missing: installing it, once, which takes some minutes");
        let status = Command::cargo(root).args(["install", "cargo-nextest", "--locked"]).status()?;
        if status.success() && present() {
            return Ok(true);
        }
    }
    println!("without cargo-nextest: using `cargo test` (`cargo install cargo-nextest --locked` installs it)");
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for the server on a machine with these variables and files.
    fn find(variables: &[(&str, &str)], files: &[&str]) -> Result<Option<PathBuf>> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        find_server(variable, &|path: &Path| files.iter().any(|file| path == Path::new(file)))
    }

    #[test]
    fn the_server_is_found_on_the_path() {
        let found = find(&[("PATH", "/bin:/usr/bin")], &["/usr/bin/redis-server"]).unwrap();
        assert_eq!(found, Some(PathBuf::from("/usr/bin/redis-server")));
    }

    #[test]
    fn a_variable_comes_before_the_path() {
        let variables = [("PATH", "/bin"), ("REDIS_SERVER_BIN", "/b"), ("LARDER_REDIS_SERVER", "/opt/a")];
        let found = find(&variables, &["/bin/redis-server", "/opt/a", "/b"]).unwrap();
        assert_eq!(found, Some(PathBuf::from("/opt/a")));
    }

    #[test]
    fn a_variable_may_name_a_program_of_the_path() {
        let variables = [("PATH", "/bin"), ("LARDER_REDIS_SERVER", "valkey-server")];
        assert_eq!(find(&variables, &["/bin/valkey-server"]).unwrap(), Some(PathBuf::from("/bin/valkey-server")));
    }

    #[test]
    fn a_variable_that_names_nothing_is_an_error_that_names_it() {
        let error = find(&[("PATH", "/bin"), ("REDIS_SERVER_BIN", "/gone")], &["/bin/redis-server"]).unwrap_err();
        assert!(error.to_string().contains("REDIS_SERVER_BIN") && error.to_string().contains("/gone"), "{error}");
    }

    #[test]
    fn a_machine_without_the_server_is_no_error_yet() {
        assert_eq!(find(&[("PATH", "/bin"), ("REDIS_SERVER_BIN", "")], &[]).unwrap(), None);
    }
}
