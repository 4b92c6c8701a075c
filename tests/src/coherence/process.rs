//! A process of the torture test, seen from the driver.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use larder_testing::Watchdog;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::{self, UnboundedReceiver, error::TryRecvError};

use super::{
    Counts,
    worker::{Job, Word},
};

/// It ends with this value, and with the driver: by the end of its standard input, or, since it may be stopped, by a
/// watchdog.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) process: u32,
    pub(super) incarnation: u32,
    /// What earlier starts of it have counted.
    pub(super) before: Counts,
    /// What this one has counted so far.
    pub(super) now: Counts,
    child: Option<Child>,
    watchdog: Option<Watchdog>,
    commands: ChildStdin,
    words: UnboundedReceiver<Result<Word>>,
}

impl Process {
    pub(super) fn start(program: &Path, job: &Job) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["--worker", &serde_json::to_string(job)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let commands = child.stdin.take().context("its input was piped")?;
        let output = child.stdout.take().context("its output was piped")?;
        let watchdog = Watchdog::watch(&child);
        let Job { process, incarnation, .. } = *job;
        let (said, words) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let word = serde_json::from_str(&line).with_context(|| format!("not a word: {line:?}"));
                if said.send(word).is_err() {
                    break;
                }
            }
        });
        let (before, now) = (Counts::default(), Counts::default());
        let mut started =
            Self { process, incarnation, before, now, child: Some(child), watchdog: None, commands, words };
        // Where there is no watchdog the child ends with the value.
        started.watchdog = Some(watchdog?);
        Ok(started)
    }

    pub(super) fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").with_context(|| format!("process {} has ended", self.process))
    }

    /// What it said and nobody has taken yet.
    pub(super) fn heard(&mut self) -> Result<Option<Word>> {
        match self.words.try_recv() {
            Ok(word) => word.map(Some),
            Err(TryRecvError::Disconnected) if self.child.is_some() => {
                bail!("process {} has ended by itself", self.process)
            }
            Err(_) => Ok(None),
        }
    }

    /// What it says next.
    pub(super) async fn next(&mut self) -> Result<Word> {
        self.words.recv().await.with_context(|| format!("process {} has ended by itself", self.process))?
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.before.clone();
        counts.add(&self.now);
        counts
    }

    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the process was killed")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    pub(super) fn kill(&mut self) {
        // First, while the process has its id.
        drop(self.watchdog.take());
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child that was not waited for can be killed");
            child.wait().expect("a killed child can be waited for");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
