//! What calls and the recovery task share: who is asked for which key, under one lock.
//!
//! A key is *away* while the breaker lets nothing through, or while the journal holds it. Away keys are read and written in
//! the secondary, all others in the primary. The secondary's keys carry an **epoch**. Whenever keys stop being away, the
//! epoch moves on under the same lock, so that nothing is found again that was stored before: what stands in the secondary
//! was written while its key has been away without a break.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{Backend, Error, Key, Tick, Timer};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{
    Breaker, BreakerState, FallbackStats, Ticket,
    builder::Settings,
    journal::Journal,
    recovery,
    stats::{Counters, count, read},
};

/// Everything that changes.
pub(crate) struct Gate {
    pub(crate) breaker: Breaker,
    pub(crate) journal: Journal,
    pub(crate) epoch: u64,
    /// Whether earlier epochs may still take up room in the secondary.
    pub(crate) unpurged: bool,
    /// Whether the secondary was handed out in this epoch.
    used: bool,
    /// The recovery task, while it has something to do.
    pub(crate) recovery: Option<AbortHandle>,
    pub(crate) random: fastrand::Rng,
    away_since: Tick,
}

impl Gate {
    pub(crate) fn is_away(&self, key: &Key) -> bool {
        !self.breaker.state().lets_calls_through() || self.journal.holds(key)
    }

    /// Whether there is something for the recovery task to do, now or later.
    pub(crate) fn needs_recovery(&self) -> bool {
        let state = self.breaker.state();
        let open = matches!(state, BreakerState::Open | BreakerState::HalfOpen);
        open || state.lets_calls_through() && (self.unpurged || !self.journal.is_empty())
    }
}

pub(crate) struct Shared {
    pub(crate) primary: Arc<dyn Backend>,
    pub(crate) secondary: Arc<dyn Backend>,
    pub(crate) settings: Settings,
    pub(crate) timer: Arc<dyn Timer>,
    pub(crate) counters: Counters,
    /// Wakes the recovery task before its time.
    pub(crate) wake: Arc<Notify>,
    /// Tells this fallback's keys from those of others in the same secondary.
    pub(crate) instance: u64,
    gate: Mutex<Gate>,
    /// While nothing is wrong: the breaker's generation plus one. Else 0.
    calm: AtomicU64,
    state: watch::Sender<BreakerState>,
}

/// Where the keys of a call are to be found.
pub(crate) struct Route {
    /// For those that the primary is asked for.
    pub(crate) ticket: Option<Ticket>,
    /// Which keys are away; empty if none is.
    pub(crate) away: Vec<bool>,
}

impl Route {
    pub(crate) fn is_away(&self, index: usize) -> bool {
        self.ticket.is_none() || self.away.get(index).copied().unwrap_or(false)
    }
}

impl Shared {
    pub(crate) fn new(
        primary: Arc<dyn Backend>,
        secondary: Arc<dyn Backend>,
        settings: Settings,
        breaker: Breaker,
        timer: Arc<dyn Timer>,
        random: fastrand::Rng,
    ) -> Arc<Self> {
        let gate = Gate {
            breaker,
            journal: Journal::new(settings.journal_keys),
            epoch: 0,
            unpurged: false,
            used: false,
            recovery: None,
            random,
            away_since: timer.now(),
        };
        let shared = Self {
            primary,
            secondary,
            settings,
            timer,
            counters: Counters::default(),
            wake: Arc::new(Notify::new()),
            instance: fastrand::u64(..),
            gate: Mutex::new(gate),
            calm: AtomicU64::new(0),
            state: watch::Sender::new(BreakerState::Closed),
        };
        let shared = Arc::new(shared);
        shared.change(None, |_| ());
        shared
    }

    /// Changes the gate, and does what follows from it: the epoch, the subscribers, the log, the recovery task.
    pub(crate) fn change<R>(self: &Arc<Self>, cause: Option<&Error>, act: impl FnOnce(&mut Gate) -> R) -> R {
        let mut gate = self.gate.lock();
        let (before, remembered) = (gate.breaker.state(), gate.journal.len());
        let answer = act(&mut gate);
        let after = gate.breaker.state();
        let back = !before.lets_calls_through() || gate.journal.len() < remembered;
        if back && after.lets_calls_through() && gate.used {
            gate.epoch += 1;
            gate.used = false;
            gate.unpurged = true;
        }
        self.publish_calm(&gate);
        let now = self.timer.now();
        if before.lets_calls_through() && !after.lets_calls_through() {
            gate.away_since = now;
        }
        let lasted = now.since(gate.away_since);
        if gate.needs_recovery() && gate.recovery.as_ref().is_none_or(AbortHandle::is_finished) {
            gate.recovery = recovery::spawn(self);
        }
        if before != after {
            self.state.send_replace(after);
        }
        let remembered = gate.journal.len();
        drop(gate);
        if before != after {
            // Whoever waits for the old state's pause must look again.
            self.wake.notify_one();
            self.log(before, after, lasted, remembered, cause);
        }
        answer
    }

    fn publish_calm(&self, gate: &Gate) {
        let ticket = gate.breaker.admit().filter(|_| gate.breaker.is_calm() && !gate.needs_recovery());
        self.calm.store(ticket.map_or(0, |ticket| ticket.0 + 1), Ordering::Release);
    }

    fn log(&self, before: BreakerState, state: BreakerState, lasted: Duration, journal: usize, cause: Option<&Error>) {
        let backend = self.primary.name();
        match state {
            BreakerState::Open if !before.lets_calls_through() => {
                tracing::debug!(target: "larder", backend, "the backend is still away");
            }
            BreakerState::Open => {
                let error = cause.map(tracing::field::display);
                tracing::warn!(
                    target: "larder",
                    backend,
                    error,
                    "the backend is away: values come from the fallback, removals are remembered; check that its server \
                     runs, can be reached and has memory left"
                );
            }
            BreakerState::HalfOpen => {
                tracing::debug!(target: "larder", backend, "asking the backend for a sign of life");
            }
            BreakerState::Closed => {
                tracing::info!(target: "larder", backend, ?lasted, journal, "the backend is back");
            }
            BreakerState::ForcedOpen | BreakerState::ForcedClosed => {
                let state = state.as_str();
                tracing::warn!(target: "larder", backend, state, "the breaker was set by hand; `auto` takes it back");
            }
        }
    }

    pub(crate) fn route<'k>(self: &Arc<Self>, keys: impl ExactSizeIterator<Item = &'k Key>) -> Route {
        let calm = self.calm.load(Ordering::Acquire);
        if calm != 0 {
            return Route { ticket: Some(Ticket(calm - 1)), away: Vec::new() };
        }
        // Through `change`, so that a recovery task that went down with its runtime is started again.
        let route = self.change(None, |gate| {
            let ticket = gate.breaker.admit();
            let holds = ticket.is_some() && !gate.journal.is_empty();
            let away = if holds { keys.map(|key| gate.journal.holds(key)).collect() } else { Vec::new() };
            Route { ticket, away }
        });
        if route.ticket.is_none() {
            count(&self.counters.short_circuited);
        }
        route
    }

    /// Which of these keys are away now, and the secondary's epoch.
    pub(crate) fn locate<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> (Vec<bool>, u64) {
        let mut gate = self.gate.lock();
        let away: Vec<bool> = keys.map(|key| gate.is_away(key)).collect();
        gate.used |= away.contains(&true);
        (away, gate.epoch)
    }

    /// Remembers that a key must be removed from the primary; `false` if there is no room.
    pub(crate) fn remember(self: &Arc<Self>, key: &Key) -> bool {
        self.change(None, |gate| gate.journal.append(key))
    }

    pub(crate) fn succeeded(self: &Arc<Self>, ticket: Ticket) {
        if self.calm.load(Ordering::Acquire) != ticket.0 + 1 {
            self.change(None, |gate| gate.breaker.succeeded(ticket));
        }
    }

    pub(crate) fn failed(self: &Arc<Self>, ticket: Ticket, error: &Error) {
        count(&self.counters.failures);
        let now = self.timer.now_precise();
        let opened = self.change(Some(error), |gate| {
            let chance = gate.random.f64();
            gate.breaker.failed(ticket, now, chance)
        });
        if opened {
            count(&self.counters.opened);
        }
    }

    pub(crate) fn stats(&self) -> FallbackStats {
        let gate = self.gate.lock();
        FallbackStats {
            state: gate.breaker.state(),
            calls: read(&self.counters.calls),
            failures: read(&self.counters.failures),
            short_circuited: read(&self.counters.short_circuited),
            opened: read(&self.counters.opened),
            probes: read(&self.counters.probes),
            journal: gate.journal.len(),
            replayed: read(&self.counters.replayed),
            lost: gate.journal.lost(),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.state.subscribe()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("primary", &self.primary)
            .field("secondary", &self.secondary)
            .field("settings", &self.settings)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}
