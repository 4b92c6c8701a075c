//! Ends a process whose test process was killed and could not do it itself.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Waits for the end of its standard input, which comes with the end of the process that holds the pipe.
const SCRIPT: &str = r#"read -r _; kill -9 "$1"; if [ -n "$2" ]; then rm -rf -- "$2"; fi"#;

/// A shell that kills one process when this one is gone, however that came about: also one that is stopped and cannot
/// see it. Dropping the value ends the shell without that, which has to be done before the child is waited for: a later
/// process may get its id.
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches over a child of this process.
    ///
    /// # Errors
    /// If there is no `sh`.
    pub fn watch(process: &Child) -> io::Result<Self> {
        Self::watch_with(process, Path::new(""))
    }

    /// The same; removes a directory too.
    pub(crate) fn watch_with(process: &Child, directory: &Path) -> io::Result<Self> {
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
