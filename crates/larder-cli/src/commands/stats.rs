//! `larder stats`.

use anyhow::Result;
use futures_util::TryStreamExt;
use larder::{Pattern, Stats};
use larder_core::{Backend, GetOptions, Inspect, SCAN_PAGE, Scan, ServerFigures};
use serde_json::json;

use crate::{
    report::{Report, fields},
    session::Session,
    span::{bytes, shown},
};

/// Where processes publish their figures, behind the namespace.
const PUBLISHED: &str = "%stats:";

/// What the processes of a namespace have published.
#[derive(Debug, Default)]
struct Published {
    processes: u64,
    /// Those whose figures could not be read: of another release.
    unreadable: u64,
    sum: Stats,
}

pub(super) async fn run(session: &Session) -> Result<Report> {
    let published = published(session).await?;
    let server = session.redis.server_figures().await.map_err(|error| session.failed(&error))?;
    let sum = &published.sum;
    let document = json!({
        "namespace": session.names.namespace,
        "processes": {
            "count": published.processes,
            "unreadable": published.unreadable,
            "requests": sum.requests(),
            "hits": sum.hits(),
            "hit_rate": sum.hit_rate(),
            "figures": serde_json::to_value(sum)?,
        },
        "server": server_document(&server),
    });
    let text = format!("{}\n{}", processes_table(session, &published), server_table(&server));
    Ok(Report::new(text, document))
}

async fn published(session: &Session) -> Result<Published> {
    // A canonical prefix holds no character that a pattern would take for a special one.
    let pattern = Pattern::prefix(&format!("{}{PUBLISHED}", session.names.prefix));
    let mut keys = std::collections::BTreeSet::new();
    let mut pages = session.redis.scan(&pattern, SCAN_PAGE);
    while let Some(page) = pages.try_next().await.map_err(|error| session.failed(&error))? {
        keys.extend(page);
    }
    let keys: Vec<_> = keys.into_iter().collect();
    let mut published = Published::default();
    for found in session.redis.get_many(&keys, GetOptions::new()).await {
        // A process that has ended meanwhile is not counted.
        let Some(found) = found.map_err(|error| session.failed(&error))? else { continue };
        match serde_json::from_slice::<Stats>(&found.value) {
            Ok(stats) => {
                published.processes += 1;
                published.sum.merge(&stats);
            }
            Err(_) => published.unreadable += 1,
        }
    }
    Ok(published)
}

fn processes_table(session: &Session, published: &Published) -> String {
    let sum = &published.sum;
    let unreadable = match published.unreadable {
        0 => String::new(),
        number => format!(" (and {number} of another release, which are not counted)"),
    };
    let load = sum.mean_load_time().map_or_else(|| "-".to_owned(), shown);
    fields([
        ("namespace", session.names.namespace.clone()),
        ("processes", format!("{}{unreadable}", published.processes)),
        ("requests", sum.requests().to_string()),
        ("hit rate", sum.hit_rate().map_or_else(|| "-".to_owned(), percent)),
        ("hits near / remote", format!("{} / {}", sum.near_hits, sum.remote_hits)),
        ("of these stale", sum.stale_hits.to_string()),
        ("misses", sum.misses.to_string()),
        ("loads", format!("{} ({} failed, mean {load})", sum.loads, sum.load_errors)),
        ("coalesced callers", sum.coalesced.to_string()),
        ("sets / deletes", format!("{} / {}", sum.sets, sum.deletes)),
        ("remote faults", sum.remote_faults.to_string()),
        ("near entries", format!("{} ({})", sum.near_entries, bytes(sum.near_bytes))),
        ("evictions", sum.evictions.to_string()),
    ])
}

fn server_table(server: &ServerFigures) -> String {
    let number = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
    let text = |figure: &Option<String>| figure.clone().unwrap_or_else(|| "-".to_owned());
    let limit = match server.max_bytes {
        Some(0) => "none".to_owned(),
        limit => limit.map_or_else(|| "-".to_owned(), bytes),
    };
    let uptime = server.uptime_seconds.map(std::time::Duration::from_secs);
    fields([
        ("server version", text(&server.version)),
        ("mode", text(&server.mode)),
        ("up for", uptime.map_or_else(|| "-".to_owned(), shown)),
        ("keys in the database", number(server.keys)),
        ("memory", server.used_bytes.map_or_else(|| "-".to_owned(), bytes)),
        ("memory limit", limit),
        ("at the limit", text(&server.eviction_policy)),
        ("hits / misses", format!("{} / {}", number(server.hits), number(server.misses))),
        ("hit rate", server_hit_rate(server).map_or_else(|| "-".to_owned(), percent)),
        ("evicted / expired", format!("{} / {}", number(server.evicted), number(server.expired))),
        ("clients", number(server.clients)),
    ])
}

fn server_document(server: &ServerFigures) -> serde_json::Value {
    json!({
        "version": server.version,
        "mode": server.mode,
        "run_id": server.run_id,
        "uptime_seconds": server.uptime_seconds,
        "keys": server.keys,
        "used_bytes": server.used_bytes,
        "max_bytes": server.max_bytes,
        "eviction_policy": server.eviction_policy,
        "hits": server.hits,
        "misses": server.misses,
        "hit_rate": server_hit_rate(server),
        "evicted": server.evicted,
        "expired": server.expired,
        "clients": server.clients,
    })
}

/// By all clients and for all keys, since the server started.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
fn server_hit_rate(server: &ServerFigures) -> Option<f64> {
    let (hits, misses) = (server.hits?, server.misses?);
    let requests = hits.saturating_add(misses);
    (requests > 0).then(|| hits as f64 / requests as f64)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
