//! What a new connection tells the server, and asks it, before it is used: one round trip.

use std::sync::Arc;

use larder_core::{Clock, SystemClock};
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection};

use crate::{reply, server_clock::Sample};

/// What the server says of itself and of the connection. What a user may not ask is missing.
#[derive(Debug)]
pub(crate) struct Introduction {
    /// The number under which the server knows the connection.
    pub(crate) client: Option<i64>,
    /// Which run of which server this is.
    pub(crate) run: Option<Arc<str>>,
    pub(crate) sample: Option<Sample>,
}

/// Gives the connection its name. Also the first command after the login, so that a server which wants a password and was
/// given none is found out here.
pub(crate) async fn introduce(
    connection: &mut MultiplexedConnection,
    name: &str,
    clock: SystemClock,
) -> RedisResult<Introduction> {
    let mut pipeline = Pipeline::with_capacity(4);
    if name.is_empty() {
        pipeline.cmd("PING");
    } else {
        pipeline.cmd("CLIENT").arg("SETNAME").arg(name);
    }
    pipeline.cmd("CLIENT").arg("ID").cmd("INFO").arg("server").cmd("TIME");
    let sent = clock.now_precise();
    let mut answers = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?.into_iter();
    let received = clock.now_precise();
    let mut next = || permitted(answers.next().unwrap_or(Value::Nil));
    next()?;
    let client = match next()? {
        Some(Value::Int(client)) => Some(client),
        _ => None,
    };
    let run = next()?.and_then(run_of);
    let time = next()?;
    let sample = time.and_then(|time| Sample::of(&time, sent, received, clock.wall(), run.as_ref()));
    Ok(Introduction { client, run, sample })
}

/// An answer, or nothing where the user may not ask: it may well be without a right, and have those that it needs.
fn permitted(answer: Value) -> RedisResult<Option<Value>> {
    let Value::ServerError(refused) = answer else { return Ok(Some(answer)) };
    let error = RedisError::from(refused);
    let is_forbidden = match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        // Servers that are hosted, and proxies, know less than Redis does.
        ErrorKind::Server(ServerErrorKind::ResponseError) => error.detail().is_some_and(|it| it.contains("unknown")),
        _ => false,
    };
    if is_forbidden { Ok(None) } else { Err(error) }
}

/// The line of INFO.
pub(crate) fn run_of(info: Value) -> Option<Arc<str>> {
    let info = reply::bytes("info", info).ok()??;
    let run = std::str::from_utf8(&info).ok()?.lines().find_map(|line| line.trim_end().strip_prefix("run_id:"))?;
    (!run.is_empty()).then(|| run.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str) -> RedisResult<Option<Value>> {
        permitted(redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap())
    }

    #[test]
    fn a_right_that_is_missing_is_no_error_and_any_other_refusal_is() {
        assert_eq!(answer("+OK").unwrap(), Some(Value::Okay));
        assert_eq!(answer("-NOPERM this user has no permissions to run the 'time' command").unwrap(), None);
        assert_eq!(answer("-ERR unknown command 'TIME', with args beginning with: ").unwrap(), None);
        assert_eq!(answer("-ERR unknown subcommand 'ID'. Try CLIENT HELP.").unwrap(), None);
        assert!(answer("-NOAUTH Authentication required.").is_err());
        assert!(answer("-ERR max number of clients reached").is_err());
    }

    #[test]
    fn the_run_is_a_line_of_its_own() {
        let info = |text: &str| run_of(Value::BulkString(text.as_bytes().to_vec()));
        assert_eq!(info("# Server\r\nrun_id:abc\r\ntcp_port:1\r\n").as_deref(), Some("abc"));
        assert_eq!(info("# Server\r\nxrun_id:abc\r\nrun_id:\r\n"), None);
    }
}
