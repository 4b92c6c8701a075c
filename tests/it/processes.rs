//! Coherence of real operating-system processes: each is the program `larder-tests-process`, told line by line what to do.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use larder_testing::RedisServer;

use crate::{PATIENCE, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_larder-tests-process");

struct Process {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(server: &RedisServer) -> Self {
        Self::of(Command::new(PROGRAM).arg(server.url()))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo builds the program with this test");
        let commands = child.stdin.take().expect("it was piped");
        let answers = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut process = Self { child, commands, answers };
        let deadline = std::time::Instant::now() + PATIENCE;
        while process.tell("trusted") != "true" {
            assert!(std::time::Instant::now() < deadline, "the process does not hear the bus");
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    fn tell(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("the process listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the process answers in text");
        assert!(answer.ends_with('\n'), "the process ended at {command:?}");
        answer.trim_end().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().expect("a child that was not waited for can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }
}

#[tokio::test]
async fn what_one_process_invalidates_another_loads_anew() {
    let server = RedisServer::start();
    let (mut a, mut b) = (Process::start(&server), Process::start(&server));
    assert_eq!(a.tell("load user:7 old"), "miss old");
    assert_eq!(b.tell("load user:7 new"), "remote old");
    assert_eq!(a.tell("load user:7 new"), "near old");

    assert_eq!(b.tell("invalidate user:7"), "Done");
    assert_eq!(b.tell("near user:7"), "-");
    until("the first process has dropped it", || std::future::ready(a.tell("near user:7") == "-")).await;
    assert_eq!(a.tell("load user:7 new"), "miss new");
    assert_eq!(b.tell("load user:7 newer"), "remote new");
}

#[tokio::test]
async fn a_process_that_dies_while_it_loads_does_not_keep_the_key() {
    let server = RedisServer::start();
    let (mut a, mut b) = (Process::start(&server), Process::start(&server));
    assert_eq!(a.tell("load-for-ever k"), "begun");
    until("its fill token is placed", || std::future::ready(server.command(&["EXISTS", "t:k"]) == "1")).await;
    drop(a);
    // The token lives for a few seconds, and nobody waits for longer than the lease.
    assert_eq!(b.tell("load k value"), "miss value");
}

/// A limit on the length of files is what every user can set, and is met as the end of a disk is: a write is cut short, the
/// next one refused, and what is there already can be overwritten. (512 or 1,024 bytes, depending on the shell.)
#[cfg(unix)]
#[tokio::test]
async fn what_a_killed_process_found_no_room_for_in_its_journal_is_not_served_by_its_successor() {
    const KEYS: u32 = 40;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("journal");
    let mut server = RedisServer::builder().option("appendonly", "yes").start();
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let mut first = Process::of(Command::new("sh").args(["-c", limited, PROGRAM, &server.url()]).arg(path.as_os_str()));
    let mut other = Process::start(&server);
    for key in 0..KEYS {
        assert_eq!(other.tell(&format!("load key-{key} old")), "miss old");
    }
    drop(other);
    server.kill();
    for key in 0..KEYS {
        assert_eq!(first.tell(&format!("invalidate key-{key}")), "Deferred");
    }
    assert_eq!(first.tell("journal"), "failing true 0");
    // By SIGKILL.
    drop(first);
    let written = std::fs::read(&path).expect("it is there");
    assert!(written.len() > 16 && written.len() <= 1024, "{} bytes", written.len());

    server.restart();
    let mut second = Process::of(Command::new(PROGRAM).arg(server.url()).arg(path.as_os_str()));
    for key in 0..KEYS {
        assert_eq!(second.tell(&format!("load key-{key} new")), "miss new");
    }
    assert_eq!(second.tell("journal"), "sound false 1");
}
