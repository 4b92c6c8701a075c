//! A primary, its replicas and the sentinels that watch them, for one test.
//!
//! Waiting methods block the thread, for some seconds at a start and at a failover: see `spawn_blocking` of tokio.

use std::io;

use crate::{
    redis_cluster::poll,
    redis_server::{RedisServer, percent_encoded},
    tls::TlsFiles,
};

/// The name under which the sentinels know the primary.
const NAME: &str = "mymaster";
const REPLICAS: usize = 2;
const SENTINELS: usize = 3;

/// Settings of [`RedisSentinels`].
#[derive(Debug, Clone, Default)]
#[must_use = "call `start` to get the servers"]
pub struct RedisSentinelsBuilder {
    password: Option<String>,
    sentinel_password: Option<String>,
    tls: Option<TlsFiles>,
}

impl RedisSentinelsBuilder {
    /// A password of the primary and of the replicas.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A password of the sentinels.
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// TLS to the servers and to the sentinels, and between them. [`RedisSentinels::url`] is for TLS then.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Starts all and waits until every sentinel knows both replicas and both other sentinels.
    ///
    /// # Panics
    /// If a server does not come up, or that does not happen within thirty seconds.
    #[must_use]
    pub fn start(self) -> RedisSentinels {
        let mut server = RedisServer::builder().option("repl-diskless-sync-delay", 0);
        if let Some(password) = &self.password {
            server = server.password(password).option("masterauth", password);
        }
        if let Some(files) = &self.tls {
            server = server.tls(files.clone());
        }
        let primary = server.clone().start();
        let port = primary.known_port().to_string();
        let follow = ["--replicaof", "127.0.0.1", &port];
        let mut servers = vec![primary];
        servers.extend((0..REPLICAS).map(|_| server.clone().arguments(&follow).start()));
        poll("replication", || {
            let linked = |server: &RedisServer| server.try_command(&["INFO", "replication"]);
            servers[1..].iter().try_fold(true, |all, one| Ok(all && linked(one)?.contains("master_link_status:up")))
        });
        let mut lines = format!(
            "sentinel monitor {NAME} 127.0.0.1 {port} 2\nsentinel down-after-milliseconds {NAME} 500\n\
             sentinel failover-timeout {NAME} 2000\n"
        );
        if let Some(password) = &self.password {
            lines += &format!("sentinel auth-pass {NAME} \"{password}\"\n");
        }
        let mut sentinel = RedisServer::builder().sentinel(lines);
        if let Some(password) = &self.sentinel_password {
            sentinel = sentinel.password(password);
        }
        if let Some(files) = &self.tls {
            sentinel = sentinel.tls(files.clone());
        }
        let sentinels = (0..SENTINELS).map(|_| sentinel.clone().start()).collect();
        let group = RedisSentinels { servers, sentinels, settings: self };
        group.await_known();
        group
    }
}

/// A primary, two replicas and three sentinels with a quorum of two, on 127.0.0.1. A primary counts as down after 500 ms.
///
/// Servers are named by their index, 0 being the first primary; a failover changes roles, not indices.
/// Dropping the value kills all.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    settings: RedisSentinelsBuilder,
}

impl RedisSentinels {
    /// Starts all without passwords.
    ///
    /// # Panics
    /// As [`RedisSentinelsBuilder::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// With other settings.
    pub fn builder() -> RedisSentinelsBuilder {
        RedisSentinelsBuilder::default()
    }

    /// `redis-sentinel://[:password@]127.0.0.1:s1,127.0.0.1:s2,127.0.0.1:s3/0#mymaster`; the password is the servers'.
    #[must_use]
    pub fn url(&self) -> String {
        let user = self.settings.password.as_ref().map(|password| format!(":{}@", percent_encoded(password)));
        let addresses: Vec<String> =
            self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.known_port())).collect();
        let scheme = if self.settings.tls.is_some() { "rediss-sentinel" } else { "redis-sentinel" };
        format!("{scheme}://{}{}/0#{NAME}", user.unwrap_or_default(), addresses.join(","))
    }

    /// The server at this index, to look at it.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn server(&self, index: usize) -> &RedisServer {
        &self.servers[index]
    }

    /// The server at this index, to kill or to restart it. A former primary that restarts is made a replica by the
    /// sentinels, which takes them some ten seconds.
    ///
    /// # Panics
    /// If there is none.
    pub fn server_mut(&mut self, index: usize) -> &mut RedisServer {
        &mut self.servers[index]
    }

    /// The sentinel at this index.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn sentinel(&self, index: usize) -> &RedisServer {
        &self.sentinels[index]
    }

    /// The sentinel at this index, to kill or to restart it; it remembers what it knew.
    ///
    /// # Panics
    /// If there is none.
    pub fn sentinel_mut(&mut self, index: usize) -> &mut RedisServer {
        &mut self.sentinels[index]
    }

    /// The index of the server that the first running sentinel calls the primary.
    ///
    /// # Panics
    /// If no sentinel runs.
    #[must_use]
    pub fn primary(&self) -> usize {
        let port = self.primary_port();
        self.servers.iter().position(|server| server.known_port() == port).expect("the primary is one of these servers")
    }

    /// The port that the first running sentinel names.
    ///
    /// # Panics
    /// If no sentinel runs.
    #[must_use]
    pub fn primary_port(&self) -> u16 {
        let sentinel = self.running().next().expect("a sentinel runs");
        named_port(sentinel).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets the sentinels choose a new primary while the old one lives (`SENTINEL FAILOVER`), waits for it, and answers
    /// its port.
    ///
    /// # Panics
    /// If that does not happen within thirty seconds.
    #[expect(clippy::must_use_candidate, reason = "often run for its effect alone")]
    pub fn failover(&self) -> u16 {
        let old = self.primary_port();
        let sentinel = self.running().next().expect("a sentinel runs");
        // A sentinel that has no recent report of a replica has none to choose.
        poll("SENTINEL FAILOVER", || match sentinel.try_command(&["SENTINEL", "FAILOVER", NAME]) {
            Err(error) if error.to_string().contains("NOGOODSLAVE") => Ok(false),
            reply => reply.map(|_| true),
        });
        self.await_new_primary(old)
    }

    /// Waits until all running sentinels name one other primary than that at `old_port`, and it is one; answers its port.
    ///
    /// # Panics
    /// If that does not happen within thirty seconds.
    #[expect(clippy::must_use_candidate, reason = "often called to wait alone")]
    pub fn await_new_primary(&self, old_port: u16) -> u16 {
        let mut port = old_port;
        poll("a new primary", || {
            let named = self.running().map(named_port).collect::<io::Result<Vec<u16>>>()?;
            port = named.first().copied().unwrap_or(old_port);
            let server = self.servers.iter().find(|server| server.known_port() == port && server.is_running());
            let Some(server) = server.filter(|_| port != old_port && named.iter().all(|other| *other == port)) else {
                return Ok(false);
            };
            Ok(server.try_command(&["INFO", "replication"])?.contains("role:master"))
        });
        port
    }

    fn await_known(&self) {
        poll("the sentinels", || {
            for sentinel in &self.sentinels {
                let state = sentinel.try_command(&["SENTINEL", "MASTER", NAME])?;
                let known = |field: &str, count: usize| state.contains(&format!("{field}\n{count}\n"));
                if !known("num-slaves", REPLICAS) || !known("num-other-sentinels", SENTINELS - 1) {
                    return Ok(false);
                }
            }
            Ok(true)
        });
    }

    fn running(&self) -> impl Iterator<Item = &RedisServer> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_running())
    }
}

fn named_port(sentinel: &RedisServer) -> io::Result<u16> {
    let address = sentinel.try_command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])?;
    let port = address.lines().nth(1).and_then(|port| port.parse().ok());
    port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no address: {address:?}")))
}
