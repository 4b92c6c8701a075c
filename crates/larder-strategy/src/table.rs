//! Whole policies side by side, for documentation and for people who run a service.

use std::{fmt::Write as _, time::Duration};

use crate::{CompressionChoice, Strategy, policy::round_percent, span::Span};

/// One row of the table: what it is called, and how a strategy's cell reads.
type Row = (&'static str, fn(&Strategy) -> String);

const ROWS: [Row; 19] = [
    ("region", |s| format!("`{}`", s.region)),
    ("TTL", |s| span(s.ttl)),
    ("jitter", |s| if s.jitter == 0.0 { "none".into() } else { format!("up to {}% off", round_percent(s.jitter)) }),
    ("stale window", |s| if s.stale_window.is_zero() { "none".into() } else { span(s.stale_window) }),
    ("early refresh", |s| s.early_refresh.to_string()),
    ("fail-safe", |s| s.fail_safe.map_or_else(|| "off".into(), |fail_safe| fail_safe.to_string())),
    ("errors cached", |s| optional(s.negative_ttl, "no")),
    ("`None` cached", |s| optional(s.cache_none, "no")),
    ("tiers", |s| s.tiers.to_string()),
    ("near tier at most", |s| optional(s.near_ttl, "as long as it lives")),
    ("codec", |s| s.codec.name().to_owned()),
    ("compression", compression),
    ("deadline of the remote tier", |s| span(s.remote_deadline)),
    ("soft time-out", |s| optional(s.soft_timeout, "none")),
    ("hard time-out", |s| span(s.hard_timeout)),
    ("load by another process", |s| s.lease.to_string()),
    ("longest load", |s| span(s.max_load)),
    ("served in an outage", |s| span(s.outage_ttl)),
    ("version", |s| s.version.to_string()),
];

/// The whole policy of each strategy as a Markdown table, one column a strategy.
#[must_use]
pub fn policy_table(strategies: &[Strategy]) -> String {
    let mut table = String::from("| |");
    for strategy in strategies {
        write!(table, " `{}` |", strategy.name).expect("a String takes all text");
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(strategies.len()));
    table.push('\n');
    for (name, cell) in ROWS {
        write!(table, "| {name} |").expect("a String takes all text");
        for strategy in strategies {
            write!(table, " {} |", cell(strategy)).expect("a String takes all text");
        }
        table.push('\n');
    }
    table
}

fn span(duration: Duration) -> String {
    Span(duration).to_string()
}

fn optional(duration: Option<Duration>, absent: &str) -> String {
    duration.map_or_else(|| absent.to_owned(), span)
}

fn compression(strategy: &Strategy) -> String {
    match strategy.compression {
        CompressionChoice::None => strategy.compression.to_string(),
        chosen => format!("{chosen} from {} bytes", strategy.compress_above_bytes),
    }
}
