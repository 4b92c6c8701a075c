//! User and password: fixed, or from a provider that rotates them.

use std::fmt;

use async_trait::async_trait;
use larder_core::Result;

/// A password that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) Option<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(redacted)" } else { "None" })
    }
}

/// What a connection logs in with. `Debug` does not show the password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: Secret,
}

impl Credentials {
    /// The server's `default` user.
    #[must_use]
    pub fn password(password: impl Into<String>) -> Self {
        Self { user: None, password: Secret(Some(password.into())) }
    }

    /// A user of the server's ACL.
    #[must_use]
    pub fn user(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(user.into()), password: Secret(Some(password.into())) }
    }
}

/// Where credentials that rotate come from: a secret store, a file that is replaced, tokens of a cloud's identity service.
///
/// Asked for each new connection, within the connect deadline, so a provider should keep what it fetched. A change needs
/// no call: connections that are open stay logged in as the server allows, and are replaced at the end of their
/// [`max_lifetime`](crate::RedisConfigBuilder::max_lifetime), or as soon as the server refuses a command for want of a
/// login.
#[async_trait]
pub trait CredentialsProvider: Send + Sync + fmt::Debug + 'static {
    /// What to log in with now. An error fails the attempt to connect, which is repeated with growing pauses.
    ///
    /// Dropping the future must leave the provider usable.
    ///
    /// # Errors
    /// Whatever keeps the provider from answering; [`ErrorKind::Auth`](larder_core::ErrorKind::Auth) fits best.
    async fn credentials(&self) -> Result<Credentials>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_output_shows_a_password() {
        let shown = format!("{:?} {:?}", Credentials::user("ada", "hunter2"), Credentials::password("hunter2"));
        assert!(shown.contains("ada") && !shown.contains("hunter2"), "{shown}");
    }
}
