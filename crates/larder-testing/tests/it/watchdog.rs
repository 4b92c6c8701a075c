//! What is left of a server when its test process is killed.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use larder_testing::RedisServer;

/// Set in the process that is to be killed, which is this test once more.
const VICTIM: &str = "LARDER_TESTING_VICTIM";

#[test]
fn a_killed_test_process_leaves_no_server_and_no_directory() {
    if env::var_os(VICTIM).is_some() {
        let server = RedisServer::start();
        let directory = server.command(&["CONFIG", "GET", "dir"]);
        writeln!(io::stdout(), "\nserver {} {}", server.port(), directory.lines().nth(1).unwrap()).unwrap();
        // Until it is killed.
        io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let name = "watchdog::a_killed_test_process_leaves_no_server_and_no_directory";
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.into_iter().find(|line| line.starts_with("server ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let (port, directory) = (words[1].parse::<u16>().unwrap(), Path::new(words[2]));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(directory.is_dir());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_ok() || directory.exists() {
        assert!(Instant::now() < deadline, "the server at {port} or {} is still there", directory.display());
        thread::yield_now();
    }
}
