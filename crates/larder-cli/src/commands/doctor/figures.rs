//! `larder doctor`.

use std::time::{Duration, Instant};

use anyhow::Result;
use larder_core::{Backend, Inspect, ServerFigures};
use serde_json::{Value, json};

use crate::{
    options::DoctorOptions,
    report::{Report, table},
    session::Session,
    span::bytes,
};

/// Fewer reads than this say nothing about how many of them find their key.
const TELLING_READS: u64 = 1_000;
/// Below so many bytes the memory that the process holds beyond its data is of no account.
const TELLING_BYTES: u64 = 64 << 20;
const MOST_FRAGMENTATION_PERCENT: u64 = 150;
/// A cache that answers more slowly than this helps few callers.
const SLOW_PING: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    Advice,
    Warning,
    Failure,
}

impl Grade {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }

    const fn is_fit(self) -> bool {
        matches!(self, Self::Ok | Self::Advice)
    }
}

#[derive(Debug)]
struct Finding {
    check: &'static str,
    grade: Grade,
    found: String,
    /// What to do; empty where all is well or nothing is known.
    todo: &'static str,
}

impl Finding {
    const fn new(check: &'static str, found: String, grade: Grade, todo: &'static str) -> Self {
        Self { check, grade, found, todo }
    }

    const fn ok(check: &'static str, found: String) -> Self {
        Self::new(check, found, Grade::Ok, "")
    }

    /// The server does not say it: nothing is held against it.
    fn unknown(check: &'static str) -> Self {
        Self::ok(check, "unknown".to_owned())
    }
}

pub(super) async fn run(session: &Session, options: &DoctorOptions) -> Result<Report> {
    session.connect().await?;
    let figures = session.redis.server_figures().await.map_err(|error| session.failed(&error))?;
    let mut findings = judged(&figures);
    let pings = pings(session, options.pings).await?;
    findings.push(latency(&pings));
    let fit = findings.iter().all(|finding| finding.grade.is_fit());
    let documents = findings.iter().map(|finding| {
        json!({"check": finding.check, "grade": finding.grade.name(), "found": finding.found, "todo": finding.todo})
    });
    let document = json!({
        "fit": fit,
        "findings": documents.collect::<Vec<Value>>(),
        "ping_us": {
            "count": pings.len(),
            "p50": micros(quantile(&pings, 50)),
            "p99": micros(quantile(&pings, 99)),
            "max": micros(quantile(&pings, 100)),
        },
    });
    let rows = findings
        .iter()
        .map(|it| [it.check.to_owned(), it.grade.name().to_owned(), it.found.clone(), it.todo.to_owned()]);
    let verdict = if fit { "fit for a cache" } else { "not fit for a cache" };
    let text = format!("{}\n{verdict}", table(["check", "grade", "found", "what to do"], rows));
    let wrong: Vec<&str> = findings.iter().filter(|it| !it.grade.is_fit()).map(|it| it.check).collect();
    Ok(Report::new(text, document).failing((!fit).then(|| format!("{verdict}: {}", wrong.join(", ")))))
}

/// How long each of so many PINGs took, one after the other; sorted.
async fn pings(session: &Session, count: u32) -> Result<Vec<Duration>> {
    let mut took = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let began = Instant::now();
        session.redis.ping().await.map_err(|error| session.failed(&error))?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

/// The nearest rank: the least of the sorted times that so many percent of them do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn latency(sorted: &[Duration]) -> Finding {
    let p99 = quantile(sorted, 99);
    let found = format!("p50 {:.1?}, p99 {p99:.1?} of {} pings", quantile(sorted, 50), sorted.len());
    if p99 <= SLOW_PING {
        return Finding::ok("latency", found);
    }
    let todo = "run the server nearer to its callers, and look for slow commands with SLOWLOG GET";
    Finding::new("latency", found, Grade::Advice, todo)
}

fn judged(figures: &ServerFigures) -> Vec<Finding> {
    vec![
        version(figures),
        Finding::ok("topology", figures.mode.clone().unwrap_or_else(|| "unknown".to_owned())),
        role(figures),
        limit(figures),
        policy(figures),
        persistence(figures),
        connections(figures),
        fragmentation(figures),
        hits(figures),
        lasting(figures),
    ]
}

fn version(figures: &ServerFigures) -> Finding {
    let Some(version) = &figures.version else { return Finding::unknown("version") };
    let found = match &figures.valkey_version {
        Some(valkey) => format!("Valkey {valkey} (as Redis {version})"),
        None => format!("Redis {version}"),
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(0..=6) => Finding::new("version", found, Grade::Failure, "upgrade: Larder needs Redis 7.0 or Valkey"),
        _ => Finding::ok("version", found),
    }
}

fn role(figures: &ServerFigures) -> Finding {
    let Some(role) = figures.role.as_deref() else { return Finding::unknown("role") };
    if role == "master" {
        let found = figures.replicas.map_or_else(|| "primary".to_owned(), |count| format!("primary, {count} replicas"));
        return Finding::ok("role", found);
    }
    Finding::new("role", role.to_owned(), Grade::Failure, "name the primary in --redis: a replica refuses writes")
}

fn limit(figures: &ServerFigures) -> Finding {
    let used = figures.used_bytes.map_or_else(|| "an unknown part".to_owned(), bytes);
    match figures.max_bytes {
        None => Finding::unknown("maxmemory"),
        Some(0) => {
            let todo = "set maxmemory below the memory of the machine: without it the system ends the server";
            Finding::new("maxmemory", format!("none, {used} in use"), Grade::Warning, todo)
        }
        Some(most) => Finding::ok("maxmemory", format!("{}, {used} in use", bytes(most))),
    }
}

fn policy(figures: &ServerFigures) -> Finding {
    let Some(policy) = figures.eviction_policy.as_deref() else { return Finding::unknown("maxmemory-policy") };
    let found = format!("{policy}, {} keys evicted", figures.evicted.map_or("?".to_owned(), |count| count.to_string()));
    match policy {
        "noeviction" => {
            let todo = "set maxmemory-policy allkeys-lru: at the limit this one refuses every write";
            Finding::new("maxmemory-policy", found, Grade::Warning, todo)
        }
        volatile if volatile.starts_with("volatile-") => {
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
    let found = format!("{hits} of {reads} reads");
    if reads >= TELLING_READS && hits < misses {
        let todo = "look at TTLs and keys with larder stats and larder explain: most reads find nothing";
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
    fn quantiles_are_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!([50, 99, 100].map(|percent| micros(quantile(&times, percent))), [100, 198, 200]);
        assert_eq!(quantile(&times[..1], 50), Duration::from_micros(1));
    }
}
