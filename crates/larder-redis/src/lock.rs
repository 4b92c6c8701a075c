//! Locks: a key whose value is the holder's token.

use std::{sync::LazyLock, time::Duration};

use async_trait::async_trait;
use larder_core::{Bytes, Expected, Key, Lock, Result};

use crate::{
    RedisBackend,
    atomic::lease_millis,
    reply,
    script::{Argument, Script, optional},
};

/// Takes or extends the lock ARGV[1] for ARGV[2] milliseconds (empty: without end); ARGV[3] is 1 if an absent one may be
/// taken.
static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] or not holder and ARGV[3] ~= '1' then return 0 end
if ARGV[2] == '' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1",
    )
});

#[async_trait]
impl Lock for RedisBackend {
    /// Taking a held lock again with its token also begins the lease anew, so that the holder's idea of it is right.
    async fn acquire(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        self.hold("acquire", key, token, lease, true).await
    }

    async fn extend(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        self.hold("extend", key, token, lease, false).await
    }

    async fn release(&self, key: &Key, token: &str) -> Result<bool> {
        self.delete_if("release", key, &Expected::exactly(Bytes::copy_from_slice(token.as_bytes()))).await
    }
}

impl RedisBackend {
    async fn hold(
        &self,
        operation: &'static str,
        key: &Key,
        token: &str,
        lease: Duration,
        may_take: bool,
    ) -> Result<bool> {
        let millis = lease_millis(operation, "lease", key, lease)?;
        let arguments = [Argument::Bytes(token.as_bytes()), optional(millis), Argument::Number(may_take.into())];
        reply::flag(operation, self.script(operation, &HOLD, key, &arguments).await?)
    }
}
