//! What a warming came to.

use std::{fmt, time::Duration};

use crate::{Failure, Progress, Warmed};

/// What a warming came to; displays as a small table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// What was warmed.
    pub name: String,
    /// Keys that were loaded.
    pub loaded: usize,
    /// Keys that were there.
    pub already_warm: usize,
    /// Keys that failed after their last attempt.
    pub failed: usize,
    /// The first of these, as many as [`WarmerBuilder::failures_listed`](crate::WarmerBuilder::failures_listed) allows.
    pub failures: Vec<Failure>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Report {
    /// Keys in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.loaded + self.already_warm + self.failed
    }

    /// Whether no key failed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn named(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    pub(crate) fn count(&mut self, outcome: Result<Warmed, Failure>, listed: usize) {
        match outcome {
            Ok(Warmed::Loaded) => self.loaded += 1,
            Ok(Warmed::AlreadyWarm) => self.already_warm += 1,
            Err(failure) => {
                self.failed += 1;
                if self.failures.len() < listed {
                    self.failures.push(failure);
                }
            }
        }
    }

    pub(crate) fn progress(&self, total: Option<usize>, elapsed: Duration) -> Progress {
        let Self { loaded, already_warm, failed, .. } = *self;
        Progress { done: self.total(), total, loaded, already_warm, failed, elapsed }
    }

    /// Both together, under this one's name and with the time of both: for a job of several warmings in a row.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.loaded += other.loaded;
        self.already_warm += other.already_warm;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.elapsed = self.elapsed.saturating_add(other.elapsed);
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "{}: {} keys in {seconds:.3} s", self.name, self.total())?;
        for (label, count) in [("loaded", self.loaded), ("already warm", self.already_warm), ("failed", self.failed)] {
            writeln!(f, "  {label:<12} {count:>8}")?;
        }
        for failure in &self.failures {
            writeln!(f, "    {failure}")?;
        }
        let unlisted = self.failed.saturating_sub(self.failures.len());
        if unlisted > 0 {
            writeln!(f, "    and {unlisted} more")?;
        }
        Ok(())
    }
}
