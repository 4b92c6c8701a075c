//! Ends a server whose test process was killed and could not do it itself.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Waits for the end of its standard input, which comes with the end of the process that holds the pipe.
const SCRIPT: &str = r#"read -r _; kill -9 "$1"; rm -rf -- "$2""#;

/// A shell that kills one process and removes its directory when this process is gone. Dropping the value ends the
/// shell without that.
#[derive(Debug)]
pub(crate) struct Watchdog(Child);

impl Watchdog {
    pub(crate) fn watch(process: &Child, directory: &Path) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "larder-watchdog", &process.id().to_string()]).arg(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A runner of tests kills the whole group of a test's processes.
        command.process_group(0);
        command.spawn().map(Self)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // `Child::wait` closes the pipe, so the shell has to be dead before.
        self.0.kill().expect("a child of this process that was not waited for can be killed");
        self.0.wait().expect("a killed child can be waited for");
    }
}
