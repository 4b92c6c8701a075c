//! The Redis servers of a run.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use larder::Cache;
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, RedisServer};

use super::Scenario;

/// How long what is sure to happen may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The user of the caches where the password is changed, and its first password.
pub(super) const USER: &str = "chaos";
pub(super) const PASSWORD: &str = "before";

/// The server that the caches use, and another one where a scenario needs it.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) main: RedisServer,
    pub(super) other: Option<RedisServer>,
}

impl Servers {
    /// Starts them. Blocks the thread.
    pub(super) fn start(scenario: Scenario) -> Result<Self> {
        let mut builder = RedisServer::builder();
        if matches!(scenario, Scenario::KillRestart | Scenario::Flapping | Scenario::JournalDiskFull) {
            // What was confirmed is written, and so there again after a kill. Only a machine that dies would need it on disk,
            // which has the server wait.
            builder = builder.option("appendonly", "yes").option("appendfsync", "no");
        }
        if scenario == Scenario::Loading {
            // A millisecond for each key, and an answer to whoever asks meanwhile.
            builder = builder.option("key-load-delay", 1000).option("loading-process-events-interval-bytes", 1024);
        }
        let main = builder.try_start()?;
        let mut servers = Self { main, other: None };
        if scenario == Scenario::AuthChanged {
            servers.set_password(PASSWORD)?;
        }
        if scenario == Scenario::Readonly {
            let other = RedisServer::builder().try_start()?;
            follow(&other, &servers.main)?;
            servers.other = Some(other);
        }
        Ok(servers)
    }

    /// The URL for a cache, by way of a proxy.
    pub(super) fn url(&self, scenario: Scenario, proxy: &FaultProxy) -> String {
        let port = proxy.port();
        if scenario == Scenario::AuthChanged {
            format!("redis://{USER}:{PASSWORD}@127.0.0.1:{port}")
        } else {
            self.main.url_at(port)
        }
    }

    pub(super) fn set_password(&mut self, password: &str) -> Result<()> {
        let password = format!(">{password}");
        self.main.try_command(&["ACL", "SETUSER", USER, "on", "resetpass", &password, "~*", "&*", "+@all"])?;
        Ok(())
    }

    /// A cache that speaks to the server itself, patiently, and has no part in the bus.
    pub(super) async fn witness(&self) -> Result<Cache> {
        let deadline = Duration::from_secs(5);
        let config = RedisConfig::builder().url(self.main.url()).command_deadline(deadline).connect_deadline(deadline);
        let backend = Arc::new(RedisBackend::new(config.build()?)?);
        let strategy = larder::Strategy::new("witness", Duration::from_secs(3600)).remote_deadline(deadline * 2);
        let builder = Cache::builder().namespace("chaos").strategy(strategy).remote_command_deadline(deadline);
        builder.bus(false).backend(backend).build().await.context("the witness")
    }
}

/// Makes a server the replica of another, and waits until it has the same data. Blocks the thread.
fn follow(replica: &RedisServer, primary: &RedisServer) -> Result<()> {
    replicate(replica, primary)?;
    let deadline = Instant::now() + PATIENCE;
    while !replica.try_command(&["INFO", "replication"])?.contains("master_link_status:up") {
        if Instant::now() > deadline {
            bail!("the replica does not find its primary within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Makes a server the replica of another.
pub(super) fn replicate(replica: &RedisServer, primary: &RedisServer) -> Result<()> {
    replica.try_command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()])?;
    Ok(())
}
