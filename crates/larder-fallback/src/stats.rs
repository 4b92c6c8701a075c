//! What a fallback has done so far.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use larder_core::ErrorKind;

use crate::BreakerState;

/// The kinds of errors that speak of a backend's health.
const KINDS: [ErrorKind; 8] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Auth,
    ErrorKind::ReadOnly,
    ErrorKind::Loading,
    ErrorKind::OutOfMemory,
    ErrorKind::PrimaryDown,
    ErrorKind::Protocol,
];

/// Faults of the primary by their kind.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts([u64; KINDS.len()]);

impl FaultCounts {
    /// How many faults of this kind there were.
    #[must_use]
    pub fn of(&self, kind: ErrorKind) -> u64 {
        self.iter().find(|(other, _)| *other == kind).map_or(0, |(_, count)| count)
    }

    /// All kinds, those without a fault too.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        KINDS.into_iter().zip(self.0)
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Debug for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

/// How the journal's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FileState {
    /// There is none: removals that are remembered end with the process.
    #[default]
    None,
    /// It holds what the journal holds.
    Sound,
    /// It could not be written, and lacks something. The process that finds it so removes the generation.
    Failing,
}

impl FileState {
    /// A short lower-case name, for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sound => "sound",
            Self::Failing => "failing",
        }
    }
}

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
    /// The same by kind.
    pub faults: FaultCounts,
    /// Faults that no caller was told of, because the secondary, the journal or a miss took their place.
    pub hidden: u64,
    /// Calls that it answered, but late.
    pub slow: u64,
    /// Calls that did not go to the primary because too many were under way there.
    pub overloaded: u64,
    /// Calls that did not go to the primary, because the breaker was open.
    pub short_circuited: u64,
    /// Times the breaker opened by itself.
    pub opened: u64,
    /// Probes sent.
    pub probes: u64,
    /// Keys whose removal is remembered now.
    pub journal: usize,
    /// Bytes that they take up, about.
    pub journal_bytes: usize,
    /// Whether removals found no room, so that the generation has to be removed before the primary is read again.
    pub overflown: bool,
    /// Remembered removals that were carried out.
    pub replayed: u64,
    /// Values that were copied to the primary when it was back: see [`copy_back`](crate::FallbackBuilder::copy_back).
    pub copied: u64,
    /// Removals that found no room in the journal. Where there is a generation its removal covers them.
    pub lost: u64,
    /// Times the generation was removed in place of removals that were not remembered.
    pub generations_removed: u64,
    /// The journal's file.
    pub file: FileState,
    /// Writes to that file that failed.
    pub file_errors: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) failures: AtomicU64,
    faults: [AtomicU64; KINDS.len()],
    pub(crate) hidden: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) short_circuited: AtomicU64,
    pub(crate) opened: AtomicU64,
    pub(crate) probes: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) copied: AtomicU64,
    pub(crate) generations_removed: AtomicU64,
}

impl Counters {
    /// A fault that so many callers met.
    pub(crate) fn fault(&self, kind: ErrorKind, callers: u32) {
        add(&self.failures, callers.into());
        if let Some(index) = KINDS.iter().position(|other| *other == kind) {
            add(&self.faults[index], callers.into());
        }
    }

    pub(crate) fn faults(&self) -> FaultCounts {
        FaultCounts(std::array::from_fn(|index| read(&self.faults[index])))
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
