//! The settings of a fallback.

use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Backend, Error, Result, SystemClock, Timer};

use crate::{Breaker, BreakerSettings, FallbackBackend, shared::Shared};

/// How a fallback behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) deadline: Duration,
    pub(crate) outage_ttl: Duration,
    pub(crate) local_counters: bool,
    pub(crate) journal_keys: usize,
}

/// Settings of a [`FallbackBackend`].
#[must_use = "call `build` to get the backend"]
pub struct FallbackBuilder {
    primary: Arc<dyn Backend>,
    secondary: Arc<dyn Backend>,
    settings: Settings,
    breaker: BreakerSettings,
    timer: Option<Arc<dyn Timer>>,
    seed: Option<u64>,
}

impl FallbackBuilder {
    pub(crate) fn new(primary: Arc<dyn Backend>, secondary: Arc<dyn Backend>) -> Self {
        let settings = Settings {
            deadline: Duration::from_millis(50),
            outage_ttl: Duration::from_secs(60),
            local_counters: false,
            journal_keys: 10_000,
        };
        Self { primary, secondary, settings, breaker: BreakerSettings::default(), timer: None, seed: None }
    }

    /// How long a call to the primary may take; above zero, by default 50 ms. A caller's own deadline should be longer:
    /// one that gives up earlier leaves the breaker without a verdict.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// How long the secondary keeps anything at most; above zero, by default 60 s.
    pub fn outage_ttl(mut self, ttl: Duration) -> Self {
        self.settings.outage_ttl = ttl;
        self
    }

    /// Faults in a row that open the breaker; at least 1, by default 3.
    pub fn failures(mut self, failures: u32) -> Self {
        self.breaker.failures = failures;
        self
    }

    /// Faults that lie further apart do not count as a row; above zero, by default 10 s.
    pub fn window(mut self, window: Duration) -> Self {
        self.breaker.window = window;
        self
    }

    /// The pause before the first probe and the longest one; by default 250 ms and 1 s.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.breaker.first_pause = first;
        self.breaker.longest_pause = longest;
        self
    }

    /// Whether counters, locks and conditional writes go to the secondary while the primary is away, by default not. Every
    /// process then has its own, and they end with the outage.
    pub fn local_counters(mut self, local: bool) -> Self {
        self.settings.local_counters = local;
        self
    }

    /// Keys whose removal can be remembered; at least 1, by default 10,000. Each takes up to about 600 bytes.
    pub fn journal_keys(mut self, keys: usize) -> Self {
        self.settings.journal_keys = keys;
        self
    }

    /// Where time comes from, by default the machine's clock.
    pub fn timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Makes the pauses repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the backend. Asks neither of the two for anything.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting and what would be right.
    pub fn build(self) -> Result<FallbackBackend> {
        if self.settings.deadline.is_zero() {
            return Err(Error::config("deadline", "is zero; give the time that a call to the primary may take"));
        }
        if self.settings.outage_ttl.is_zero() {
            return Err(Error::config("outage_ttl", "is zero; give the time that the secondary may keep a value"));
        }
        if self.settings.journal_keys == 0 {
            return Err(Error::config("journal_keys", "is 0; give at least 1, or removals are lost in an outage"));
        }
        let breaker = Breaker::new(self.breaker)?;
        let timer = self.timer.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let random = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Ok(FallbackBackend::assemble(Shared::new(self.primary, self.secondary, self.settings, breaker, timer, random)))
    }
}

impl fmt::Debug for FallbackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackBuilder")
            .field("primary", &self.primary)
            .field("secondary", &self.secondary)
            .field("settings", &self.settings)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
