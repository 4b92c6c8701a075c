//! Redis servers of the demo's own, and what an operator fears for them. Blocking: run it where that is allowed.

use std::{fmt, io};

use larder_testing::{RedisCluster, RedisSentinels, RedisServer};

/// How the remote tier is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Topology {
    /// One server, which is killed and started again, empty
    Standalone,
    /// A primary, two replicas and three sentinels; the primary is killed
    Sentinel,
    /// Three primaries and three replicas; a primary is killed
    Cluster,
}

impl Topology {
    /// What is done to it in a smoke run.
    #[must_use]
    pub fn outage(self) -> &'static str {
        match self {
            Self::Standalone => "server killed and started again, empty",
            Self::Sentinel => "primary killed, a replica promoted by the sentinels",
            Self::Cluster => "primary killed, its replica took over",
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

/// Servers on free ports of 127.0.0.1. Dropping them ends their processes and removes their directories.
#[derive(Debug)]
pub struct Servers(Kind);

#[derive(Debug)]
enum Kind {
    Standalone(Box<RedisServer>),
    Sentinel(Box<RedisSentinels>),
    Cluster(Box<RedisCluster>),
}

impl Servers {
    /// Starts them. Takes up to some seconds.
    ///
    /// # Errors
    /// There is no `redis-server` to start.
    ///
    /// # Panics
    /// It is there, but does not come up; the message holds its log.
    pub fn start(topology: Topology) -> io::Result<Self> {
        // The others start many servers at once; one tells whether there is a program at all.
        let first = RedisServer::builder().try_start().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                io::ErrorKind::NotFound,
                "there is no redis-server; install it (`apt-get install redis-server`; `cargo xtask test` does so too), \
                 set LARDER_REDIS_SERVER to its path, or leave out --topology and --chaos",
            ),
            _ => error,
        })?;
        Ok(Self(match topology {
            Topology::Standalone => Kind::Standalone(Box::new(first)),
            Topology::Sentinel => Kind::Sentinel(Box::new(RedisSentinels::start())),
            Topology::Cluster => Kind::Cluster(Box::new(RedisCluster::start())),
        }))
    }

    /// The URL for [`CacheBuilder::redis`](larder::CacheBuilder::redis).
    #[must_use]
    pub fn url(&self) -> String {
        match &self.0 {
            Kind::Standalone(server) => server.url(),
            Kind::Sentinel(sentinels) => sentinels.url(),
            Kind::Cluster(cluster) => cluster.url(),
        }
    }

    /// Does to them what [`Topology::outage`] says, and returns when the servers themselves have got over it.
    ///
    /// # Panics
    /// They do not.
    pub fn fail(&mut self) {
        match &mut self.0 {
            Kind::Standalone(server) => {
                server.kill();
                server.restart();
            }
            Kind::Sentinel(sentinels) => {
                let (primary, port) = (sentinels.primary(), sentinels.primary_port());
                sentinels.server_mut(primary).kill();
                sentinels.await_new_primary(port);
            }
            Kind::Cluster(cluster) => {
                let primary = cluster.primary_of_slot(0);
                cluster.kill(primary);
                cluster.await_failover(primary);
            }
        }
    }
}
