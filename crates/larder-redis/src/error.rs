//! What the server and the connection say, as Larder's errors.

use larder_core::{Error, ErrorKind};
use redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind};

use crate::{manager::ConnectError, topology::Redirect};

/// A kind and what to do about it.
type Verdict = (ErrorKind, &'static str);

const OUTCOME: &str = "no answer within the deadline; whether a write took place is unknown";
const REFUSED: &str = "nothing listens at the server's address; start it, or correct host and port";
const BROKEN: &str =
    "the connection to the server broke, and the next call opens another; whether a write took place is unknown";
const CLOSED: &str = "the server closed the connection as soon as it was opened; see its log: it may lack room (`maxclients`), or want TLS or \
     another client certificate";
#[cfg(feature = "tls")]
const CERTIFICATE: &str = "the server's certificate is not trusted; give the authority that signed it (`TlsConfig::ca_pem`), \
                           and the host name that it was made for";
#[cfg(feature = "tls")]
const CLIENT_CERTIFICATE: &str =
    "the server refused this client's certificate, or wants one; give it by `TlsConfig::client_pem`";
#[cfg(feature = "tls")]
const NO_TLS: &str = "the peer does not speak TLS as it should; is this the server's port for TLS?";
const UNRESOLVED: &str = "the server's host name cannot be resolved; correct it, or look at the name service";
const LOGIN: &str = "the server refused user or password, or wants some; correct the settings `user` and `password`";
const RIGHTS: &str = "the user lacks the right for this; extend its ACL on the server";
const READ_ONLY: &str = "the server is a replica and takes no writes; connect to the primary";
const CANNOT_PERSIST: &str = "the server takes no writes, since it cannot persist or replicate; see its log";
const LOADING: &str = "the server is still loading its data; try again later";
const FULL: &str = "the server is at its memory limit and evicts nothing; raise `maxmemory` or set `maxmemory-policy`";
const CROSS_SLOT: &str = "the keys lie in different slots; use one key, or a hash tag";
const PRIMARY_DOWN: &str = "the replica has lost its primary; wait for the failover";
const CLUSTER: &str = "the server is a node of a cluster and does not hold this key; connect to a single server";
const CLUSTER_DOWN: &str = "the cluster cannot answer for this key now; try again later";
const BUSY: &str = "the server is busy with a script; try again later, or kill the script";
const FULL_OF_CLIENTS: &str = "the server has no room for another client; raise its `maxclients`";
const WRONG_TYPE: &str = "the key holds another kind of value; use another key, or delete it";
const NO_INTEGER: &str = "the value is not the decimal text of a signed 64-bit integer, so it is no counter";
const OVERFLOW: &str = "the counter would leave the range of a signed 64-bit integer; it is unchanged";
const NO_DATABASE: &str =
    "`database`: the server has no database of this number; choose a lower one, or raise `databases`";
const NO_SYNTAX: &str = "the server does not know this form of the command; version 7.0 or later is needed";
const GARBAGE: &str = "the answer is not what the protocol allows; is this a Redis server?";

/// An error of the client library, told apart.
pub(crate) fn from_redis(operation: &'static str, error: RedisError) -> Error {
    let error = first_of_transaction(error);
    let (kind, advice) = verdict(&error);
    Error::new(kind, operation, advice).with_source(error)
}

/// A connection that could not be had in time.
pub(crate) fn not_connected_in_time(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "no connection to the server within the connect deadline")
}

/// An answer of a form that was not asked for.
pub(crate) fn unexpected(operation: &'static str, wanted: &str) -> Error {
    Error::new(ErrorKind::Protocol, operation, format!("the server's answer is not {wanted}; is this a Redis server?"))
}

/// A command that the nodes of a cluster went on sending to one another.
pub(crate) fn unsettled(operation: &'static str, last: Option<&Redirect>) -> Error {
    let reason = match last {
        Some(Redirect::Later) | None => CLUSTER_DOWN,
        Some(_) => "the nodes of the cluster do not agree on who holds this key; try again later",
    };
    Error::new(ErrorKind::Unavailable, operation, reason)
}

/// What an attempt to connect failed with. Nothing was sent, so that a time-out leaves no doubt about any write.
pub(crate) fn from_connect(operation: &'static str, error: &ConnectError) -> Error {
    match error {
        ConnectError::Redis(error) if error.is_timeout() => not_connected_in_time(operation),
        ConnectError::Redis(error) if is_broken_link(error) => {
            Error::new(ErrorKind::Unavailable, operation, CLOSED).with_source(error.clone())
        }
        ConnectError::Redis(error) => from_redis(operation, error.clone()),
        ConnectError::Larder(error) => {
            Error::new(error.kind(), operation, error.message().to_owned()).with_source(error.clone())
        }
    }
}

/// Whether the socket that this came from should be replaced.
pub(crate) fn condemns_socket(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.code() == Some("NOAUTH")
}

/// Whether a write was refused because the server is a replica.
pub(crate) fn is_read_only(error: &RedisError) -> bool {
    first_of_transaction(error.clone()).kind() == RedisKind::Server(ServerErrorKind::ReadOnly)
}

/// Whether it was the connection, which a read may try again on another one.
pub(crate) fn is_broken_link(error: &RedisError) -> bool {
    error.is_connection_dropped() && !error.is_connection_refusal() || is_cut_off(error)
}

/// Whether the connection ended within an answer, which the library takes for a wrong one. It has no other sign than the
/// parser's text.
fn is_cut_off(error: &RedisError) -> bool {
    error.kind() == RedisKind::Parse && error.to_string().contains("end of input")
}

/// A transaction that was not carried out says only that; the reason is the first refused command's.
pub(crate) fn first_of_transaction(error: RedisError) -> RedisError {
    if error.kind() != RedisKind::Server(ServerErrorKind::ExecAbort) {
        return error;
    }
    let first = error.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, first)| first.clone()));
    first.map_or(error, RedisError::from)
}

fn verdict(error: &RedisError) -> Verdict {
    #[cfg(feature = "tls")]
    if let Some(verdict) = tls_verdict(error) {
        return verdict;
    }
    match error.kind() {
        RedisKind::Io if error.is_timeout() => (ErrorKind::Timeout, OUTCOME),
        RedisKind::Io if error.is_connection_refusal() => (ErrorKind::Unavailable, REFUSED),
        RedisKind::Io => io_verdict(&error.to_string()),
        RedisKind::AuthenticationFailed => (ErrorKind::Auth, LOGIN),
        RedisKind::Parse if is_cut_off(error) => (ErrorKind::Unavailable, BROKEN),
        RedisKind::Parse | RedisKind::UnexpectedReturnType | RedisKind::RESP3NotSupported => {
            (ErrorKind::Protocol, GARBAGE)
        }
        RedisKind::InvalidClientConfig => (ErrorKind::Config, "the settings of the connection are refused"),
        RedisKind::Server(kind) => server_verdict(kind, error.detail().unwrap_or_default()),
        RedisKind::Extension => code_verdict(error.code().unwrap_or_default()),
        _ => (ErrorKind::Other, "the client library failed"),
    }
}

/// The name service has no error kind of its own that reaches us.
fn io_verdict(text: &str) -> Verdict {
    let is_unresolved = text.contains("failed to lookup address");
    (ErrorKind::Unavailable, if is_unresolved { UNRESOLVED } else { BROKEN })
}

/// What rustls says reaches us within an I/O error. None of it passes by itself.
#[cfg(feature = "tls")]
fn tls_verdict(error: &RedisError) -> Option<Verdict> {
    // The library shares its causes.
    type Shared = std::sync::Arc<dyn std::error::Error + Send + Sync>;
    let cause = std::error::Error::source(error)?.downcast_ref::<Shared>()?.downcast_ref::<std::io::Error>()?;
    Some(match cause.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(_) => (ErrorKind::Auth, CERTIFICATE),
        rustls::Error::AlertReceived(_) => (ErrorKind::Auth, CLIENT_CERTIFICATE),
        _ => (ErrorKind::Protocol, NO_TLS),
    })
}

fn server_verdict(kind: ServerErrorKind, detail: &str) -> Verdict {
    match kind {
        ServerErrorKind::BusyLoading => (ErrorKind::Loading, LOADING),
        ServerErrorKind::ReadOnly => (ErrorKind::ReadOnly, READ_ONLY),
        ServerErrorKind::MasterDown => (ErrorKind::PrimaryDown, PRIMARY_DOWN),
        ServerErrorKind::CrossSlot => (ErrorKind::CrossSlot, CROSS_SLOT),
        ServerErrorKind::NoPerm => (ErrorKind::Auth, RIGHTS),
        ServerErrorKind::Moved | ServerErrorKind::Ask => (ErrorKind::Config, CLUSTER),
        ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain => (ErrorKind::Unavailable, CLUSTER_DOWN),
        ServerErrorKind::ResponseError => detail_verdict(detail),
        _ => (ErrorKind::Other, "the server refused the command"),
    }
}

/// Errors of the general code `ERR` differ only in their text.
fn detail_verdict(detail: &str) -> Verdict {
    let told = [
        ("would overflow", (ErrorKind::Overflow, OVERFLOW)),
        ("not an integer", (ErrorKind::KindMismatch, NO_INTEGER)),
        ("WRONGTYPE", (ErrorKind::KindMismatch, WRONG_TYPE)),
        ("max number of clients", (ErrorKind::Unavailable, FULL_OF_CLIENTS)),
        ("DB index is out of range", (ErrorKind::Config, NO_DATABASE)),
        ("syntax error", (ErrorKind::Unsupported, NO_SYNTAX)),
        ("unknown command", (ErrorKind::Unsupported, NO_SYNTAX)),
    ];
    let found = told.into_iter().find(|(text, _)| detail.contains(text));
    found.map_or((ErrorKind::Other, "the server refused the command"), |(_, verdict)| verdict)
}

fn code_verdict(code: &str) -> Verdict {
    match code {
        "WRONGTYPE" => (ErrorKind::KindMismatch, WRONG_TYPE),
        "OOM" => (ErrorKind::OutOfMemory, FULL),
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Auth, LOGIN),
        "MISCONF" | "NOREPLICAS" => (ErrorKind::ReadOnly, CANNOT_PERSIST),
        "BUSY" => (ErrorKind::Unavailable, BUSY),
        "NOPROTO" => (ErrorKind::Protocol, GARBAGE),
        _ => (ErrorKind::Other, "the server refused the command"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::Value;

    use super::*;

    fn server(line: &str) -> Error {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{value:?}") };
        from_redis("test", error.into())
    }

    #[test]
    fn the_servers_errors_are_told_apart() {
        for (line, kind) in [
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Loading),
            ("READONLY You can't write against a read only replica.", ErrorKind::ReadOnly),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::PrimaryDown),
            ("CROSSSLOT Keys in request don't hash to the same slot", ErrorKind::CrossSlot),
            ("OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::OutOfMemory),
            ("NOAUTH Authentication required.", ErrorKind::Auth),
            ("WRONGPASS invalid username-password pair or user is disabled.", ErrorKind::Auth),
            ("NOPERM this user has no permissions to run the 'set' command", ErrorKind::Auth),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", ErrorKind::KindMismatch),
            ("ERR value is not an integer or out of range", ErrorKind::KindMismatch),
            ("ERR increment or decrement would overflow", ErrorKind::Overflow),
            ("ERR max number of clients reached", ErrorKind::Unavailable),
            ("ERR DB index is out of range", ErrorKind::Config),
            ("ERR syntax error", ErrorKind::Unsupported),
            ("MOVED 3999 127.0.0.1:6381", ErrorKind::Config),
            ("CLUSTERDOWN The cluster is down", ErrorKind::Unavailable),
            ("MISCONF Redis is configured to save RDB snapshots", ErrorKind::ReadOnly),
            ("BUSY Redis is busy running a script.", ErrorKind::Unavailable),
            ("ERR something new", ErrorKind::Other),
        ] {
            let error = server(line);
            assert_eq!(error.kind(), kind, "{line}");
            assert!(!error.message().is_empty() && !error.to_string().contains('\n'), "{error}");
            assert!(error.to_string().contains(line.split_once(' ').unwrap().1), "{error}");
        }
    }

    #[test]
    fn waiting_helps_against_what_passes_by_itself_alone() {
        for line in
            ["LOADING x", "READONLY x", "MASTERDOWN x", "OOM x", "CLUSTERDOWN x", "BUSY x", "MISCONF x", "TRYAGAIN x"]
        {
            assert!(server(line).is_transient(), "{line}");
        }
        for line in ["NOAUTH x", "WRONGPASS x", "NOPERM x", "CROSSSLOT x", "WRONGTYPE x", "NOPROTO x", "MOVED 1 h:1"] {
            assert!(!server(line).is_transient(), "{line}");
        }
    }

    #[test]
    fn an_answer_that_ends_within_is_a_broken_link_and_a_wrong_one_is_not() {
        let parse = |bytes: &[u8]| redis::parse_redis_value(bytes).unwrap_err();
        let cut_off = parse(b"$5\r\nab");
        assert!(is_broken_link(&cut_off), "{cut_off}");
        assert_eq!(from_redis("test", cut_off).kind(), ErrorKind::Unavailable);
        let wrong = parse(b"\x00garbage\r\n");
        assert!(!is_broken_link(&wrong), "{wrong}");
        assert_eq!(from_redis("test", wrong).kind(), ErrorKind::Protocol);
    }

    #[test]
    fn the_connections_errors_are_told_apart() {
        for (io_kind, kind) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout),
            (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unavailable),
        ] {
            assert_eq!(from_redis("test", io::Error::from(io_kind).into()).kind(), kind);
        }
        for (text, part) in [
            ("failed to lookup address information: Name or service not known", "host name"),
            ("something else", "broke"),
        ] {
            let error = from_redis("test", io::Error::other(text).into());
            assert!(error.message().contains(part), "{error}");
        }
        assert!(is_broken_link(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
        assert!(!is_broken_link(&io::Error::from(io::ErrorKind::ConnectionRefused).into()));
    }
}
