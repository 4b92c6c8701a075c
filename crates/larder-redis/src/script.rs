//! Scripts: called by their digest, sent whole where the server does not know them (any more).

use larder_core::{Key, Result};
use redis::{Cmd, ErrorKind, Script as Digested, ServerErrorKind, Value};

use crate::{RedisBackend, error, reply, socket::Request, topology::Call};

/// A script with one key.
#[derive(Debug)]
pub(crate) struct Script {
    code: &'static str,
    digest: String,
}

impl Script {
    pub(crate) fn new(code: &'static str) -> Self {
        Self { code, digest: Digested::new(code).get_hash().to_owned() }
    }

    fn command(&self, by_digest: bool, key: &Key, arguments: &[Argument<'_>]) -> Cmd {
        let mut command = redis::cmd(if by_digest { "EVALSHA" } else { "EVAL" });
        command.arg(if by_digest { self.digest.as_str() } else { self.code }).arg(1).arg(key.as_str());
        for argument in arguments {
            match argument {
                Argument::Bytes(bytes) => command.arg(bytes),
                Argument::Number(number) => command.arg(number),
            };
        }
        command
    }
}

/// An argument of a script.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

/// A number, or the empty text for none.
pub(crate) fn optional<'a>(number: Option<u64>) -> Argument<'a> {
    number.map_or(Argument::Bytes(b""), Argument::Number)
}

impl RedisBackend {
    /// Runs a script on one key. The server carries out nothing of a script that it does not know, so sending it again
    /// in full repeats nothing.
    pub(crate) async fn script(
        &self,
        operation: &'static str,
        script: &Script,
        key: &Key,
        arguments: &[Argument<'_>],
    ) -> Result<Value> {
        self.run_script(operation, script, key, arguments).await.map_err(|error| error.with_key(key))
    }

    async fn run_script(
        &self,
        operation: &'static str,
        script: &Script,
        key: &Key,
        arguments: &[Argument<'_>],
    ) -> Result<Value> {
        let call = Call::write(operation, key.as_str());
        let run = async |by_digest| {
            let command = script.command(by_digest, key, arguments);
            let sent = self.servers.send_raw(call, Request::Command(&command)).await?;
            Result::Ok(sent.and_then(Value::extract_error))
        };
        let answer = match run(true).await? {
            Err(unknown) if unknown.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => run(false).await?,
            answer => answer,
        };
        let answer = answer.map_err(|error| error::from_redis(operation, error));
        answer.and_then(|value| reply::checked(operation, value))
    }
}
