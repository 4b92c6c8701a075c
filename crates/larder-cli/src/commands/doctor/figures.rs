//! What the server's own figures say.

use larder_core::ServerFigures;

use super::finding::{Finding, Grade};
use crate::{sample::share, span::bytes};

/// Fewer reads than this say nothing about how many of them find their key.
const TELLING_READS: u64 = 1_000;
/// The least share of reads that should find their key.
const GOOD_HIT_PERCENT: u64 = 80;
/// Below so many bytes the memory that the process holds beyond its data is of no account.
const TELLING_BYTES: u64 = 64 << 20;
const MOST_FRAGMENTATION_PERCENT: u64 = 150;
/// Where nothing is evicted, writes are soon refused from here on.
const NEARLY_FULL_PERCENT: u64 = 90;
const ALL_SLOTS: u64 = 16384;

pub(super) fn judged(figures: &ServerFigures) -> Vec<Finding> {
    let findings = [
        Some(version(figures)),
        loading(figures),
        Some(topology(figures)),
        slots(figures),
        Some(role(figures)),
        replicas(figures),
        Some(limit(figures)),
        Some(policy(figures)),
        Some(persistence(figures)),
        Some(connections(figures)),
        blocked(figures),
        Some(fragmentation(figures)),
        Some(hits(figures)),
        Some(lasting(figures)),
    ];
    findings.into_iter().flatten().collect()
}

fn version(figures: &ServerFigures) -> Finding {
    let Some(version) = &figures.version else { return Finding::unknown("version") };
    let found = match &figures.valkey_version {
        Some(valkey) => format!("Valkey {valkey} (as Redis {version})"),
        None => format!("Redis {version}"),
    };
    // The primaries of a cluster may have several.
    let majors = version.split(", ").filter_map(|version| version.split('.').next()?.parse::<u32>().ok());
    match majors.min() {
        Some(0..=6) => Finding::new("version", found, Grade::Failure, "upgrade: Larder needs Redis 7.0 or Valkey"),
        _ => Finding::ok("version", found),
    }
}

fn loading(figures: &ServerFigures) -> Option<Finding> {
    let todo = "wait until it has read its data; a cache that starts empty is there at once: save \"\", appendonly no";
    figures.loading?.then(|| Finding::new("loading", "still reads its data".to_owned(), Grade::Failure, todo))
}

fn topology(figures: &ServerFigures) -> Finding {
    let Some(mode) = figures.mode.as_deref() else { return Finding::unknown("topology") };
    match figures.primaries {
        // Only of a cluster that was named as one is its state known.
        _ if mode == "cluster" && figures.cluster_ok.is_none() => {
            let todo = "name it as redis-cluster://: one node serves only its own slots";
            Finding::new("topology", "a node of a cluster".to_owned(), Grade::Failure, todo)
        }
        Some(count) if mode == "cluster" => Finding::ok("topology", format!("cluster, {count} primaries")),
        _ => Finding::ok("topology", mode.to_owned()),
    }
}

/// Of a cluster only.
fn slots(figures: &ServerFigures) -> Option<Finding> {
    let is_well = figures.cluster_ok?;
    let Some(covered) = figures.slots_covered else { return Some(Finding::unknown("cluster")) };
    let state = if is_well { "ok" } else { "down" };
    let found = format!("{state}, {covered} of {ALL_SLOTS} slots covered");
    if is_well && covered == ALL_SLOTS {
        return Some(Finding::ok("cluster", found));
    }
    let todo = "assign what is missing, or start the nodes that hold it: redis-cli --cluster check says which";
    Some(Finding::new("cluster", found, Grade::Failure, todo))
}

fn role(figures: &ServerFigures) -> Finding {
    let Some(role) = figures.role.as_deref() else { return Finding::unknown("role") };
    if role == "master" {
        return Finding::ok("role", "primary".to_owned());
    }
    let link = match figures.primary_link_up {
        Some(true) => ", linked to its primary",
        Some(false) => ", without a link to its primary",
        None => "",
    };
    let todo = "name the primary in --redis: a replica refuses writes";
    Finding::new("role", format!("replica{link}"), Grade::Failure, todo)
}

/// Of a primary only, which hears of its replicas.
fn replicas(figures: &ServerFigures) -> Option<Finding> {
    let count = figures.replicas.filter(|_| figures.role.as_deref() == Some("master"))?;
    match figures.lagging_replicas {
        None | Some(0) => Some(Finding::ok("replicas", count.to_string())),
        Some(lagging) => {
            let todo = "look at their logs and at the network: what they lack is lost in a failover";
            Some(Finding::new("replicas", format!("{lagging} of {count} not in step"), Grade::Advice, todo))
        }
    }
}

fn limit(figures: &ServerFigures) -> Finding {
    let used = figures.used_bytes.map_or_else(|| "an unknown part".to_owned(), bytes);
    match figures.max_bytes {
        None => Finding::unknown("maxmemory"),
        Some(0) => {
            let todo = "set maxmemory below the memory of the machine: without it the system ends the server";
            Finding::new("maxmemory", format!("none, {used} in use"), Grade::Warning, todo)
        }
        Some(most) => {
            let found = format!("{}, {used} in use", bytes(most));
            let is_full = figures.used_bytes.is_some_and(|used| share_percent(used, most) >= NEARLY_FULL_PERCENT);
            if is_full && figures.eviction_policy.as_deref().is_some_and(|policy| policy.contains("noeviction")) {
                let todo = "raise maxmemory or set maxmemory-policy allkeys-lru: writes are about to be refused";
                return Finding::new("maxmemory", found, Grade::Warning, todo);
            }
            Finding::ok("maxmemory", found)
        }
    }
}

fn policy(figures: &ServerFigures) -> Finding {
    let Some(policy) = figures.eviction_policy.as_deref() else { return Finding::unknown("maxmemory-policy") };
    let found = format!("{policy}, {} keys evicted", figures.evicted.map_or("?".to_owned(), |count| count.to_string()));
    match policy {
        // The primaries of a cluster may have several.
        policy if policy.contains("noeviction") => {
            let todo = "set maxmemory-policy allkeys-lru: at the limit this one refuses every write";
            Finding::new("maxmemory-policy", found, Grade::Warning, todo)
        }
        policy if policy.contains("volatile-") => {
            let todo = "set maxmemory-policy allkeys-lru: this one cannot evict keys without a TTL";
            Finding::new("maxmemory-policy", found, Grade::Advice, todo)
        }
        _ => Finding::ok("maxmemory-policy", found),
    }
}

fn persistence(figures: &ServerFigures) -> Finding {
    let check = "persistence";
    if figures.snapshot_ok == Some(false) {
        let todo = "free the disk or switch snapshots off (save \"\"): after a failed one the server may refuse writes";
        return Finding::new(check, "the last snapshot failed".to_owned(), Grade::Warning, todo);
    }
    match figures.append_only {
        None => Finding::unknown(check),
        Some(false) => Finding::ok(check, "no append-only file".to_owned()),
        Some(true) => {
            let todo = "set appendonly no, unless a cold start costs more than a write to disk for every change";
            Finding::new(check, "append-only file".to_owned(), Grade::Advice, todo)
        }
    }
}

fn connections(figures: &ServerFigures) -> Finding {
    let Some(clients) = figures.clients else { return Finding::unknown("connections") };
    match figures.rejected_connections {
        None | Some(0) => Finding::ok("connections", clients.to_string()),
        Some(rejected) => {
            let found = format!("{clients}, {rejected} refused since the start");
            Finding::new("connections", found, Grade::Advice, "raise maxclients, or find who opens so many connections")
        }
    }
}

/// Unknown is not worth a line.
fn blocked(figures: &ServerFigures) -> Option<Finding> {
    let (check, blocked) = ("blocked clients", figures.blocked_clients?);
    if blocked == 0 {
        return Some(Finding::ok(check, "0".to_owned()));
    }
    let todo = "a cache needs no blocking commands: find who waits (BLPOP, XREAD, WAIT) with CLIENT LIST";
    Some(Finding::new(check, blocked.to_string(), Grade::Advice, todo))
}

fn fragmentation(figures: &ServerFigures) -> Finding {
    let Some(percent) = figures.fragmentation_percent else { return Finding::unknown("fragmentation") };
    let found = format!("{percent} % of the memory in use");
    let tells = figures.used_bytes.is_some_and(|used| used >= TELLING_BYTES);
    if tells && percent > MOST_FRAGMENTATION_PERCENT {
        return Finding::new(
            "fragmentation",
            found,
            Grade::Advice,
            "set activedefrag yes, or restart when it is quiet",
        );
    }
    Finding::ok("fragmentation", found)
}

fn hits(figures: &ServerFigures) -> Finding {
    let (Some(hits), Some(misses)) = (figures.hits, figures.misses) else { return Finding::unknown("hits") };
    let reads = hits.saturating_add(misses);
    let found = format!("{} of {reads} reads", share(hits, reads));
    if reads >= TELLING_READS && share_percent(hits, reads) < GOOD_HIT_PERCENT {
        let todo = "compare with larder stats: hits in the near tier are not among these; else longer TTLs, or warming";
        return Finding::new("hits", found, Grade::Advice, todo);
    }
    Finding::ok("hits", found)
}

fn lasting(figures: &ServerFigures) -> Finding {
    let (check, lasting) = ("keys without TTL", figures.keys_without_ttl);
    match lasting {
        None => Finding::unknown(check),
        Some(0) => Finding::ok(check, "0".to_owned()),
        Some(lasting) => {
            let todo = "give them a TTL, or make sure that they are meant to stay: Larder gives every entry one";
            Finding::new(check, lasting.to_string(), Grade::Advice, todo)
        }
    }
}

fn share_percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_and_replicas_fail() {
        let mut figures = ServerFigures::default();
        figures.version = Some("6.2.14".to_owned());
        figures.role = Some("slave".to_owned());
        assert_eq!((version(&figures).grade, role(&figures).grade), (Grade::Failure, Grade::Failure));
        figures.version = Some("7.0.0".to_owned());
        figures.role = Some("master".to_owned());
        assert_eq!((version(&figures).grade, role(&figures).grade), (Grade::Ok, Grade::Ok));
    }

    #[test]
    fn what_a_server_does_not_say_is_not_held_against_it() {
        assert!(judged(&ServerFigures::default()).iter().all(|finding| finding.grade == Grade::Ok));
    }

    #[test]
    fn a_node_of_a_cluster_alone_fails_and_so_does_a_cluster_with_holes() {
        let mut figures = ServerFigures::default();
        figures.mode = Some("cluster".to_owned());
        assert_eq!(topology(&figures).grade, Grade::Failure);
        figures.cluster_ok = Some(true);
        figures.slots_covered = Some(ALL_SLOTS);
        assert_eq!((topology(&figures).grade, slots(&figures).unwrap().grade), (Grade::Ok, Grade::Ok));
        figures.slots_covered = Some(ALL_SLOTS - 1);
        assert_eq!(slots(&figures).unwrap().grade, Grade::Failure);
        assert!(slots(&ServerFigures::default()).is_none());
    }

    #[test]
    fn the_worst_of_a_cluster_counts() {
        let mut figures = ServerFigures::default();
        figures.version = Some("6.2.14, 7.0.15".to_owned());
        figures.eviction_policy = Some("allkeys-lru, noeviction".to_owned());
        assert_eq!((version(&figures).grade, policy(&figures).grade), (Grade::Failure, Grade::Warning));
    }

    #[test]
    fn a_full_server_that_evicts_nothing_is_told_of() {
        let mut figures = ServerFigures::default();
        figures.max_bytes = Some(1_000_000);
        figures.used_bytes = Some(900_000);
        figures.eviction_policy = Some("allkeys-lru".to_owned());
        assert_eq!(limit(&figures).grade, Grade::Ok);
        figures.eviction_policy = Some("noeviction".to_owned());
        assert_eq!(limit(&figures).grade, Grade::Warning);
    }

    #[test]
    fn replicas_out_of_step_and_clients_that_wait_are_advice() {
        let mut figures = ServerFigures::default();
        figures.role = Some("master".to_owned());
        (figures.replicas, figures.lagging_replicas, figures.blocked_clients) = (Some(2), Some(1), Some(3));
        let found = replicas(&figures).unwrap();
        assert_eq!((found.grade, found.found.as_str()), (Grade::Advice, "1 of 2 not in step"));
        assert_eq!(blocked(&figures).unwrap().grade, Grade::Advice);
    }

    #[test]
    fn few_hits_among_many_reads_are_told_of() {
        let mut figures = ServerFigures::default();
        (figures.hits, figures.misses) = (Some(799), Some(201));
        assert_eq!(hits(&figures).grade, Grade::Advice);
        figures.misses = Some(199);
        assert_eq!(hits(&figures).grade, Grade::Ok);
        (figures.hits, figures.misses) = (Some(0), Some(999));
        assert_eq!(hits(&figures).grade, Grade::Ok);
    }
}
