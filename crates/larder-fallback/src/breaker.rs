//! The circuit breaker, as a state machine without I/O: time and chance are passed in.
//!
//! ```text
//!            too many faults, or too slow              pause is over
//!   Closed ----------------------------> Open ------------------------------> HalfOpen
//!      ^                                  ^                                    |     |
//!      |                                  +------ the probe failed ------------+     |
//!      +---------------------------------------- the probe succeeded ----------------+
//! ```
//!
//! Three rules open it, of which each finds what the others miss:
//!
//! - **Faults in a row.** A backend that is gone fails every call, and three of them are enough to know. An answer between
//!   two faults begins the row anew; those that lie further apart than the window do not belong together.
//! - **The share of faults** in a window of time and calls: a backend that fails every other call answers in between.
//! - **The share of slow calls** in the same window: one that answers just before callers give up costs them as much as one
//!   that does not answer.
//!
//! A pause is drawn from the upper half of its length, so that processes which lost the same server do not come back to it
//! at once, and doubles with every failed probe.

use std::time::Duration;

use larder_core::{Error, Result, Tick};

use crate::window::{Tally, Window};

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
    /// How far back calls count, faults in a row too; above zero, by default 10 s.
    pub window: Duration,
    /// How many of the latest calls count for the shares; at least `minimum_calls`, by default 1,000. Of more calls in the
    /// window's time the earlier ones are forgotten.
    pub window_calls: u32,
    /// Below so many calls in the window their shares say nothing; at least 1, by default 20.
    pub minimum_calls: u32,
    /// Faults among the calls of the window that open it, in percent; 1 to 100, by default 50.
    pub failure_percent: u32,
    /// Slow calls among them that open it, in percent; 1 to 100, by default 80.
    pub slow_percent: u32,
    /// Probes in a row that must be answered before it closes; at least 1, by default 1.
    pub successes: u32,
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
            window_calls: 1000,
            minimum_calls: 20,
            failure_percent: 50,
            slow_percent: 80,
            successes: 1,
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
            return Err(Error::config("window", "is zero; give the time for which a call counts"));
        }
        if self.minimum_calls == 0 {
            return Err(Error::config("minimum_calls", "is 0; give the number of calls from which on shares count"));
        }
        if self.window_calls < self.minimum_calls {
            let message = format!("is {}, less than `minimum_calls` ({})", self.window_calls, self.minimum_calls);
            return Err(Error::config("window_calls", message));
        }
        for (name, percent) in [("failure_percent", self.failure_percent), ("slow_percent", self.slow_percent)] {
            if !(1..=100).contains(&percent) {
                return Err(Error::config(name, format!("is {percent}; give a share of the calls, 1 to 100")));
            }
        }
        if self.successes == 0 {
            return Err(Error::config("successes", "is 0; give the number of probes that must be answered"));
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
    Closed {
        faults: u32,
        last_fault: Tick,
    },
    Open {
        until: Tick,
        pause: Duration,
    },
    /// `nudged`: somebody has said meanwhile that the backend is back.
    Probing {
        pause: Duration,
        nudged: bool,
    },
}

const CALM: Phase = Phase::Closed { faults: 0, last_fault: Tick::ZERO };

/// A circuit breaker without I/O: whoever has it passes in time and chance. Opens after faults in a row, or when too many of the
/// latest calls failed or were slow; lets one probe through after a pause that grows, and closes when that is answered.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
    window: Window,
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
        let window = Window::new(settings.window, settings.window_calls);
        Ok(Self { settings, phase: CALM, window, force: Force::None, generation: 0 })
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

    /// The backend answered a call in good time.
    pub fn succeeded(&mut self, ticket: Ticket, now: Tick) {
        if ticket.0 == self.generation && matches!(self.phase, Phase::Closed { .. }) {
            self.phase = CALM;
            self.window.add(now, Tally::good(1));
        }
    }

    /// The backend answered so many calls in good time while the breaker was [calm](Self::is_calm): how a caller tells that
    /// does not take a lock for each of them.
    pub fn succeeded_calmly(&mut self, calls: u32, now: Tick) {
        if matches!(self.phase, Phase::Closed { .. }) {
            self.window.add(now, Tally::good(calls));
        }
    }

    /// The backend answered a call late. `chance` (0 to 1) spreads the pause. Answers whether this opened the breaker.
    pub fn slow(&mut self, ticket: Ticket, now: Tick, chance: f64) -> bool {
        if !self.judges(ticket) {
            return false;
        }
        self.phase = CALM;
        let total = self.window.add(now, Tally::SLOW);
        self.too_many(total.slow, total.calls, self.settings.slow_percent) && self.open_now(ticket, now, chance)
    }

    /// The backend failed a call. `chance` (0 to 1) spreads the pause. Answers whether this opened the breaker.
    pub fn failed(&mut self, ticket: Ticket, now: Tick, chance: f64) -> bool {
        let Phase::Closed { faults, last_fault } = self.phase else { return false };
        if !self.judges(ticket) {
            return false;
        }
        let total = self.window.add(now, Tally::FAULT);
        let row = if now.since(last_fault) > self.settings.window { 0 } else { faults };
        self.phase = Phase::Closed { faults: row + 1, last_fault: now };
        let open = row + 1 >= self.settings.failures
            || self.too_many(total.faults, total.calls, self.settings.failure_percent);
        open && self.open_now(ticket, now, chance)
    }

    /// The backend said of itself that it must not be asked. Answers whether this opened the breaker.
    pub fn open_now(&mut self, ticket: Ticket, now: Tick, chance: f64) -> bool {
        let judges = self.judges(ticket);
        if judges {
            self.open(now, self.settings.first_pause, chance);
        }
        judges
    }

    /// The backend must not be asked before a probe has seen to something: the first one is due at once.
    pub(crate) fn begin_open(&mut self, now: Tick) {
        self.phase = Phase::Open { until: now, pause: self.settings.first_pause };
    }

    /// Whether the outcome of this call counts.
    fn judges(&self, ticket: Ticket) -> bool {
        ticket.0 == self.generation && self.force == Force::None && matches!(self.phase, Phase::Closed { .. })
    }

    fn too_many(&self, some: u32, all: u32, percent: u32) -> bool {
        all >= self.settings.minimum_calls && u64::from(some) * 100 >= u64::from(all) * u64::from(percent)
    }

    /// Somebody says that the backend is back: the next probe is due now, or when the one that is under way has failed.
    pub fn nudge(&mut self, now: Tick) {
        match &mut self.phase {
            Phase::Open { until, .. } => *until = now.min(*until),
            Phase::Probing { nudged, .. } => *nudged = true,
            Phase::Closed { .. } => {}
        }
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
                self.phase = Phase::Probing { pause, nudged: false };
                true
            }
            _ => false,
        }
    }

    /// The probe was answered: closes the breaker. Answers whether a probe was under way.
    pub fn probe_succeeded(&mut self) -> bool {
        let probing = matches!(self.phase, Phase::Probing { .. });
        if probing {
            self.calm_down();
        }
        probing
    }

    /// The probe failed: the next one comes after twice the pause, or at once after a [`nudge`](Self::nudge).
    pub fn probe_failed(&mut self, now: Tick, chance: f64) {
        if let Phase::Probing { pause, nudged } = self.phase {
            self.open(now, pause.saturating_mul(2).min(self.settings.longest_pause), chance);
            if nudged {
                self.nudge(now);
            }
        }
    }

    /// The probe was given up without an answer: another one may begin at once.
    pub fn probe_dropped(&mut self, now: Tick) {
        if let Phase::Probing { pause, .. } = self.phase {
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
        self.calm_down();
    }

    /// Takes back what was forced. A breaker that was forced open probes at once and closes if that succeeds.
    pub fn auto(&mut self, now: Tick) {
        if self.force == Force::Open {
            self.phase = Phase::Open { until: now, pause: self.settings.first_pause };
        }
        self.force = Force::None;
        self.generation += 1;
    }

    fn calm_down(&mut self) {
        self.phase = CALM;
        self.window.clear();
        self.generation += 1;
    }

    fn open(&mut self, now: Tick, pause: Duration, chance: f64) {
        let half = pause / 2;
        let spread = half + half.mul_f64(chance.clamp(0.0, 1.0));
        self.phase = Phase::Open { until: now + spread, pause };
        self.window.clear();
        self.generation += 1;
    }
}
