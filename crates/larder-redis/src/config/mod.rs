//! How to reach the server, and the bounds of every call.

mod address;
mod builder;
mod check;
mod url;

use std::{sync::Arc, time::Duration};

use larder_core::Result;

pub(crate) use self::address::{Address, Place};
pub use self::builder::RedisConfigBuilder;
use crate::{
    login::{Credentials, CredentialsProvider},
    tls::TlsConfig,
};

/// Where the servers are, how to log in, and the bounds of every call. Checked when it is built.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    pub(crate) place: Place,
    pub(crate) database: u32,
    pub(crate) login: Login,
    pub(crate) sentinel_login: Credentials,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) client_name: String,
    pub(crate) sockets: usize,
    pub(crate) min_sockets: usize,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
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

/// Where user and password come from.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    Fixed(Credentials),
    Provider(Arc<dyn CredentialsProvider>),
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
}
