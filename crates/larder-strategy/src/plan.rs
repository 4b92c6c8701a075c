//! How long one entry lives: drawn once, when it is filled.

use std::time::Duration;

use larder_core::ttl_millis;

use crate::{EarlyRefresh, Strategy, validate::MAX_JITTER};

/// The life of one entry, from the moment it is filled. [`Duration::MAX`] stands for "for ever".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The TTL after jitter; zero: do not store.
    pub ttl: Duration,
    /// How long the entry is fresh; the same as [`ttl`](Self::ttl).
    pub fresh_for: Duration,
    /// How long the entry lives in all, its stale window included.
    pub stale_for: Duration,
    /// After how long a hit starts a refresh in the background; before [`fresh_for`](Self::fresh_for). `None`: not early.
    pub refresh_after: Option<Duration>,
}

impl Plan {
    /// The plan of what is not to be stored.
    pub const NOT_STORED: Self =
        Self { ttl: Duration::ZERO, fresh_for: Duration::ZERO, stale_for: Duration::ZERO, refresh_after: None };

    /// Whether the entry is to be stored at all.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        !self.ttl.is_zero()
    }

    /// Whether the entry never expires.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.ttl == Duration::MAX
    }
}

impl Strategy {
    /// Plans the life of an entry whose load took `load_cost`, under the strategy's TTL or the one of the call.
    ///
    /// - A TTL of zero is [`Plan::NOT_STORED`]; any other is stored, if only for a nanosecond.
    /// - A TTL above 100 years is for ever: without jitter and early refresh, [`Duration::MAX`] throughout.
    /// - Settings that [`validate`](Self::validate) would refuse count as the nearest allowed ones, or as off.
    ///
    /// Draws at most two numbers from `rng`: the same seed gives the same plan. Never panics.
    #[must_use]
    pub fn plan(&self, ttl_override: Option<Duration>, load_cost: Duration, rng: &mut fastrand::Rng) -> Plan {
        self.plan_life(ttl_override.unwrap_or(self.ttl), load_cost, self.stale_window, rng)
    }

    /// Plans the memory of a failed load: [`negative_ttl`](Self::negative_ttl) with jitter, never stale, never early.
    #[must_use]
    pub fn plan_negative(&self, rng: &mut fastrand::Rng) -> Plan {
        self.plan_short(self.negative_ttl, rng)
    }

    /// Plans the entry of an absent value: [`cache_none`](Self::cache_none) with jitter, never stale, never early.
    #[must_use]
    pub fn plan_none(&self, rng: &mut fastrand::Rng) -> Plan {
        self.plan_short(self.cache_none, rng)
    }

    /// After how long an entry that another process has loaded, and that was fresh for `fresh_for` in all, is refreshed
    /// early; counted from when it was written. `None`: not early.
    #[must_use]
    pub fn refresh_after(&self, fresh_for: Duration, load_cost: Duration, rng: &mut fastrand::Rng) -> Option<Duration> {
        if is_endless(fresh_for) { None } else { self.early_refresh.sample(fresh_for, load_cost, rng) }
    }

    /// How much of a plan's life the near tier may use: all of it, or [`near_ttl`](Self::near_ttl) if that is shorter.
    #[must_use]
    pub fn near_life(&self, life: Duration) -> Duration {
        self.near_ttl.map_or(life, |cap| cap.min(life))
    }

    fn plan_short(&self, ttl: Option<Duration>, rng: &mut fastrand::Rng) -> Plan {
        let Some(ttl) = ttl else { return Plan::NOT_STORED };
        let fresh_for = self.shorten(ttl, rng);
        Plan { ttl: fresh_for, fresh_for, stale_for: fresh_for, refresh_after: None }
    }

    fn plan_life(&self, ttl: Duration, cost: Duration, window: Duration, rng: &mut fastrand::Rng) -> Plan {
        let fresh_for = self.shorten(ttl, rng);
        if fresh_for.is_zero() {
            return Plan::NOT_STORED;
        }
        if fresh_for == Duration::MAX {
            return Plan { ttl: fresh_for, fresh_for, stale_for: Duration::MAX, refresh_after: None };
        }
        let whole = fresh_for.saturating_add(window);
        let stale_for = if is_endless(whole) { Duration::MAX } else { whole };
        let refresh_after = self.early_refresh.sample(fresh_for, cost, rng);
        Plan { ttl: fresh_for, fresh_for, stale_for, refresh_after }
    }

    /// The TTL less its jitter; never zero if it was not.
    fn shorten(&self, ttl: Duration, rng: &mut fastrand::Rng) -> Duration {
        if is_endless(ttl) {
            return Duration::MAX;
        }
        let jitter = if self.jitter.is_nan() { 0.0 } else { self.jitter.clamp(0.0, MAX_JITTER) };
        if jitter == 0.0 || ttl.is_zero() {
            return ttl;
        }
        ttl.saturating_sub(scaled(ttl, jitter * rng.f64())).max(Duration::from_nanos(1))
    }
}

impl EarlyRefresh {
    /// When an entry that is fresh for `fresh_for` is refreshed early, if it is.
    fn sample(self, fresh_for: Duration, cost: Duration, rng: &mut fastrand::Rng) -> Option<Duration> {
        let after = match self {
            Self::Share(share) if share > 0.0 && share < 1.0 => scaled(fresh_for, share),
            Self::XFetch { beta } if beta > 0.0 => {
                // `f64` draws from [0, 1); its complement never is zero, so the logarithm is finite.
                let lead = scaled(cost, beta * -(1.0 - rng.f64()).ln());
                fresh_for.saturating_sub(lead).max(fresh_for / 2)
            }
            Self::Off | Self::Share(_) | Self::XFetch { .. } => return None,
        };
        // A load that cost nothing has nothing to be early for, and rounding may end at the TTL itself.
        (after < fresh_for).then_some(after)
    }
}

/// The same limit as stores use for "does not expire".
fn is_endless(duration: Duration) -> bool {
    ttl_millis(duration).is_none()
}

/// A duration times a factor of at least zero; too long for a `Duration` is the longest one.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}
