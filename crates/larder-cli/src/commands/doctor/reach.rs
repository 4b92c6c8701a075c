//! Why a server cannot be examined.

use larder_core::{Error, ErrorKind};

use super::finding::{Finding, Grade};

pub(super) const CHECK: &str = "connection";

/// The error says what is wrong with the connection; what to change on this command line comes in addition.
pub(super) fn finding(error: &Error) -> Finding {
    Finding::new(CHECK, error.to_string(), Grade::Failure, todo(error))
}

fn todo(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Unavailable if error.operation() == "cluster_slots" => {
            "start the nodes that are missing, and assign their slots: redis-cli --cluster check"
        }
        ErrorKind::Unavailable => {
            "check that the server runs, and that --redis or LARDER_REDIS_URL names it; a server that wants TLS is named with \
             rediss:// (--tls-ca names its certificate authority), one without TLS with redis://"
        }
        ErrorKind::Timeout => {
            "the server, or a firewall, is silent: look at its load and for slow commands; --deadline allows more time"
        }
        ErrorKind::Auth => "check user and password in --redis or LARDER_REDIS_URL, and the user's ACL (docs/redis.md)",
        ErrorKind::Loading => "wait until the server has read its data; a cache that starts empty is there at once",
        ErrorKind::Protocol => {
            "check host and port: something else than a Redis server answers there, or one that wants TLS (rediss://)"
        }
        ErrorKind::Config => "correct --redis: its forms are shown by larder --help",
        _ => "look at the server's log",
    }
}
