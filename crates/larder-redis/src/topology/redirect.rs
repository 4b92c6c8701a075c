//! What a node of a cluster says when it does not carry a command out. The command had no effect, so that it may be sent
//! again elsewhere.
//!
//! Source: "Redis cluster specification", MOVED and ASK redirection.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use crate::{config::Address, error::first_of_transaction};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot belongs to another node, from now on.
    Moved { slot: u16, address: Address },
    /// This key has gone to another node already, or would be created there; the slot's other keys may still be here.
    Ask { address: Address },
    /// The slot is between two nodes, or between two primaries.
    Later,
}

impl Redirect {
    pub(crate) fn of_error(error: &RedisError, origin: &Address) -> Option<Self> {
        // Within a transaction it is the first command that is refused with a reason.
        let error = first_of_transaction(error.clone());
        match error.kind() {
            ErrorKind::Server(kind) => Self::of(kind, error.detail(), origin),
            _ => None,
        }
    }

    pub(crate) fn of_value(value: &Value, origin: &Address) -> Option<Self> {
        match value {
            Value::ServerError(error) => Self::of(error.kind()?, error.details(), origin),
            _ => None,
        }
    }

    fn of(kind: ServerErrorKind, detail: Option<&str>, origin: &Address) -> Option<Self> {
        match kind {
            ServerErrorKind::Moved => {
                let (slot, address) = target(detail?, origin)?;
                Some(Self::Moved { slot, address })
            }
            ServerErrorKind::Ask => target(detail?, origin).map(|(_, address)| Self::Ask { address }),
            ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown => Some(Self::Later),
            _ => None,
        }
    }
}

/// `slot host:port`. Without a host it is the one that answered.
fn target(detail: &str, origin: &Address) -> Option<(u16, Address)> {
    let (slot, endpoint) = detail.trim().split_once(' ')?;
    let (host, port) = endpoint.rsplit_once(':')?;
    Some((slot.parse().ok()?, at(host, port.parse().ok()?, origin)))
}

/// The address of a node as another one tells it, which may not know its host.
pub(super) fn at(host: &str, port: u16, origin: &Address) -> Address {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match origin {
        Address::Tcp { host: own, .. } if host.is_empty() || host == "?" => Address::tcp(own, port),
        _ => Address::tcp(host, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(line: &str) -> Option<Redirect> {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = &value else { panic!("{value:?}") };
        let origin = Address::tcp("origin", 1);
        let told = Redirect::of_value(&value, &origin);
        assert_eq!(told, Redirect::of_error(&error.clone().into(), &origin));
        told
    }

    #[test]
    fn a_refusal_says_where_to_go() {
        let moved = |slot, host: &str| Some(Redirect::Moved { slot, address: Address::tcp(host, 6381) });
        assert_eq!(redirect("MOVED 3999 127.0.0.1:6381"), moved(3999, "127.0.0.1"));
        assert_eq!(redirect("MOVED 3999 :6381"), moved(3999, "origin"));
        assert_eq!(redirect("MOVED 3999 ::1:6381"), moved(3999, "::1"));
        assert_eq!(redirect("ASK 3999 h:6381"), Some(Redirect::Ask { address: Address::tcp("h", 6381) }));
        assert_eq!(redirect("TRYAGAIN Multiple keys request during rehashing of slot"), Some(Redirect::Later));
        assert_eq!(redirect("CLUSTERDOWN The cluster is down"), Some(Redirect::Later));
    }

    #[test]
    fn other_refusals_and_broken_ones_lead_nowhere() {
        for line in ["OOM command not allowed", "ERR no", "MOVED", "MOVED x h:1", "MOVED 1 h", "MOVED 1 h:x"] {
            assert_eq!(redirect(line), None, "{line}");
        }
    }
}
