//! Where a value came from.

use std::{fmt, time::Duration};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// From this process's memory.
    Near,
    /// From the remote tier.
    Remote,
    /// From the loader, just now.
    Loaded,
}

impl Source {
    /// A short lower-case name: `near`, `remote`, `miss`. With staleness it makes an `x-cache` header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Remote => "remote",
            Self::Loaded => "miss",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value with its provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
    /// How long ago it was loaded, as far as this process knows: an entry of the remote tier is dated by its deadlines.
    pub age: Duration,
    /// Whether it is past its fresh-until: a refresh is under way, or the source failed.
    pub stale: bool,
}

impl<T> Outcome<T> {
    /// A value that the loader has just returned.
    #[must_use]
    pub fn loaded(value: T) -> Self {
        Self { value, source: Source::Loaded, age: Duration::ZERO, stale: false }
    }

    /// The same provenance for another value.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome { value: change(self.value), source: self.source, age: self.age, stale: self.stale }
    }

    /// What an `x-cache` header says: `near`, `remote`, `stale` or `miss`.
    #[must_use]
    pub fn x_cache(&self) -> &'static str {
        if self.stale { "stale" } else { self.source.as_str() }
    }
}

impl<T> Outcome<Option<T>> {
    /// The outcome of a value that is there.
    #[must_use]
    pub fn transpose(self) -> Option<Outcome<T>> {
        let Self { value, source, age, stale } = self;
        value.map(|value| Outcome { value, source, age, stale })
    }
}
