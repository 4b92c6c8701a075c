//! Whether the settings make sense, and what holds where none was given.

use std::{sync::Arc, thread, time::Duration};

use larder_core::{Error, Result};

use super::{
    Address, Login, Place, RedisConfig, RedisConfigBuilder,
    url::{self, DEFAULT_PORT, FromUrl, SENTINEL_PORT},
};
use crate::{
    login::{Credentials, Secret},
    tls::TlsConfig,
};

const DEFAULT_HOST: &str = "127.0.0.1";

/// What the server itself takes at most as one value.
const LARGEST_VALUE: usize = 512 << 20;

impl RedisConfigBuilder {
    /// Checks everything.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting that is wrong and what would be right.
    pub fn build(self) -> Result<RedisConfig> {
        let from_url = self.url.0.as_deref().map(url::parse).transpose()?.unwrap_or_default();
        let tls = self.tls.clone().or_else(|| from_url.tls.then(TlsConfig::new));
        if tls.is_some() && !cfg!(feature = "tls") {
            let message = "TLS is asked for, but this build lacks it; turn on the feature `tls`";
            return Err(Error::config("tls", message));
        }
        let database = self.database.unwrap_or(from_url.database);
        let place = self.place(&from_url)?;
        match &place {
            Place::Cluster { .. } if database != 0 => {
                return Err(Error::config("database", format_args!("a cluster has no database {database}, only 0")));
            }
            Place::Server(Address::Unix(_)) if tls.is_some() => {
                return Err(Error::config("tls", "a unix socket has no TLS; leave it out, or give host and port"));
            }
            _ => {}
        }
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let sockets = within("sockets", self.sockets, cores.div_ceil(2).min(4), 1, 64)?;
        let second = Duration::from_secs(1);
        Ok(RedisConfig {
            place,
            database,
            login: self.login(from_url.login)?,
            sentinel_login: login_of("sentinel_password", self.sentinel_user, self.sentinel_password)?,
            tls,
            client_name: client_name(self.client_name)?,
            sockets,
            min_sockets: within("min_sockets", self.min_sockets, 1, 0, sockets)?,
            max_lifetime: span("max_lifetime", self.max_lifetime, Duration::from_secs(30 * 60))?,
            idle_timeout: span("idle_timeout", self.idle_timeout, Duration::from_secs(10 * 60))?,
            connect_deadline: deadline("connect_deadline", self.connect_deadline, second)?,
            command_deadline: deadline("command_deadline", self.command_deadline, second / 2)?,
            max_value_bytes: within("max_value_bytes", self.max_value_bytes, 8 << 20, 1, LARGEST_VALUE)?,
            max_in_flight: within("max_in_flight", self.max_in_flight, 4096, 1, 1 << 20)?,
            batch_keys: within("batch_keys", self.batch_keys, 1024, 1, 100_000)?,
            batch_bytes: within("batch_bytes", self.batch_bytes, 1 << 20, 1, LARGEST_VALUE)?,
            keepalive: at_least("keepalive", self.keepalive, second * 5, second)?,
            user_timeout: at_least("user_timeout", self.user_timeout, second * 5, Duration::from_millis(10))?,
            idle_check: at_least("idle_check", self.idle_check, second * 30, Duration::from_millis(1))?,
        })
    }

    /// Where the servers are: what was set by its own method, else what the URL says.
    fn place(&self, from_url: &FromUrl) -> Result<Place> {
        let single = self.host.is_some() || self.port.is_some();
        let given = [single, self.unix_socket.is_some(), self.sentinels.is_some(), self.cluster.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            let message = "only one of `host` and `port`, `unix_socket`, `sentinels` and `cluster` can be set";
            let field = if self.unix_socket.is_some() { "unix_socket" } else { "host" };
            return Err(Error::config(field, message));
        }
        if let Some(path) = &self.unix_socket {
            return Ok(Place::Server(Address::Unix(path.clone())));
        }
        if let Some((sentinels, service)) = &self.sentinels {
            if service.is_empty() {
                return Err(Error::config("sentinels", "the name of the service is empty, such as `mymaster`"));
            }
            let sentinels = addresses("sentinels", sentinels, SENTINEL_PORT)?;
            return Ok(Place::Sentinel { sentinels, service: service.clone() });
        }
        if let Some(nodes) = &self.cluster {
            return Ok(Place::Cluster { seeds: addresses("cluster", nodes, DEFAULT_PORT)? });
        }
        let url_address = match &from_url.place {
            Some(Place::Server(address)) => Some(address),
            Some(_) if single => {
                let message = "the URL names several servers, which `host` and `port` cannot change";
                return Err(Error::config("host", message));
            }
            Some(place) => return Ok(place.clone()),
            None => None,
        };
        self.server(url_address).map(Place::Server)
    }

    fn server(&self, from_url: Option<&Address>) -> Result<Address> {
        let (url_host, url_port) = match from_url {
            Some(Address::Unix(path)) if self.host.is_none() && self.port.is_none() => {
                return Ok(Address::Unix(path.clone()));
            }
            Some(Address::Tcp { host, port }) => (Some(host), Some(*port)),
            _ => (None, None),
        };
        let host = self.host.as_ref().or(url_host).map_or(DEFAULT_HOST, String::as_str);
        if host.is_empty() || host.chars().any(char::is_whitespace) {
            return Err(Error::config("host", format_args!("{host:?} is no host name; give a name or an address")));
        }
        let port = self.port.or(url_port).unwrap_or(DEFAULT_PORT);
        if port == 0 {
            let message = "0 is no port to connect to; Redis listens on 6379 unless told otherwise";
            return Err(Error::config("port", message));
        }
        Ok(Address::tcp(host, port))
    }

    fn login(&self, from_url: Credentials) -> Result<Login> {
        if let Some(provider) = &self.provider {
            if self.user.is_some() || self.password.0.is_some() {
                let message = "`user` or `password` is set too; give the provider or them";
                return Err(Error::config("credentials", message));
            }
            return Ok(Login::Provider(Arc::clone(provider)));
        }
        let user = self.user.clone().or(from_url.user);
        let password = Secret(self.password.0.clone().or(from_url.password.0));
        login_of("password", user, password).map(Login::Fixed)
    }
}

fn login_of(field: &'static str, user: Option<String>, password: Secret) -> Result<Credentials> {
    if user.is_some() && password.0.is_none() {
        return Err(Error::config(field, "a user is set but no password; give both or neither"));
    }
    Ok(Credentials { user, password })
}

fn addresses(field: &'static str, texts: &[String], default_port: u16) -> Result<Vec<Address>> {
    if texts.is_empty() {
        return Err(Error::config(field, "the list is empty; name at least one as host:port"));
    }
    texts.iter().map(|text| Address::parse(field, text, default_port)).collect()
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

/// A time after which something ends; without end where it is longer than a century.
fn span(field: &'static str, given: Option<Duration>, default: Duration) -> Result<Option<Duration>> {
    let span = at_least(field, given, default, Duration::from_secs(1))?;
    Ok((span < Duration::from_secs(100 * 366 * 24 * 3600)).then_some(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> Place {
        Place::Server(Address::tcp(host, port))
    }

    #[test]
    fn a_url_sets_address_database_and_login() {
        let config = RedisConfig::from_url("redis://ada:s%3Acret@cache.internal:7000/3").unwrap();
        assert_eq!(config.place, server("cache.internal", 7000));
        assert_eq!(config.database, 3);
        assert!(matches!(config.login, Login::Fixed(login) if login == Credentials::user("ada", "s:cret")));
    }

    #[test]
    fn unix_sockets_and_ipv6_addresses_are_understood() {
        let unix = RedisConfig::from_url("unix:///run/redis.sock?db=2").unwrap();
        assert_eq!((unix.place, unix.database), (Place::Server(Address::Unix("/run/redis.sock".into())), 2));
        assert_eq!(RedisConfig::from_url("redis://[::1]:6380").unwrap().place, server("::1", 6380));
    }

    #[test]
    fn what_is_set_by_its_own_method_goes_before_the_url() {
        let builder = RedisConfig::builder().url("redis://one:1/1").host("two").database(2).password("p");
        let config = builder.build().unwrap();
        assert_eq!((config.place, config.database), (server("two", 1), 2));
        let builder = RedisConfig::builder().url("redis://one/1").sentinels(["two"], "primary");
        let sentinels = vec![Address::tcp("two", SENTINEL_PORT)];
        assert_eq!(builder.build().unwrap().place, Place::Sentinel { sentinels, service: "primary".to_owned() });
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
            (RedisConfig::builder().url("redis://x/seven"), "`url`"),
            (RedisConfig::builder().url("redis://x/-1"), "`url`"),
            (RedisConfig::builder().host("a b"), "`host`"),
            (RedisConfig::builder().port(0), "`port`"),
            (RedisConfig::builder().host("a").unix_socket("/s"), "`unix_socket`"),
            (RedisConfig::builder().sentinels(["a"], ""), "`sentinels`"),
            (RedisConfig::builder().sentinels(Vec::<String>::new(), "m"), "`sentinels`"),
            (RedisConfig::builder().cluster(["a:b:c"]), "`cluster`"),
            (RedisConfig::builder().cluster(["a"]).port(1), "`host`"),
            (RedisConfig::builder().url("redis-cluster://a").port(1), "`host`"),
            (RedisConfig::builder().url("redis-cluster://a").database(1), "`database`"),
            (RedisConfig::builder().user("ada"), "`password`"),
            (RedisConfig::builder().sentinel_user("ada"), "`sentinel_password`"),
            (RedisConfig::builder().min_sockets(65), "`min_sockets`"),
            (RedisConfig::builder().max_lifetime(zero), "`max_lifetime`"),
            (RedisConfig::builder().idle_timeout(zero), "`idle_timeout`"),
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

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_is_refused_where_it_is_not_built_in() {
        let error = RedisConfig::from_url("rediss://x").unwrap_err();
        assert!(error.message().contains("`tls`"), "{error}");
    }

    #[test]
    fn what_never_ends_is_said_by_the_longest_duration() {
        let config = RedisConfig::builder().max_lifetime(Duration::MAX).idle_timeout(Duration::MAX).build().unwrap();
        assert_eq!((config.max_lifetime, config.idle_timeout), (None, None));
    }
}
