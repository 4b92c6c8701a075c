//! What a warming tells while it runs.

use std::time::Duration;

/// What warming one key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Warmed {
    /// It was loaded and is now in the cache.
    Loaded,
    /// It was there.
    AlreadyWarm,
}

/// How far a warming is, told after each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Keys that are done, in whatever way.
    pub done: usize,
    /// Keys in all; `None` where the list does not know its length.
    pub total: Option<usize>,
    /// Keys that were loaded.
    pub loaded: usize,
    /// Keys that were there.
    pub already_warm: usize,
    /// Keys that failed after their last attempt.
    pub failed: usize,
    /// Time since the start.
    pub elapsed: Duration,
}
