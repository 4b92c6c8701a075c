//! How to reach the server, and the bounds of every call.

use std::{fmt, path::PathBuf, thread, time::Duration};

use larder_core::{Error, Result};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 6379;

/// What the server itself takes at most as one value.
const LARGEST_VALUE: usize = 512 << 20;

/// Where a server is, how to log in, and the bounds of every call. Checked when it is built.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    pub(crate) address: Address,
    pub(crate) database: u32,
    pub(crate) user: Option<String>,
    pub(crate) password: Secret,
    pub(crate) client_name: String,
    pub(crate) sockets: usize,
    pub(crate) connect_deadline: Duration,
    pub(crate) command_deadline: Duration,
    pub(crate) max_value_bytes: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) batch_keys: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) keepalive: Duration,
    pub(crate) user_timeout: Duration,
    pub(crate) idle_check: Duration,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A password that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) Option<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(redacted)" } else { "None" })
    }
}

impl RedisConfig {
    /// Everything at its default: a server on `127.0.0.1:6379`, database 0, no password.
    pub fn builder() -> RedisConfigBuilder {
        RedisConfigBuilder::default()
    }

    /// A URL, and everything else at its default; the forms are those of [`RedisConfigBuilder::url`].
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the part that is wrong. The URL itself is not shown, since it
    /// may hold a password.
    pub fn from_url(url: impl Into<String>) -> Result<Self> {
        Self::builder().url(url).build()
    }

    /// What the client library needs to connect, without socket options.
    pub(crate) fn connection_info(&self) -> Result<ConnectionInfo> {
        let address = match &self.address {
            Address::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
            Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let mut login = RedisConnectionInfo::default().set_db(i64::from(self.database));
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password.0 {
            login = login.set_password(password);
        }
        let info = address.into_connection_info();
        Ok(info.map_err(|error| Error::config("host", error))?.set_redis_settings(login))
    }
}

/// Builds a [`RedisConfig`]. What is set by a method of its own goes before what the URL says.
#[derive(Clone, Debug, Default)]
#[must_use = "call `build` to get the configuration"]
pub struct RedisConfigBuilder {
    url: Secret,
    host: Option<String>,
    port: Option<u16>,
    unix_socket: Option<PathBuf>,
    database: Option<u32>,
    user: Option<String>,
    password: Secret,
    client_name: Option<String>,
    sockets: Option<usize>,
    connect_deadline: Option<Duration>,
    command_deadline: Option<Duration>,
    max_value_bytes: Option<usize>,
    max_in_flight: Option<usize>,
    batch_keys: Option<usize>,
    batch_bytes: Option<usize>,
    keepalive: Option<Duration>,
    user_timeout: Option<Duration>,
    idle_check: Option<Duration>,
}

impl RedisConfigBuilder {
    /// `redis://[user:password@]host[:port][/database]`, or `unix:///path[?db=1&user=..&pass=..]`; `valkey` may stand
    /// for `redis`.
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

    /// The number of the database. Default: 0.
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

    /// The name that the server lists these connections under; empty for none. Default: `larder`.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// How many sockets share the load, 1 to 64. Default: one a core, at least 2 and at most 4: more do not make a server
    /// faster that works on one core.
    pub fn sockets(mut self, sockets: usize) -> Self {
        self.sockets = Some(sockets);
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

    /// Checks everything.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting that is wrong and what would be right.
    pub fn build(self) -> Result<RedisConfig> {
        let from_url = self.url.0.as_deref().map(parse_url).transpose()?.unwrap_or_default();
        let password = Secret(self.password.0.or(from_url.password));
        let user = self.user.or(from_url.user);
        if user.is_some() && password.0.is_none() {
            return Err(Error::config("password", "a user is set but no password; give both or neither"));
        }
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Ok(RedisConfig {
            address: address(from_url.address, self.host, self.port, self.unix_socket)?,
            database: self.database.unwrap_or(from_url.database),
            user,
            password,
            client_name: client_name(self.client_name)?,
            sockets: within("sockets", self.sockets, cores.clamp(2, 4), 1, 64)?,
            connect_deadline: deadline("connect_deadline", self.connect_deadline, Duration::from_secs(1))?,
            command_deadline: deadline("command_deadline", self.command_deadline, Duration::from_millis(500))?,
            max_value_bytes: within("max_value_bytes", self.max_value_bytes, 8 << 20, 1, LARGEST_VALUE)?,
            max_in_flight: within("max_in_flight", self.max_in_flight, 4096, 1, 1 << 20)?,
            batch_keys: within("batch_keys", self.batch_keys, 1024, 1, 100_000)?,
            batch_bytes: within("batch_bytes", self.batch_bytes, 1 << 20, 1, LARGEST_VALUE)?,
            keepalive: at_least("keepalive", self.keepalive, Duration::from_secs(5), Duration::from_secs(1))?,
            user_timeout: at_least(
                "user_timeout",
                self.user_timeout,
                Duration::from_secs(5),
                Duration::from_millis(10),
            )?,
            idle_check: at_least("idle_check", self.idle_check, Duration::from_secs(30), Duration::from_millis(1))?,
        })
    }
}

/// What a URL says.
#[derive(Default)]
struct FromUrl {
    address: Option<Address>,
    database: u32,
    user: Option<String>,
    password: Option<String>,
}

fn parse_url(url: &str) -> Result<FromUrl> {
    if url.starts_with("rediss:") || url.starts_with("valkeys:") {
        return Err(Error::config("url", "TLS is not offered by this version; use redis:// within a trusted network"));
    }
    // The library's errors say which part is wrong without repeating the URL.
    let info = url.into_connection_info().map_err(|error| {
        Error::config("url", format_args!("{error}; write it as redis://[user:password@]host[:port][/database]"))
    })?;
    let login = info.redis_settings();
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Address::Tcp { host: host.clone(), port: *port },
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        other => return Err(Error::config("url", format_args!("{other} is an address of a kind that is not offered"))),
    };
    let database = u32::try_from(login.db())
        .map_err(|_| Error::config("url", format_args!("{} is no number of a database; 0 is the first", login.db())))?;
    let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(FromUrl { address: Some(address), database, user: owned(login.username()), password: owned(login.password()) })
}

fn address(
    from_url: Option<Address>,
    host: Option<String>,
    port: Option<u16>,
    unix_socket: Option<PathBuf>,
) -> Result<Address> {
    if let Some(path) = unix_socket {
        if host.is_some() || port.is_some() {
            return Err(Error::config("unix_socket", "`host` or `port` is set too; give the one or the other"));
        }
        return Ok(Address::Unix(path));
    }
    let (url_host, url_port) = match from_url {
        Some(Address::Unix(path)) if host.is_none() && port.is_none() => return Ok(Address::Unix(path)),
        Some(Address::Tcp { host, port }) => (Some(host), Some(port)),
        _ => (None, None),
    };
    let host = host.or(url_host).unwrap_or_else(|| DEFAULT_HOST.to_owned());
    if host.is_empty() || host.chars().any(char::is_whitespace) {
        return Err(Error::config("host", format_args!("{host:?} is no host name; give a name or an address")));
    }
    let port = port.or(url_port).unwrap_or(DEFAULT_PORT);
    if port == 0 {
        return Err(Error::config("port", "0 is no port to connect to; Redis listens on 6379 unless told otherwise"));
    }
    Ok(Address::Tcp { host, port })
}

fn client_name(name: Option<String>) -> Result<String> {
    let name = name.unwrap_or_else(|| "larder".to_owned());
    if name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(name);
    }
    Err(Error::config("client_name", format_args!("{name:?} holds what is no visible ASCII character; use a-z and -")))
}

fn within(field: &'static str, given: Option<usize>, default: usize, least: usize, most: usize) -> Result<usize> {
    match given {
        None => Ok(default),
        Some(value) if (least..=most).contains(&value) => Ok(value),
        Some(value) => Err(Error::config(field, format_args!("{value} is not between {least} and {most}"))),
    }
}

fn deadline(field: &'static str, given: Option<Duration>, default: Duration) -> Result<Duration> {
    let most = Duration::from_secs(3600);
    match given {
        Some(value) if value > most => Err(Error::config(field, format_args!("{value:?} is more than an hour"))),
        given => at_least(field, given, default, Duration::from_millis(1)),
    }
}

fn at_least(field: &'static str, given: Option<Duration>, default: Duration, least: Duration) -> Result<Duration> {
    match given {
        None => Ok(default),
        Some(value) if value >= least => Ok(value),
        Some(value) => Err(Error::config(field, format_args!("{value:?} is less than {least:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_address_database_and_login() {
        let config = RedisConfig::from_url("redis://ada:s%3Acret@cache.internal:7000/3").unwrap();
        assert_eq!(config.address.to_string(), "cache.internal:7000");
        assert_eq!(config.database, 3);
        assert_eq!(config.user.as_deref(), Some("ada"));
        assert_eq!(config.password.0.as_deref(), Some("s:cret"));
    }

    #[test]
    fn unix_sockets_and_ipv6_addresses_are_understood() {
        let unix = RedisConfig::from_url("unix:///run/redis.sock?db=2").unwrap();
        assert_eq!((unix.address.to_string(), unix.database), ("/run/redis.sock".to_owned(), 2));
        assert_eq!(RedisConfig::from_url("redis://[::1]:6380").unwrap().address.to_string(), "[::1]:6380");
    }

    #[test]
    fn what_is_set_by_its_own_method_goes_before_the_url() {
        let builder = RedisConfig::builder().url("redis://one:1/1").host("two").database(2).password("p");
        let config = builder.build().unwrap();
        assert_eq!((config.address.to_string(), config.database), ("two:1".to_owned(), 2));
    }

    #[test]
    fn no_debug_output_shows_a_password() {
        let builder = RedisConfig::builder().url("redis://u:hunter2@h").password("hunter2");
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let zero = Duration::ZERO;
        for (builder, field) in [
            (RedisConfig::builder().url("http://x:hunter2@y"), "`url`"),
            (RedisConfig::builder().url("rediss://x"), "`url`"),
            (RedisConfig::builder().url("redis://x/seven"), "`url`"),
            (RedisConfig::builder().url("redis://x/-1"), "`url`"),
            (RedisConfig::builder().host("a b"), "`host`"),
            (RedisConfig::builder().port(0), "`port`"),
            (RedisConfig::builder().host("a").unix_socket("/s"), "`unix_socket`"),
            (RedisConfig::builder().user("ada"), "`password`"),
            (RedisConfig::builder().client_name("two words"), "`client_name`"),
            (RedisConfig::builder().sockets(0), "`sockets`"),
            (RedisConfig::builder().connect_deadline(zero), "`connect_deadline`"),
            (RedisConfig::builder().command_deadline(Duration::MAX), "`command_deadline`"),
            (RedisConfig::builder().max_value_bytes(1 << 30), "`max_value_bytes`"),
            (RedisConfig::builder().max_in_flight(0), "`max_in_flight`"),
            (RedisConfig::builder().batch_keys(0), "`batch_keys`"),
            (RedisConfig::builder().batch_bytes(0), "`batch_bytes`"),
            (RedisConfig::builder().keepalive(zero), "`keepalive`"),
            (RedisConfig::builder().user_timeout(zero), "`user_timeout`"),
            (RedisConfig::builder().idle_check(zero), "`idle_check`"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), larder_core::ErrorKind::Config);
            assert!(error.message().contains(field), "{field}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
