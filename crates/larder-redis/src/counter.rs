//! Counters.

use std::{str, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use larder_core::{Counter, Error, ErrorKind, Key, Result, ttl_millis};
use redis::{Pipeline, Value};

use crate::{
    RedisBackend, error, reply,
    script::{Argument, Script},
    socket::Request,
    topology::Call,
};

const OPERATION: &str = "increment";

/// Increments a counter that is there. The sum is read back as text, since a number of a script is a double.
static INCREMENT_PRESENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 0 then return false end
redis.call('INCRBY', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])",
    )
});

#[async_trait]
impl Counter for RedisBackend {
    /// One round trip: INCRBY, or with a TTL a transaction of `SET key 0 NX PX` and INCRBY.
    async fn increment(&self, key: &Key, amount: i64, ttl: Option<Duration>) -> Result<i64> {
        let sum = match ttl.map(ttl_millis) {
            None | Some(None) => self.increment_plain(key, amount).await,
            Some(Some(0)) => self.increment_present(key, amount).await,
            Some(Some(millis)) => self.increment_mortal(key, amount, millis).await,
        };
        sum.map_err(|error| error.with_key(key))
    }

    async fn count(&self, key: &Key) -> Result<Option<i64>> {
        let mut command = redis::cmd("GET");
        command.arg(key.as_str());
        let answer = self.command(Call::read("count", key.as_str()), key, &command).await?;
        let Some(text) = reply::bytes("count", answer).map_err(|error| error.with_key(key))? else { return Ok(None) };
        integer(&text).map(Some).ok_or_else(|| no_integer("count").with_key(key))
    }
}

impl RedisBackend {
    async fn increment_plain(&self, key: &Key, amount: i64) -> Result<i64> {
        let mut command = redis::cmd("INCRBY");
        command.arg(key.as_str()).arg(amount);
        let call = Call::write(OPERATION, key.as_str());
        reply::integer(OPERATION, self.servers.send(call, Request::Command(&command)).await?)
    }

    /// In a transaction time stands still, so that the counter cannot expire between the two commands.
    async fn increment_mortal(&self, key: &Key, amount: i64, millis: u64) -> Result<i64> {
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        pipeline.cmd("SET").arg(key.as_str()).arg(0).arg("NX").arg("PX").arg(millis);
        pipeline.cmd("INCRBY").arg(key.as_str()).arg(amount);
        let call = Call::write(OPERATION, key.as_str());
        let answer = self.servers.send(call, Request::Transaction(&pipeline)).await?;
        let answers = reply::array(OPERATION, answer)?;
        let [created, sum] =
            <[Value; 2]>::try_from(answers).map_err(|_| error::unexpected(OPERATION, "two answers"))?;
        reply::checked(OPERATION, created)?;
        reply::integer(OPERATION, sum)
    }

    /// With a TTL of zero a counter that would be created is gone at once.
    async fn increment_present(&self, key: &Key, amount: i64) -> Result<i64> {
        let text = amount.to_string();
        let answer = self.script(OPERATION, &INCREMENT_PRESENT, key, &[Argument::Bytes(text.as_bytes())]).await?;
        match reply::bytes(OPERATION, answer)? {
            None => Ok(amount),
            Some(sum) => integer(&sum).ok_or_else(|| no_integer(OPERATION)),
        }
    }
}

/// A number in the one form that the server accepts: no sign but a minus, no leading zeros, no spaces.
fn integer(text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = text == "0" || digits.starts_with(|first: char| matches!(first, '1'..='9'));
    plain.then(|| text.parse().ok()).flatten()
}

fn no_integer(operation: &'static str) -> Error {
    let message = "the value is not the decimal text of a signed 64-bit integer, so it is no counter";
    Error::new(ErrorKind::KindMismatch, operation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_as_strictly_as_the_server_does_it() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-7", Some(-7)),
            ("10", Some(10)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("+1", None),
            ("01", None),
            ("-01", None),
            ("-0", None),
            ("00", None),
            (" 1", None),
            ("1.0", None),
            ("", None),
        ] {
            assert_eq!(integer(text.as_bytes()), expected, "{text:?}");
        }
    }
}
