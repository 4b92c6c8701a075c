//! Tests of the program `larder` against real Redis servers.

mod arguments;
mod doctor;
mod figures;
mod reading;
mod removing;
mod samples;

use std::{
    future::Future,
    process::{Command, Stdio},
    time::Duration,
};

use larder::{Cache, CacheBuilder, Strategy};
use larder_testing::RedisServer;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long an event may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Entries live for longer than a test, and a slow machine is no fault of Redis.
const PATIENT: Strategy =
    Strategy::new("patient", Duration::from_secs(600)).jitter(0.0).remote_deadline(Duration::from_secs(10));

/// What the program has answered.
#[derive(Debug)]
struct Answer {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.out.clone()).expect("the answer is text")
    }

    /// Its one document, on one line.
    fn json(&self) -> Value {
        let text = self.text();
        assert_eq!(text.lines().count(), 1, "{self:?}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn ok(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", String::from_utf8_lossy(&self.out));
        self
    }

    /// The exit code, and one line on standard error.
    fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.starts_with("larder: ") && self.err.lines().count() == 1, "{self:?}");
        self
    }
}

/// Runs the program with arguments as they are, and with nothing of this process's environment that it reads.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments).env_remove("LARDER_REDIS_URL").envs(environment.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("cargo builds the program with this test");
    let code = output.status.code().expect("the program is not killed by a signal");
    Answer { code, out: output.stdout, err: String::from_utf8(output.stderr).expect("errors are text") }
}

/// Runs a command on the namespace `shop`.
fn larder(server: &RedisServer, arguments: &[&str]) -> Answer {
    let url = server.url();
    let mut all = vec!["--redis", url.as_str(), "--namespace", "shop", "--deadline", "10s"];
    all.extend(arguments);
    run(&all, &[])
}

/// The answer as a document.
fn json(server: &RedisServer, arguments: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(arguments);
    larder(server, &all).ok().json()
}

fn settings(server: &RedisServer) -> CacheBuilder {
    let deadline = Duration::from_secs(5);
    Cache::builder().namespace("shop").strategy(PATIENT).remote_command_deadline(deadline).redis(server.url())
}

/// A running service's cache in the namespace `shop`, which hears the bus.
async fn service(server: &RedisServer) -> Cache {
    let cache = settings(server).build().await.expect("the settings are valid");
    until("the bus is trusted", || async { cache.health().await.remote.is_some_and(|remote| remote.bus_trusted) })
        .await;
    cache
}

/// Waits until `happened` answers true.
async fn until<F: Future<Output = bool>>(what: &str, mut happened: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !happened().await {
        assert!(Instant::now() < deadline, "within {PATIENCE:?} it did not happen that {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
