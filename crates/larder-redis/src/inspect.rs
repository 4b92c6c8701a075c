//! What the server says of itself.

use std::{collections::HashMap, str::FromStr};

use async_trait::async_trait;
use larder_core::{Inspect, Result, ServerFigures};
use redis::Pipeline;

use crate::{RedisBackend, error, reply, socket::Request};

const OPERATION: &str = "server_figures";

#[async_trait]
impl Inspect for RedisBackend {
    /// INFO and DBSIZE in one round trip.
    async fn server_figures(&self) -> Result<ServerFigures> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO").cmd("DBSIZE");
        let primaries = self.servers.primaries().await?;
        let node = primaries.first().ok_or_else(|| error::unexpected(OPERATION, "of any server"))?;
        let answer = node.ask(OPERATION, Request::Pipeline(&pipeline)).await?;
        let mut answers = reply::array(OPERATION, answer)?.into_iter();
        let missing = || error::unexpected(OPERATION, "two answers");
        let info = reply::bytes(OPERATION, answers.next().ok_or_else(missing)?)?.ok_or_else(missing)?;
        let keys = reply::integer(OPERATION, answers.next().ok_or_else(missing)?)?;
        let mut figures = parse(&String::from_utf8_lossy(&info));
        figures.keys = u64::try_from(keys).ok();
        Ok(figures)
    }
}

/// Reads `name:value` lines; what is missing or no number stays unknown.
fn parse(info: &str) -> ServerFigures {
    let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let text = |name| fields.get(name).map(|value| (*value).to_owned());
    let number = |name| fields.get(name).and_then(|value| u64::from_str(value).ok());
    let mut figures = ServerFigures::default();
    figures.version = text("redis_version");
    figures.run_id = text("run_id");
    figures.mode = text("redis_mode");
    figures.uptime_seconds = number("uptime_in_seconds");
    figures.used_bytes = number("used_memory");
    figures.max_bytes = number("maxmemory");
    figures.eviction_policy = text("maxmemory_policy");
    figures.evicted = number("evicted_keys");
    figures.expired = number("expired_keys");
    figures.hits = number("keyspace_hits");
    figures.misses = number("keyspace_misses");
    figures.clients = number("connected_clients");
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_info_says_is_read_and_what_it_omits_stays_unknown() {
        let figures =
            parse("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nused_memory:1024\r\nmaxmemory:x\r\n");
        assert_eq!(figures.version.as_deref(), Some("7.0.15"));
        assert_eq!(figures.mode.as_deref(), Some("standalone"));
        assert_eq!(figures.used_bytes, Some(1024));
        assert_eq!((figures.max_bytes, figures.hits, figures.run_id), (None, None, None));
    }
}
