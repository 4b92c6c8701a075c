//! INFO and CLUSTER INFO of one server, as figures.

use std::{collections::HashMap, str::FromStr, time::Duration};

use larder_core::ServerFigures;

/// A replica that has not been heard of for so long is not in step.
const SILENCE: Duration = Duration::from_secs(10);

/// The `name:value` lines of such a text.
pub(super) type Fields<'a> = HashMap<&'a str, &'a str>;

pub(super) fn fields(text: &str) -> Fields<'_> {
    text.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

/// What a server says of itself in INFO; what is missing or no number stays unknown.
pub(super) fn figures_of(fields: &Fields<'_>) -> ServerFigures {
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
    figures.lagging_replicas = lagging_replicas(fields);
    figures.keys_without_ttl = keys_without_ttl(fields);
    figures
}

/// `1.25` is 125; exact, as the server writes two decimals.
fn percent(ratio: &str) -> Option<u64> {
    let (whole, hundredths) = ratio.split_once('.')?;
    let hundredths = u64::from_str(hundredths).ok().filter(|_| hundredths.len() == 2)?;
    u64::from_str(whole).ok()?.checked_mul(100)?.checked_add(hundredths)
}

/// Sums lines such as `db0:keys=3,expires=1,avg_ttl=0`. A server without keys has none, which is 0.
fn keys_without_ttl(fields: &Fields<'_>) -> Option<u64> {
    fields.get("redis_version")?;
    let databases = fields.iter().filter(|(name, _)| {
        name.strip_prefix("db").is_some_and(|number| !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()))
    });
    let mut lasting = 0_u64;
    for (_, counts) in databases {
        let count = |name| u64::from_str(item(counts, name)?).ok();
        lasting = lasting.checked_add(count("keys")?.checked_sub(count("expires")?)?)?;
    }
    Some(lasting)
}

/// Counts among lines such as `slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=1`.
fn lagging_replicas(fields: &Fields<'_>) -> Option<u64> {
    let count: u64 = fields.get("connected_slaves")?.parse().ok()?;
    let in_step = (0..count).filter(|index| {
        let Some(replica) = fields.get(format!("slave{index}").as_str()) else { return false };
        let silence = item(replica, "lag").and_then(|lag| u64::from_str(lag).ok());
        item(replica, "state") == Some("online") && silence.is_some_and(|silence| silence < SILENCE.as_secs())
    });
    count.checked_sub(u64::try_from(in_step.count()).ok()?)
}

/// One of `name=value,name=value`.
fn item<'a>(items: &'a str, name: &str) -> Option<&'a str> {
    items.split(',').filter_map(|item| item.split_once('=')).find_map(|(named, value)| (named == name).then_some(value))
}

/// Adds what a node says of its cluster in CLUSTER INFO.
pub(super) fn add_cluster(figures: &mut ServerFigures, fields: &Fields<'_>) {
    figures.cluster_ok = fields.get("cluster_state").map(|state| *state == "ok");
    figures.slots_covered = fields.get("cluster_slots_ok").and_then(|slots| slots.parse().ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ServerFigures {
        figures_of(&fields(text))
    }

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

    #[test]
    fn replicas_that_are_being_filled_or_silent_lag() {
        let replicas = "connected_slaves:3\r\nslave0:ip=::1,port=1,state=online,offset=1,lag=1\r\n\
            slave1:ip=::1,port=2,state=online,offset=1,lag=10\r\nslave2:ip=::1,port=3,state=send_bulk,offset=0,lag=0\r\n";
        assert_eq!(parse(replicas).lagging_replicas, Some(2));
        assert_eq!((parse("connected_slaves:0\r\n").lagging_replicas, parse("").lagging_replicas), (Some(0), None));
    }

    #[test]
    fn the_state_of_a_cluster_is_read() {
        let mut figures = ServerFigures::default();
        add_cluster(
            &mut figures,
            &fields("cluster_state:fail\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:9\r\n"),
        );
        assert_eq!((figures.cluster_ok, figures.slots_covered), (Some(false), Some(9)));
    }
}
