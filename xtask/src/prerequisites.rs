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
const CLI: &str = "redis-cli";

/// A failed update is not the end: the lists of packages that are there may do.
const APT_SCRIPT: &str = "\
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends redis-server redis-sentinel
";

/// The programs of Redis on this machine, as far as they were found.
#[derive(Debug, PartialEq, Eq)]
struct Redis {
    server: Option<PathBuf>,
    cli: Option<PathBuf>,
}

impl Redis {
    fn here() -> Result<Self> {
        Self::find(|name| env::var_os(name), &Path::is_file)
    }

    fn find(variable: impl Fn(&str) -> Option<OsString>, is_file: &dyn Fn(&Path) -> bool) -> Result<Self> {
        let path = variable("PATH").unwrap_or_default();
        let server = find_server(variable, &path, is_file)?;
        // Programs of one version stand side by side.
        let beside = server.as_ref().map(|server| server.with_file_name(CLI)).filter(|cli| is_file(cli));
        let cli = beside.or_else(|| find_program(OsStr::new(CLI), &path, is_file));
        Ok(Self { server, cli })
    }

    fn missing(&self) -> Vec<&'static str> {
        let programs = [(SERVER, &self.server), (CLI, &self.cli)];
        programs.into_iter().filter(|(_, found)| found.is_none()).map(|(name, _)| name).collect()
    }
}

/// The Redis server that the tests will start, installed first where that is possible and wanted.
///
/// # Errors
/// If it or `redis-cli` is missing, with what to do about it, or if a variable names a program that does not exist.
pub(crate) fn redis_server(may_install: bool) -> Result<PathBuf> {
    let mut redis = Redis::here()?;
    if !redis.missing().is_empty()
        && may_install
        && Command::new("apt-get").args(["--version"]).succeeds()
        && let Some(shell) = root_shell()
    {
        println!("{} missing: installing redis-server and redis-sentinel with apt-get", redis.missing().join(", "));
        println!("(the tests start servers of their own; a service that the packages start is not used)");
        let status = shell.args([APT_SCRIPT]).status()?;
        // What counts is the program: setting up the service may fail where there is no systemd.
        redis = Redis::here()?;
        if !redis.missing().is_empty() {
            println!("apt-get did not bring {} ({status})", redis.missing().join(", "));
        }
    }
    match (redis.missing().as_slice(), redis.server) {
        ([], Some(server)) => Ok(server),
        (missing, _) => bail!(how_to_install(missing)),
    }
}

fn how_to_install(missing: &[&str]) -> String {
    let missing = missing.join(" and ");
    format!(
        "\
the tests start Redis servers of their own, but this machine has no {missing} on the PATH. Install Redis:
    Debian, Ubuntu:  sudo apt-get update && sudo apt-get install redis-server redis-sentinel
    Fedora:          sudo dnf install redis     (or valkey-compat-redis where redis is gone)
    macOS:           brew install redis
or name a redis-server in LARDER_REDIS_SERVER, with redis-cli beside it"
    )
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
    path: &OsStr,
    is_file: &dyn Fn(&Path) -> bool,
) -> Result<Option<PathBuf>> {
    for name in SERVER_VARIABLES {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        return match find_program(&value, path, is_file) {
            Some(found) => Ok(Some(found)),
            None => bail!("{name} is `{}`, which is no program; unset it or name a redis-server", value.display()),
        };
    }
    Ok(find_program(OsStr::new(SERVER), path, is_file))
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

    /// Looks for Redis on a machine with these variables and files.
    fn find(variables: &[(&str, &str)], files: &[&str]) -> Result<Redis> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        Redis::find(variable, &|path: &Path| files.iter().any(|file| path == Path::new(file)))
    }

    fn server(variables: &[(&str, &str)], files: &[&str]) -> Option<PathBuf> {
        find(variables, files).unwrap().server
    }

    #[test]
    fn the_programs_are_found_on_the_path() {
        let files = ["/usr/bin/redis-server", "/usr/bin/redis-cli"];
        let found = find(&[("PATH", "/bin:/usr/bin")], &files).unwrap();
        assert_eq!(found.server.as_deref(), Some(Path::new(files[0])));
        assert_eq!(found.cli.as_deref(), Some(Path::new(files[1])));
        assert_eq!(found.missing(), [""; 0]);
    }

    #[test]
    fn a_variable_comes_before_the_path() {
        let variables = [("PATH", "/bin"), ("REDIS_SERVER_BIN", "/b"), ("LARDER_REDIS_SERVER", "/opt/a")];
        assert_eq!(server(&variables, &["/bin/redis-server", "/opt/a", "/b"]), Some(PathBuf::from("/opt/a")));
    }

    #[test]
    fn a_variable_may_name_a_program_of_the_path() {
        let variables = [("PATH", "/bin"), ("LARDER_REDIS_SERVER", "valkey-server")];
        assert_eq!(server(&variables, &["/bin/valkey-server"]), Some(PathBuf::from("/bin/valkey-server")));
    }

    #[test]
    fn the_client_beside_the_server_comes_before_the_path() {
        let variables = [("PATH", "/bin"), ("LARDER_REDIS_SERVER", "/opt/redis-server")];
        let found = find(&variables, &["/opt/redis-server", "/opt/redis-cli", "/bin/redis-cli"]).unwrap();
        assert_eq!(found.cli, Some(PathBuf::from("/opt/redis-cli")));
    }

    #[test]
    fn a_variable_that_names_nothing_is_an_error_that_names_it() {
        let error = find(&[("PATH", "/bin"), ("REDIS_SERVER_BIN", "/gone")], &["/bin/redis-server"]).unwrap_err();
        assert!(error.to_string().contains("REDIS_SERVER_BIN") && error.to_string().contains("/gone"), "{error}");
    }

    #[test]
    fn what_a_machine_lacks_is_missing_and_no_error_yet() {
        let none = find(&[("PATH", "/bin"), ("REDIS_SERVER_BIN", "")], &[]).unwrap();
        assert_eq!(none.missing(), ["redis-server", "redis-cli"]);
        let server_only = find(&[("PATH", "/bin")], &["/bin/redis-server"]).unwrap();
        assert_eq!(server_only.missing(), ["redis-cli"]);
    }

    #[test]
    fn the_instructions_name_what_is_missing_and_a_command_for_each_system() {
        let text = how_to_install(&["redis-cli"]);
        for part in
            ["no redis-cli", "Debian, Ubuntu:", "apt-get install", "Fedora:", "dnf install", "macOS:", "brew install"]
        {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(how_to_install(&["redis-server", "redis-cli"]).contains("redis-server and redis-cli"));
    }
}
