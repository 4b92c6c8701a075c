//! What the tests share: a server, backends of it, and waiting for what must come.

use std::{future::Future, time::Duration};

use larder_core::{Key, Result, SetOptions};
use larder_redis::{RedisBackend, RedisConfig, RedisConfigBuilder};
use larder_testing::RedisServer;

/// How long a test waits for what must come before it fails; never waited for in full by a test that passes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config_of(server: &RedisServer) -> RedisConfigBuilder {
    RedisConfig::builder().url(server.url())
}

pub(crate) async fn backend_of(server: &RedisServer) -> RedisBackend {
    RedisBackend::connect(config_of(server).build().unwrap()).await.unwrap()
}

/// Repeats a call until its result is as wanted, and answers that. Between two of them the other tasks run.
pub(crate) async fn until<T>(
    mut call: impl AsyncFnMut() -> Result<T>,
    wanted: impl Fn(&Result<T>) -> bool,
) -> Result<T> {
    within(async {
        loop {
            let answer = call().await;
            if wanted(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The future's answer; a test that would wait for ever fails instead.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("what the test waits for did not come")
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name)
}

pub(crate) fn plain() -> SetOptions {
    SetOptions::new()
}
