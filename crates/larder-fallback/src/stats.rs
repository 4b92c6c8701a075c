//! What a fallback has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::BreakerState;

/// Figures since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FallbackStats {
    /// What the breaker lets through now.
    pub state: BreakerState,
    /// Calls that went to the primary.
    pub calls: u64,
    /// Calls of these that it failed.
    pub failures: u64,
    /// Calls that did not go to the primary, because the breaker was open.
    pub short_circuited: u64,
    /// Times the breaker opened by itself.
    pub opened: u64,
    /// Probes sent.
    pub probes: u64,
    /// Keys whose removal is remembered now.
    pub journal: usize,
    /// Remembered removals that were carried out.
    pub replayed: u64,
    /// Removals that found no room in the journal.
    pub lost: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) short_circuited: AtomicU64,
    pub(crate) opened: AtomicU64,
    pub(crate) probes: AtomicU64,
    pub(crate) replayed: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
