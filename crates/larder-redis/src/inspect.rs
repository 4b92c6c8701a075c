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
    figures.blocked_clients = number("blocked_clients");
    figures.rejected_connections = number("rejected_connections");
    figures.valkey_version = text("valkey_version");
    figures.loading = number("loading").map(|loading| loading != 0);
    figures.append_only = number("aof_enabled").map(|enabled| enabled != 0);
    figures.snapshot_ok = text("rdb_last_bgsave_status").map(|status| status == "ok");
    figures.fragmentation_percent = fields.get("mem_fragmentation_ratio").and_then(|ratio| percent(ratio));
    figures.role = text("role");
    figures.primary_link_up = text("master_link_status").map(|status| status == "up");
    figures.replicas = number("connected_slaves");
    figures.keys_without_ttl = keys_without_ttl(&fields);
    figures
}

/// `1.25` is 125; exact, as the server writes two decimals.
fn percent(ratio: &str) -> Option<u64> {
    let (whole, hundredths) = ratio.split_once('.')?;
    let hundredths = u64::from_str(hundredths).ok().filter(|_| hundredths.len() == 2)?;
    u64::from_str(whole).ok()?.checked_mul(100)?.checked_add(hundredths)
}

/// Sums lines such as `db0:keys=3,expires=1,avg_ttl=0`. A server without keys has none, which is 0.
fn keys_without_ttl(fields: &HashMap<&str, &str>) -> Option<u64> {
    fields.get("redis_version")?;
    let databases = fields.iter().filter(|(name, _)| {
        name.strip_prefix("db").is_some_and(|number| !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()))
    });
    let mut lasting = 0_u64;
    for (_, counts) in databases {
        let count = |name: &str| {
            let mut counts = counts.split(',').filter_map(|count| count.split_once('='));
            counts.find(|(named, _)| *named == name).and_then(|(_, count)| u64::from_str(count).ok())
        };
        lasting = lasting.checked_add(count("keys")?.checked_sub(count("expires")?)?)?;
    }
    Some(lasting)
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

    #[test]
    fn keys_without_ttl_are_added_over_all_databases() {
        let all = "redis_version:7.0.15\r\ndb0:keys=5,expires=2,avg_ttl=9\r\ndb12:keys=4,expires=4,avg_ttl=9\r\n";
        assert_eq!(parse(all).keys_without_ttl, Some(3));
        assert_eq!(parse("redis_version:7.0.15\r\n").keys_without_ttl, Some(0));
        assert_eq!(parse("redis_version:7.0.15\r\ndb0:keys=x\r\n").keys_without_ttl, None);
        assert_eq!(parse("").keys_without_ttl, None);
    }

    #[test]
    fn a_ratio_is_read_in_percent() {
        assert_eq!(parse("mem_fragmentation_ratio:1.25\r\n").fragmentation_percent, Some(125));
        assert_eq!(parse("mem_fragmentation_ratio:nan\r\n").fragmentation_percent, None);
    }
}
