//! One line for each change of state, which says what to do.

use std::time::Duration;

use larder_core::{Error, ErrorKind};

use crate::BreakerState;

/// A change of the breaker's state.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) backend: &'a str,
    pub(crate) before: BreakerState,
    pub(crate) after: BreakerState,
    /// How long the primary was away.
    pub(crate) lasted: Duration,
    /// Keys in the journal.
    pub(crate) journal: usize,
    pub(crate) cause: Option<&'a Error>,
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Auth => "check user, password and rights",
        ErrorKind::ReadOnly => {
            "it is a replica, or cannot save its data: check which server is the primary, and its disk"
        }
        ErrorKind::Loading => "it is reading its data from disk, and is used again by itself",
        ErrorKind::PrimaryDown => "it is a replica that has lost its primary",
        ErrorKind::Timeout => "check its load, its slow log and the network",
        _ => "check that its server runs and can be reached",
    }
}

pub(crate) fn state(change: &Change<'_>) {
    let Change { backend, before, after, lasted, journal, cause } = change;
    match after {
        BreakerState::Open if !before.lets_calls_through() => {
            tracing::debug!(target: "larder", backend, "the backend is still away");
        }
        BreakerState::Open => {
            let (error, kind) = (cause.map(tracing::field::display), cause.map(Error::kind));
            let (reason, advice) = kind.map_or(("unknown", ""), |kind| (kind.as_str(), advice(kind)));
            tracing::warn!(
                target: "larder",
                backend,
                reason,
                error,
                "the backend is away: values come from the fallback, removals are remembered; {advice}"
            );
        }
        BreakerState::HalfOpen => {
            tracing::debug!(target: "larder", backend, "asking the backend for a sign of life");
        }
        BreakerState::Closed => {
            tracing::info!(target: "larder", backend, ?lasted, journal, "the backend is back");
        }
        BreakerState::ForcedOpen | BreakerState::ForcedClosed => {
            let state = after.as_str();
            tracing::warn!(target: "larder", backend, state, "the breaker was set by hand; `auto` takes it back");
        }
    }
}

pub(crate) fn writes_refused(backend: &str, error: &Error) {
    tracing::warn!(
        target: "larder",
        backend,
        reason = error.kind().as_str(),
        %error,
        "the backend takes no writes: what it has is still read and removed, new values stay in this process; give it memory, or \
         let it evict (`maxmemory-policy`)"
    );
}

pub(crate) fn writes_taken(backend: &str, lasted: Duration) {
    tracing::info!(target: "larder", backend, ?lasted, "the backend takes writes again");
}

pub(crate) fn overflown(backend: &str, keys: usize) {
    tracing::warn!(
        target: "larder",
        backend,
        keys,
        "the journal is full: nothing is read from the backend until the generation was removed, which invalidates the whole \
         namespace; raise `journal_keys` and `journal_bytes` if outages are to pass without that"
    );
}

pub(crate) fn generation_removed(backend: &str) {
    tracing::warn!(
        target: "larder",
        backend,
        "the generation was removed in place of removals that were not remembered: the whole namespace is invalidated"
    );
}

pub(crate) fn copied(backend: &str, copied: u64, kept: usize) {
    tracing::info!(target: "larder", backend, copied, kept, "values of the outage were copied to the backend");
}

pub(crate) fn journal_found(path: &str, keys: usize, is_complete: bool, is_covered: bool) {
    let consequence = match (is_complete, is_covered) {
        (true, _) => "they are removed before they are read",
        (false, true) => "it may lack some, so the generation is removed before anything is read",
        (false, false) => {
            "it may lack some, which may be read until they expire, since there is no generation to remove"
        }
    };
    tracing::warn!(target: "larder", path, keys, "an earlier process has left removals in its journal; {consequence}");
}
