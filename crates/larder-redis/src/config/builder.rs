//! The settings, one method each.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    login::{CredentialsProvider, Secret},
    tls::TlsConfig,
};

/// Builds a [`RedisConfig`](super::RedisConfig). What is set by a method of its own goes before what the URL says.
#[derive(Clone, Debug, Default)]
#[must_use = "call `build` to get the configuration"]
pub struct RedisConfigBuilder {
    pub(super) url: Secret,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) unix_socket: Option<PathBuf>,
    pub(super) database: Option<u32>,
    pub(super) sentinels: Option<(Vec<String>, String)>,
    pub(super) cluster: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) password: Secret,
    pub(super) provider: Option<Arc<dyn CredentialsProvider>>,
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Secret,
    pub(super) tls: Option<TlsConfig>,
    pub(super) client_name: Option<String>,
    pub(super) sockets: Option<usize>,
    pub(super) min_sockets: Option<usize>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) connect_deadline: Option<Duration>,
    pub(super) command_deadline: Option<Duration>,
    pub(super) max_value_bytes: Option<usize>,
    pub(super) max_in_flight: Option<usize>,
    pub(super) batch_keys: Option<usize>,
    pub(super) batch_bytes: Option<usize>,
    pub(super) keepalive: Option<Duration>,
    pub(super) user_timeout: Option<Duration>,
    pub(super) idle_check: Option<Duration>,
}

impl RedisConfigBuilder {
    /// One server: `redis://[user:password@]host[:port][/database]` or `unix:///path[?db=1&user=..&pass=..]`.
    /// A service that sentinels watch: `redis-sentinel://[user:password@]host[:port],host[:port]/database#service`, where
    /// the hosts are those of the sentinels (port 26379 unless given) and user and password those of the servers.
    /// A cluster: `redis-cluster://[user:password@]host[:port],host[:port]`, some nodes of it. `rediss` instead of `redis`
    /// asks for TLS, and `valkey` may stand for `redis`. What is special in a password is percent-encoded.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Secret(Some(url.into()));
        self
    }

    /// Host name or address. Default: `127.0.0.1`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// TCP port. Default: 6379.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The path of a unix socket, instead of host and port.
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix_socket = Some(path.into());
        self
    }

    /// Sentinels (`host` or `host:port`) and the name of the service that they watch. Writes and reads go to its primary,
    /// whose address is asked for again when it is lost or has become a replica.
    pub fn sentinels<S: Into<String>>(
        mut self,
        sentinels: impl IntoIterator<Item = S>,
        service: impl Into<String>,
    ) -> Self {
        self.sentinels = Some((sentinels.into_iter().map(Into::into).collect(), service.into()));
        self
    }

    /// Some nodes of a cluster (`host` or `host:port`), from which the others are learnt.
    pub fn cluster<S: Into<String>>(mut self, nodes: impl IntoIterator<Item = S>) -> Self {
        self.cluster = Some(nodes.into_iter().map(Into::into).collect());
        self
    }

    /// The number of the database; a cluster has only 0. Default: 0.
    pub fn database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// The ACL user; needs a password. Default: the server's `default` user.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password. Default: none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Secret(Some(password.into()));
        self
    }

    /// Credentials that rotate, asked for with each new connection, instead of `user` and `password`.
    pub fn credentials(mut self, provider: Arc<dyn CredentialsProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// The user of the sentinels, which have logins of their own. Default: none.
    pub fn sentinel_user(mut self, user: impl Into<String>) -> Self {
        self.sentinel_user = Some(user.into());
        self
    }

    /// The password of the sentinels. Default: none.
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.sentinel_password = Secret(Some(password.into()));
        self
    }

    /// TLS with these certificates, to the sentinels too. Needs the feature `tls`. Default: as the URL says, with the
    /// system's certificate authorities.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The name that the server lists these connections under; empty for none. Default: `larder`.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// How many sockets share the load of one server, 1 to 64. Default: one for every two
    /// cores, at most 4. More do not make a server faster that works on one core, and reads of single keys go out together
    /// only with others of their socket: on two cores one socket carried more reads than two.
    pub fn sockets(mut self, sockets: usize) -> Self {
        self.sockets = Some(sockets);
        self
    }

    /// How many of them are kept open to each server that was used, without traffic too, 0 to `sockets`: they are opened
    /// ahead and stay when others are closed for idleness. Default: 1.
    pub fn min_sockets(mut self, sockets: usize) -> Self {
        self.min_sockets = Some(sockets);
        self
    }

    /// After how long a socket is replaced, at least 1 s, less up to 10 % at random so that not all are replaced at once.
    /// The new one is opened beside the old one, and no call waits for it. `Duration::MAX` is never. Default: 30 min.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// After how long without an answer a socket beyond [`min_sockets`](Self::min_sockets) is closed, at least 1 s.
    /// `Duration::MAX` is never. Default: 10 min.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle_timeout = Some(idle);
        self
    }

    /// How long connecting may take, name resolution and login included. Default: 1 s.
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = Some(deadline);
        self
    }

    /// How long one round trip may take. Default: 500 ms. A reader may well give up earlier by dropping the future.
    pub fn command_deadline(mut self, deadline: Duration) -> Self {
        self.command_deadline = Some(deadline);
        self
    }

    /// The largest value that is sent, in bytes, up to 512 MiB. Default: 8 MiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = Some(bytes);
        self
    }

    /// How many calls may wait for an answer at once; further ones are refused. Default: 4096.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = Some(calls);
        self
    }

    /// How many keys of a batch go out in one round trip. Default: 1024, which keeps a server busy for about a
    /// millisecond.
    pub fn batch_keys(mut self, keys: usize) -> Self {
        self.batch_keys = Some(keys);
        self
    }

    /// How many bytes of a batch go out in one round trip; a larger single value goes by itself. Default: 1 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = Some(bytes);
        self
    }

    /// After how much silence the kernel probes a TCP connection, at least 1 s; a peer that answers none of three probes a
    /// second apart is gone. Default: 5 s.
    pub fn keepalive(mut self, silence: Duration) -> Self {
        self.keepalive = Some(silence);
        self
    }

    /// How long sent bytes may stay unacknowledged by the peer's kernel until the connection counts as dead, at least
    /// 10 ms (Linux only). Default: 5 s.
    pub fn user_timeout(mut self, timeout: Duration) -> Self {
        self.user_timeout = Some(timeout);
        self
    }

    /// After how long without an answer a socket must prove itself by a PING before it is used again. Default: 30 s.
    pub fn idle_check(mut self, idle: Duration) -> Self {
        self.idle_check = Some(idle);
        self
    }
}
