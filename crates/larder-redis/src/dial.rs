//! The client library's way to one address, with all socket options, TLS and login.

use std::time::Duration;

use larder_core::{Error, Result};
use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::{
    RedisConfig,
    config::{Address, Login},
    login::Credentials,
};

/// For a server that holds data.
pub(crate) async fn dial(config: &RedisConfig, address: &Address, protocol: ProtocolVersion) -> Result<Client> {
    let credentials = match &config.login {
        Login::Fixed(credentials) => credentials.clone(),
        Login::Provider(provider) => provider.credentials().await?,
    };
    client(config, address, &credentials, config.database, protocol)
}

/// For a sentinel, which has a login of its own, no databases, and keeps to RESP2 in older versions.
pub(crate) fn dial_sentinel(config: &RedisConfig, address: &Address) -> Result<Client> {
    client(config, address, &config.sentinel_login, 0, ProtocolVersion::RESP2)
}

fn client(
    config: &RedisConfig,
    address: &Address,
    credentials: &Credentials,
    database: u32,
    protocol: ProtocolVersion,
) -> Result<Client> {
    let mut login = RedisConnectionInfo::default().set_db(i64::from(database)).set_protocol(protocol);
    if let Some(user) = &credentials.user {
        login = login.set_username(user);
    }
    if let Some(password) = &credentials.password.0 {
        login = login.set_password(password);
    }
    let refused = |error| Error::config("host", error);
    let info = library_address(config, address).into_connection_info().map_err(refused)?;
    let info = info.set_redis_settings(login).set_tcp_settings(tcp_settings(config));
    #[cfg(feature = "tls")]
    if let (Some(tls), Address::Tcp { .. }) = (&config.tls, address) {
        return crate::tls::client(info, tls);
    }
    Client::open(info).map_err(refused)
}

fn library_address(config: &RedisConfig, address: &Address) -> ConnectionAddr {
    match address {
        Address::Tcp { host, port } if config.tls.is_some() => {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        }
        Address::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
    }
}

/// The library's own defaults have Nagle's delay on, and notice a dead peer when the kernel gives up.
fn tcp_settings(config: &RedisConfig) -> TcpSettings {
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(config.keepalive).with_interval(second).with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(config.user_timeout);
    settings
}
