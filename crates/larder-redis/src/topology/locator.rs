//! Where the connections of a node lead, asked anew for each of them.

use std::{fmt, sync::Arc};

use larder_core::{Error, ErrorKind};
use redis::{ErrorKind as RedisKind, ServerErrorKind, Value, aio::MultiplexedConnection};

use super::sentinel::Sentinels;
use crate::{
    RedisConfig,
    config::Address,
    manager::{ConnectError, ask},
};

/// What a node is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes, and reads that must see them.
    Primary,
    /// Reads that may be late.
    Replica,
}

#[derive(Debug)]
pub(crate) enum Locator {
    /// A server at a fixed address. As a replica, one of a cluster.
    Fixed(Address, Role),
    /// What the sentinels say.
    Sentinel(Arc<Sentinels>, Role),
}

impl Locator {
    pub(crate) fn is_primary(&self) -> bool {
        matches!(self, Self::Fixed(_, Role::Primary) | Self::Sentinel(_, Role::Primary))
    }

    /// The address, where it is fixed.
    pub(crate) fn address(&self) -> Option<&Address> {
        match self {
            Self::Fixed(address, _) => Some(address),
            Self::Sentinel(..) => None,
        }
    }

    pub(crate) async fn locate(&self, config: &RedisConfig) -> Result<Address, ConnectError> {
        match self {
            Self::Fixed(address, _) => Ok(address.clone()),
            Self::Sentinel(sentinels, Role::Primary) => sentinels.primary(config).await,
            Self::Sentinel(sentinels, Role::Replica) => sentinels.replica(config).await,
        }
    }

    /// Makes sure that a new connection leads to what was meant.
    pub(crate) async fn check(&self, connection: &mut MultiplexedConnection) -> Result<(), ConnectError> {
        match self {
            Self::Fixed(_, Role::Primary) => Ok(()),
            // Without this a replica of a cluster sends readers to its primary.
            Self::Fixed(_, Role::Replica) => Ok(ask(connection, &redis::cmd("READONLY")).await.map(drop)?),
            Self::Sentinel(_, role) => check_role(connection, *role).await,
        }
    }
}

/// A sentinel may name a server that is no primary yet, or not any more.
async fn check_role(connection: &mut MultiplexedConnection, wanted: Role) -> Result<(), ConnectError> {
    let role = match ask(connection, &redis::cmd("ROLE")).await {
        // A user may well be without this right. Writes then find out.
        Err(error) if error.kind() == RedisKind::Server(ServerErrorKind::NoPerm) => return Ok(()),
        answer => answer?,
    };
    let is_primary = match &role {
        Value::Array(parts) => match parts.first() {
            Some(Value::BulkString(name)) => name == b"master",
            Some(Value::SimpleString(name)) => name == "master",
            _ => false,
        },
        _ => false,
    };
    if is_primary == (wanted == Role::Primary) {
        return Ok(());
    }
    let message = "the server that the sentinels name has another role at present; a failover is under way";
    Err(Error::new(ErrorKind::Unavailable, "connect", message).into())
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address, _) => address.fmt(f),
            Self::Sentinel(sentinels, Role::Primary) => write!(f, "{}, primary", sentinels.service()),
            Self::Sentinel(sentinels, Role::Replica) => write!(f, "{}, replica", sentinels.service()),
        }
    }
}
