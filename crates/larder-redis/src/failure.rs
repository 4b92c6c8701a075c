//! A failed request: the error, and what it says of the socket that carried it.

use std::borrow::Cow;

use larder_core::{Error, ErrorKind};
use redis::RedisError;

use crate::error::{condemns_socket, from_redis};

#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) socket: Socket,
    /// The server has not seen this script yet, and did nothing.
    pub(crate) script_is_unknown: bool,
}

/// What a failure says of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    /// The server answered on it.
    Fine,
    /// Nothing came back in time.
    Silent,
    /// It broke, or its peer is of no use any more: replace it.
    Gone,
}

impl Failure {
    pub(crate) fn new(operation: &'static str, error: RedisError) -> Self {
        let socket = if error.is_timeout() { Socket::Silent } else { verdict(&error) };
        let script_is_unknown = error.code() == Some("NOSCRIPT");
        Self { error: from_redis(operation, error), socket, script_is_unknown }
    }

    pub(crate) fn of(error: Error, socket: Socket) -> Self {
        Self { error, socket, script_is_unknown: false }
    }

    pub(crate) fn silent(operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Error::new(ErrorKind::Timeout, operation, message), Socket::Silent)
    }
}

/// A replica is no use to writers for good, so the address is resolved anew.
fn verdict(error: &RedisError) -> Socket {
    let replace = condemns_socket(error) || error.is_io_error() || error.code() == Some("READONLY");
    if replace { Socket::Gone } else { Socket::Fine }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::{ErrorKind as RedisKind, ServerErrorKind};

    use super::*;

    #[test]
    fn a_socket_outlives_a_refused_command_and_not_a_broken_pipe_or_a_replica() {
        let of = |error: RedisError| Failure::new("test", error).socket;
        assert_eq!(of((RedisKind::Server(ServerErrorKind::ResponseError), "ERR").into()), Socket::Fine);
        assert_eq!(of((RedisKind::Server(ServerErrorKind::ReadOnly), "READONLY").into()), Socket::Gone);
        assert_eq!(of(io::Error::from(io::ErrorKind::BrokenPipe).into()), Socket::Gone);
        assert_eq!(of(io::Error::from(io::ErrorKind::TimedOut).into()), Socket::Silent);
    }
}
