//! Changes that depend on what is stored.

use std::{sync::LazyLock, time::Duration};

use async_trait::async_trait;
use larder_core::{Atomic, Bytes, Error, ErrorKind, Expected, Key, Result, SetOptions, SetOutcome, ttl_millis};
use redis::Cmd;

use crate::{
    RedisBackend,
    backend::{Life, life_of},
    reply,
    script::{Argument, Script, optional},
    topology::Call,
};

/// Whether KEYS[1] begins with ARGV[1] and, unless ARGV[2] is empty, has that length. An absent key does not.
macro_rules! unless_expected {
    () => {
        "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[2] ~= '' and redis.call('STRLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
if #ARGV[1] > 0 and redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
"
    };
}

static COMPARE_AND_DELETE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(unless_expected!(), "return redis.call('UNLINK', KEYS[1])")));

static COMPARE_AND_SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        unless_expected!(),
        "if ARGV[4] == 'remove' then redis.call('UNLINK', KEYS[1])
elseif ARGV[4] == 'keep' then redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
elseif ARGV[4] == 'forever' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1"
    ))
});

#[async_trait]
impl Atomic for RedisBackend {
    /// One native command, which needs Redis 7.0.
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>> {
        let operation = "get_or_set";
        self.check_value(operation, key, &value)?;
        let millis = lease_millis(operation, "ttl", key, ttl)?;
        let mut command = Cmd::with_capacity(7, key.as_str().len() + value.len() + 32);
        command.arg("SET").arg(key.as_str()).arg(&value[..]).arg("NX").arg("GET");
        if let Some(millis) = millis {
            command.arg("PX").arg(millis);
        }
        self.servers.own_writes().placed(key, &value);
        let answer = self.command(Call::write(operation, key.as_str()), key, &command).await?;
        let found = reply::bytes(operation, answer).map_err(|error| error.with_key(key))?;
        if found.is_some() {
            self.servers.own_writes().gone([key]);
        }
        Ok(found)
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        let operation = "compare_and_set";
        self.check_value(operation, key, &value)?;
        let life = match life_of(operation, options.ttl).map_err(|error| error.with_key(key))? {
            Life::Forever => Argument::Bytes(b"forever"),
            Life::Keep => Argument::Bytes(b"keep"),
            Life::Removed => Argument::Bytes(b"remove"),
            Life::Millis(millis) => Argument::Number(millis),
        };
        let arguments = [Argument::Bytes(&expected.prefix), length(expected), Argument::Bytes(&value), life];
        self.servers.own_writes().wrote(key, &value);
        let answer = self.script(operation, &COMPARE_AND_SET, key, &arguments).await?;
        if reply::flag(operation, answer)? {
            return Ok(SetOutcome::Stored);
        }
        self.servers.own_writes().gone([key]);
        Ok(SetOutcome::Rejected)
    }

    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool> {
        self.delete_if("compare_and_delete", key, expected).await
    }
}

impl RedisBackend {
    pub(crate) async fn delete_if(&self, operation: &'static str, key: &Key, expected: &Expected) -> Result<bool> {
        let arguments = [Argument::Bytes(&expected.prefix), length(expected)];
        self.servers.own_writes().gone([key]);
        reply::flag(operation, self.script(operation, &COMPARE_AND_DELETE, key, &arguments).await?)
    }
}

fn length(expected: &Expected) -> Argument<'static> {
    optional(expected.length.map(|length| length as u64))
}

/// A life that must not be zero, in milliseconds; `None` is without end.
pub(crate) fn lease_millis(
    operation: &'static str,
    field: &'static str,
    key: &Key,
    lease: Duration,
) -> Result<Option<u64>> {
    if lease.is_zero() {
        let message = format!("`{field}` is zero; give the time after which it may be taken over");
        return Err(Error::new(ErrorKind::InvalidArgument, operation, message).with_key(key));
    }
    Ok(ttl_millis(lease))
}
