//! The circuit breaker, as a state machine without I/O: time and chance are passed in.
//!
//! ```text
//!            `failures` faults in a row                 pause is over
//!   Closed ----------------------------> Open ------------------------------> HalfOpen
//!      ^                                  ^                                    |     |
//!      |                                  +------ the probe failed ------------+     |
//!      +---------------------------------------- the probe succeeded ----------------+
//! ```
//!
//! Faults count in a row, because a backend that answers between two faults is there; those that lie further apart than
//! the window do not belong together. A pause is drawn from the upper half of its length, so that processes which
//! lost the same server do not come back to it at once, and doubles with every failed probe.

use std::time::Duration;

use larder_core::{Error, Result, Tick};

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// All calls go to the backend.
    Closed,
    /// None do.
    Open,
    /// None but one probe do.
    HalfOpen,
    /// None do, because somebody said so.
    ForcedOpen,
    /// All do, because somebody said so; faults are not counted.
    ForcedClosed,
}

impl BreakerState {
    /// Whether calls go to the backend.
    #[must_use]
    pub const fn lets_calls_through(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed)
    }

    /// A short lower-case name, for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }
}

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// Faults in a row that open it; at least 1, by default 3.
    pub failures: u32,
    /// Faults that lie further apart do not count as a row; above zero, by default 10 s.
    pub window: Duration,
    /// The first pause; above zero, by default 250 ms.
    pub first_pause: Duration,
    /// The longest pause; at least the first, by default 1 s, so that a server is used again within about a second of its
    /// return.
    pub longest_pause: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 3,
            window: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(1),
        }
    }
}

impl BreakerSettings {
    pub(crate) fn check(&self) -> Result<()> {
        if self.failures == 0 {
            return Err(Error::config("failures", "is 0; give the number of faults in a row that opens the breaker"));
        }
        if self.window.is_zero() {
            return Err(Error::config("window", "is zero; give the time within which faults count as a row"));
        }
        if self.first_pause.is_zero() {
            return Err(Error::config("first_pause", "is zero; give the time before the first probe"));
        }
        if self.longest_pause < self.first_pause {
            let message = format!("is {:?}, less than `first_pause` ({:?})", self.longest_pause, self.first_pause);
            return Err(Error::config("longest_pause", message));
        }
        Ok(())
    }
}

/// Stands for one call that was let through. The outcome of a call that began before the breaker last opened or closed says
/// nothing about now, and is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub(crate) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    None,
    Open,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed { faults: u32, last_fault: Tick },
    Open { until: Tick, pause: Duration },
    Probing { pause: Duration },
}

const CALM: Phase = Phase::Closed { faults: 0, last_fault: Tick::ZERO };

/// A circuit breaker without I/O: whoever has it passes in time and chance. Opens after faults in a row, lets one probe through
/// after a pause that grows, and closes when that is answered.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
    force: Force,
    generation: u64,
}

impl Breaker {
    /// A closed breaker.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting and what would be right.
    pub fn new(settings: BreakerSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, phase: CALM, force: Force::None, generation: 0 })
    }

    /// What it lets through now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match (self.force, self.phase) {
            (Force::Open, _) => BreakerState::ForcedOpen,
            (Force::Closed, _) => BreakerState::ForcedClosed,
            (Force::None, Phase::Closed { .. }) => BreakerState::Closed,
            (Force::None, Phase::Open { .. }) => BreakerState::Open,
            (Force::None, Phase::Probing { .. }) => BreakerState::HalfOpen,
        }
    }

    /// Whether it is closed and has no fault on its mind.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.force != Force::Open && matches!(self.phase, Phase::Closed { faults: 0, .. })
    }

    /// Asks whether a call may go to the backend.
    #[must_use]
    pub fn admit(&self) -> Option<Ticket> {
        self.state().lets_calls_through().then_some(Ticket(self.generation))
    }

    /// The backend answered a call.
    pub fn succeeded(&mut self, ticket: Ticket) {
        if ticket.0 == self.generation && matches!(self.phase, Phase::Closed { .. }) {
            self.phase = CALM;
        }
    }

    /// The backend failed a call. `chance` (0 to 1) spreads the pause. Answers whether this opened the breaker.
    pub fn failed(&mut self, ticket: Ticket, now: Tick, chance: f64) -> bool {
        let Phase::Closed { faults, last_fault } = self.phase else { return false };
        if ticket.0 != self.generation || self.force != Force::None {
            return false;
        }
        let row = if now.since(last_fault) > self.settings.window { 0 } else { faults };
        if row + 1 < self.settings.failures {
            self.phase = Phase::Closed { faults: row + 1, last_fault: now };
            return false;
        }
        self.open(now, self.settings.first_pause, chance);
        true
    }

    /// When the next probe is due; `None` while none is needed or one is under way.
    #[must_use]
    pub fn probe_due(&self) -> Option<Tick> {
        match (self.force, self.phase) {
            (Force::None, Phase::Open { until, .. }) => Some(until),
            _ => None,
        }
    }

    /// Asks for the one probe. Whoever gets it must say how it went, by [`probe_succeeded`](Self::probe_succeeded),
    /// [`probe_failed`](Self::probe_failed) or [`probe_dropped`](Self::probe_dropped).
    #[must_use]
    pub fn begin_probe(&mut self, now: Tick) -> bool {
        match (self.force, self.phase) {
            (Force::None, Phase::Open { until, pause }) if now >= until => {
                self.phase = Phase::Probing { pause };
                true
            }
            _ => false,
        }
    }

    /// The probe was answered: closes the breaker. Answers whether a probe was under way.
    pub fn probe_succeeded(&mut self) -> bool {
        let probing = matches!(self.phase, Phase::Probing { .. });
        if probing {
            self.phase = CALM;
            self.generation += 1;
        }
        probing
    }

    /// The probe failed: the next one comes after twice the pause.
    pub fn probe_failed(&mut self, now: Tick, chance: f64) {
        if let Phase::Probing { pause } = self.phase {
            self.open(now, pause.saturating_mul(2).min(self.settings.longest_pause), chance);
        }
    }

    /// The probe was given up without an answer: another one may begin at once.
    pub fn probe_dropped(&mut self, now: Tick) {
        if let Phase::Probing { pause } = self.phase {
            self.phase = Phase::Open { until: now, pause };
        }
    }

    /// Lets nothing through until [`auto`](Self::auto) or [`force_closed`](Self::force_closed).
    pub fn force_open(&mut self) {
        self.force = Force::Open;
        self.generation += 1;
    }

    /// Lets everything through until [`auto`](Self::auto) or [`force_open`](Self::force_open).
    pub fn force_closed(&mut self) {
        self.force = Force::Closed;
        self.phase = CALM;
        self.generation += 1;
    }

    /// Takes back what was forced. A breaker that was forced open probes at once and closes if that succeeds.
    pub fn auto(&mut self, now: Tick) {
        if self.force == Force::Open {
            self.phase = Phase::Open { until: now, pause: self.settings.first_pause };
        }
        self.force = Force::None;
        self.generation += 1;
    }

    fn open(&mut self, now: Tick, pause: Duration, chance: f64) {
        let spread = pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.phase = Phase::Open { until: now + spread, pause };
        self.generation += 1;
    }
}
