//! What Larder says of itself: log events (feature `tracing`) and figures (feature `metrics`). Without the features these
//! functions are empty.
#![cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "without `tracing` nothing is said"))]

use larder_codec::ReadFailure;
use larder_core::{Error, Key};
use larder_fallback::FallbackStats;

use crate::{engine::Fault, stats::Stats};

macro_rules! event {
    ($level:ident, $($rest:tt)*) => {
        {
            #[cfg(feature = "tracing")]
            {
                tracing::$level!(target: "larder", $($rest)*);
            }
        }
    };
}

pub(crate) fn undecodable(key: &Key, failure: &ReadFailure) {
    event!(warn, %key, reason = %failure, "a stored entry cannot be used and counts as a miss");
}

pub(crate) fn remote_fault(key: Option<&Key>, error: &Error) {
    event!(debug, key = key.map(Key::as_str), kind = %error.kind(), %error, "the remote tier failed; the read goes on");
}

pub(crate) fn load_failed(key: &Key, fault: &Fault) {
    let reason = match fault {
        Fault::Loader(_) => "the loader returned an error".to_owned(),
        Fault::Larder(fault) => fault.to_string(),
        Fault::Remote(error) => error.to_string(),
    };
    event!(debug, %key, reason, "a load failed");
}

pub(crate) fn fill_lost(key: &Key) {
    event!(debug, %key, "a loaded value was not stored: the key was invalidated or written meanwhile");
}

pub(crate) fn refused_value(key: &Key, error: &Error) {
    event!(warn, %key, %error, "a value was not stored");
}

pub(crate) fn wrong_type(key: &str, asked: &str) {
    event!(warn, key, asked, "an entry was read as another type than it was written as; this read is a miss");
}

pub(crate) fn many_tags(region: &str, key: &Key, tags: usize) {
    event!(warn, region, %key, tags, "an entry has many tags: each costs a comparison on every hit; said once a region");
}

pub(crate) fn degraded(operation: &'static str, error: &Error) {
    event!(debug, operation, kind = %error.kind(), %error, "a cache fault was treated as a miss");
}

pub(crate) fn hit_rate(low: bool, rate: f64, bound: f64) {
    let advice = if low { "low: look at TTLs, key arguments and warming" } else { "above its bound again" };
    event!(warn, rate, bound, "the hit rate is {advice}");
}

pub(crate) fn bus() {
    event!(info, "the invalidation bus is connected: the near tier starts empty and is trusted");
}

pub(crate) fn tracking() {
    event!(info, "the store tells of every change of a key, whoever made it: the near tier starts empty");
}

pub(crate) fn untracked() {
    event!(
        warn,
        "the store does not say any more which keys change: the near tier is empty and near entries live for the blind TTL \
         until it does"
    );
}

pub(crate) fn distrusted(reason: &'static str) {
    event!(
        warn,
        reason,
        "the invalidation bus is distrusted: the near tier is empty and near entries live for the blind TTL until it has \
         been subscribed to anew"
    );
}

pub(crate) fn bad_message(reason: &str) {
    event!(warn, reason, "a message on the invalidation bus was ignored");
}

/// Hands the totals to the `metrics` recorder; counters are absolute, so nothing is counted on the hit path.
#[cfg(feature = "metrics")]
pub(crate) fn publish(prefix: &str, stats: &Stats) {
    let namespace = prefix.trim_end_matches(':').to_owned();
    for (tier, value) in [("near", stats.near_hits), ("remote", stats.remote_hits)] {
        metrics::counter!("larder_hits_total", "namespace" => namespace.clone(), "tier" => tier).absolute(value);
    }
    for (name, value) in [
        ("larder_stale_hits_total", stats.stale_hits),
        ("larder_misses_total", stats.misses),
        ("larder_loads_total", stats.loads),
        ("larder_load_errors_total", stats.load_errors),
        ("larder_coalesced_total", stats.coalesced),
        ("larder_remote_faults_total", stats.remote_faults),
        ("larder_undecodable_total", stats.undecodable),
        ("larder_refused_total", stats.refused),
        ("larder_evictions_total", stats.evictions),
    ] {
        metrics::counter!(name, "namespace" => namespace.clone()).absolute(value);
    }
    #[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 52 bits")]
    for (name, value) in [("larder_near_entries", stats.near_entries), ("larder_near_bytes", stats.near_bytes)] {
        metrics::gauge!(name, "namespace" => namespace.clone()).set(value as f64);
    }
}

/// The same for the fallback of the remote tier.
#[cfg(feature = "metrics")]
pub(crate) fn publish_remote(prefix: &str, stats: &FallbackStats) {
    let namespace = prefix.trim_end_matches(':').to_owned();
    for (kind, count) in stats.faults.iter() {
        metrics::counter!("larder_remote_faults_by_kind_total", "namespace" => namespace.clone(), "kind" => kind.as_str())
            .absolute(count);
    }
    for (name, value) in [
        ("larder_breaker_opened_total", stats.opened),
        ("larder_remote_slow_total", stats.slow),
        ("larder_remote_overloaded_total", stats.overloaded),
        ("larder_remote_short_circuited_total", stats.short_circuited),
        ("larder_journal_replayed_total", stats.replayed),
        ("larder_journal_lost_total", stats.lost),
        ("larder_journal_file_errors_total", stats.file_errors),
        ("larder_generations_removed_total", stats.generations_removed),
    ] {
        metrics::counter!(name, "namespace" => namespace.clone()).absolute(value);
    }
    let is_open = usize::from(!stats.state.lets_calls_through());
    #[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 52 bits")]
    for (name, value) in [
        ("larder_breaker_open", is_open),
        ("larder_journal_keys", stats.journal),
        ("larder_journal_bytes", stats.journal_bytes),
    ] {
        metrics::gauge!(name, "namespace" => namespace.clone()).set(value as f64);
    }
}

#[cfg(not(feature = "metrics"))]
pub(crate) fn publish_remote(_prefix: &str, _stats: &FallbackStats) {}

#[cfg(not(feature = "metrics"))]
pub(crate) fn publish(_prefix: &str, _stats: &Stats) {}
