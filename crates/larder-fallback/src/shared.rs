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
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use larder_core::{Backend, Error, Key, Tick, Timer};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{
    Breaker, BreakerState, FallbackStats, FileState, Ticket,
    builder::Settings,
    copy_back::Kept,
    journal::Journal,
    journal_file::JournalFile,
    log,
    reads::Reads,
    recovery,
    stats::{Counters, count, read},
    verdict::Refusal,
};

/// Everything that changes.
pub(crate) struct Gate {
    pub(crate) breaker: Breaker,
    pub(crate) journal: Journal,
    pub(crate) kept: Kept,
    pub(crate) epoch: u64,
    /// Whether earlier epochs may still take up room in the secondary.
    pub(crate) unpurged: bool,
    /// Whether the secondary was handed out in this epoch.
    used: bool,
    /// Whether the primary was heard of, so that a replay need not wait.
    pub(crate) heard: bool,
    /// The recovery task, while it has something to do.
    pub(crate) recovery: Option<AbortHandle>,
    /// By when that will have taken its next step, if anybody drives its runtime.
    pub(crate) next_step_by: Tick,
    pub(crate) random: fastrand::Rng,
    pub(crate) last_fault: Option<(Tick, Error)>,
    pub(crate) refusal: Option<Refusal>,
    away_since: Tick,
}

impl Gate {
    /// Lets a call through, unless no key may be read.
    fn admit(&self) -> Option<Ticket> {
        self.breaker.admit().filter(|_| !self.journal.is_overflown())
    }

    pub(crate) fn is_away(&self, key: &Key) -> bool {
        !self.breaker.state().lets_calls_through() || self.journal.holds(key)
    }

    /// What the secondary holds is not found any more.
    pub(crate) fn next_epoch(&mut self) {
        if self.used {
            self.epoch += 1;
            self.kept.clear();
            self.used = false;
            self.unpurged = true;
        }
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
    /// Reads of single keys.
    pub(crate) reads: Reads,
    /// Calls that the primary has not answered yet.
    pub(crate) in_flight: AtomicUsize,
    /// Callers that have waited for a while and gone away since somebody got an answer.
    pub(crate) given_up: AtomicU32,
    /// Good calls that the breaker has not been told of.
    pub(crate) untold: AtomicU32,
    /// Whether writes were refused of late.
    pub(crate) refuses_writes: AtomicBool,
    pub(crate) file: Option<Arc<JournalFile>>,
    gate: Mutex<Gate>,
    /// While nothing is wrong: the breaker's generation plus one. Else 0.
    pub(crate) calm: AtomicU64,
    state: watch::Sender<BreakerState>,
}

/// What a fallback is made of.
pub(crate) struct Parts {
    pub(crate) primary: Arc<dyn Backend>,
    pub(crate) secondary: Arc<dyn Backend>,
    pub(crate) settings: Settings,
    pub(crate) breaker: Breaker,
    pub(crate) timer: Arc<dyn Timer>,
    pub(crate) random: fastrand::Rng,
    pub(crate) journal: Journal,
    pub(crate) file: Option<Arc<JournalFile>>,
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
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { primary, secondary, settings, mut breaker, timer, random, journal, file } = parts;
        if journal.is_overflown() {
            // An earlier process has left the removal of the generation, before which nothing is read. The probe sees to it,
            // and finds out whether the primary is there at all.
            breaker.begin_open(timer.now_precise());
        }
        let state = breaker.state();
        let gate = Gate {
            breaker,
            journal,
            kept: Kept::new(settings.copy_back),
            epoch: 0,
            unpurged: false,
            used: false,
            heard: false,
            recovery: None,
            next_step_by: Tick::ZERO,
            random,
            last_fault: None,
            refusal: None,
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
            reads: Reads::new(),
            in_flight: AtomicUsize::new(0),
            given_up: AtomicU32::new(0),
            untold: AtomicU32::new(0),
            refuses_writes: AtomicBool::new(false),
            file,
            gate: Mutex::new(gate),
            calm: AtomicU64::new(0),
            state: watch::Sender::new(state),
        };
        let shared = Arc::new(shared);
        shared.change(None, |_| ());
        shared
    }

    /// Changes the gate, and does what follows from it: the epoch, the subscribers, the log, the recovery task.
    pub(crate) fn change<R>(self: &Arc<Self>, cause: Option<&Error>, act: impl FnOnce(&mut Gate) -> R) -> R {
        let mut gate = self.gate.lock();
        let (before, remembered, was_full) = (gate.breaker.state(), gate.journal.len(), gate.journal.is_overflown());
        let answer = act(&mut gate);
        let after = gate.breaker.state();
        let is_full = gate.journal.is_overflown();
        let back = !before.lets_calls_through() || gate.journal.len() < remembered || was_full && !is_full;
        if back && after.lets_calls_through() {
            gate.next_epoch();
        }
        self.publish_calm(&gate);
        let now = self.timer.now();
        if before.lets_calls_through() && !after.lets_calls_through() {
            gate.away_since = now;
        }
        let lasted = now.since(gate.away_since);
        let goes_on = |task: &AbortHandle| !task.is_finished() && now <= gate.next_step_by;
        if gate.needs_recovery() && !gate.recovery.as_ref().is_some_and(goes_on) {
            // One that stands still may be moved again later, and there must be one only.
            gate.recovery.take().inspect(AbortHandle::abort);
            gate.recovery = recovery::spawn(self);
            gate.next_step_by = now + recovery::GRACE;
        }
        if before != after {
            self.untold.store(0, Ordering::Relaxed);
            self.state.send_replace(after);
        }
        let journal = gate.journal.len();
        drop(gate);
        if before != after {
            // Whoever waits for the old state's pause must look again.
            self.wake.notify_one();
            log::state(&log::Change { backend: self.primary.name(), before, after, lasted, journal, cause });
        }
        if is_full && !was_full {
            self.wake.notify_one();
            log::overflown(self.primary.name(), journal);
        }
        answer
    }

    fn publish_calm(&self, gate: &Gate) {
        let ticket = gate.admit().filter(|_| gate.breaker.is_calm() && !gate.needs_recovery());
        self.calm.store(ticket.map_or(0, |ticket| ticket.0 + 1), Ordering::Release);
    }

    pub(crate) fn route<'k>(self: &Arc<Self>, keys: impl ExactSizeIterator<Item = &'k Key>) -> Route {
        let calm = self.calm.load(Ordering::Acquire);
        if calm != 0 {
            return Route { ticket: Some(Ticket(calm - 1)), away: Vec::new() };
        }
        // Through `change`, so that a recovery task that went down with its runtime is started again.
        let route = self.change(None, |gate| {
            let ticket = gate.admit();
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

    /// Of keys that the primary has told those that it may be asked for; `None` if it may not be asked for any.
    pub(crate) fn here(&self, mut keys: Vec<Key>) -> Option<Vec<Key>> {
        let gate = self.gate.lock();
        gate.admit()?;
        keys.retain(|key| !gate.journal.holds(key));
        Some(keys)
    }

    /// The secondary's epoch, if it may hold something of it.
    pub(crate) fn used_epoch(&self) -> Option<u64> {
        if self.is_calm() {
            return None;
        }
        let gate = self.gate.lock();
        gate.used.then_some(gate.epoch)
    }

    /// Remembers that a key must be removed from the primary; `false` if there is no room.
    pub(crate) fn remember(self: &Arc<Self>, key: &Key) -> bool {
        self.change(None, |gate| {
            gate.kept.forget(key);
            gate.journal.append(key)
        })
    }

    /// The next probe, or the next replay, is due now.
    pub(crate) fn nudge(self: &Arc<Self>) {
        let now = self.timer.now_precise();
        self.change(None, |gate| {
            gate.breaker.nudge(now);
            gate.heard = !gate.journal.is_empty();
        });
        self.wake.notify_one();
    }

    /// Waits until the journal's file, if there is one, holds what is remembered; for the deadline at most, since the journal
    /// in memory does not depend on it.
    pub(crate) async fn saved(&self) {
        if let Some(file) = &self.file {
            tokio::select! {
                biased;
                () = file.written() => {}
                () = self.timer.sleep(self.settings.deadline) => {}
            }
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        *self.state.borrow()
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Acquire) != 0
    }

    pub(crate) fn stats(&self) -> FallbackStats {
        let gate = self.gate.lock();
        FallbackStats {
            state: gate.breaker.state(),
            calls: read(&self.counters.calls),
            failures: read(&self.counters.failures),
            faults: self.counters.faults(),
            hidden: read(&self.counters.hidden),
            slow: read(&self.counters.slow),
            overloaded: read(&self.counters.overloaded),
            short_circuited: read(&self.counters.short_circuited),
            opened: read(&self.counters.opened),
            probes: read(&self.counters.probes),
            journal: gate.journal.len(),
            journal_bytes: gate.journal.bytes(),
            overflown: gate.journal.is_overflown(),
            replayed: read(&self.counters.replayed),
            copied: read(&self.counters.copied),
            lost: gate.journal.lost(),
            generations_removed: read(&self.counters.generations_removed),
            file: self
                .file
                .as_ref()
                .map_or(FileState::None, |file| if file.is_failing() { FileState::Failing } else { FileState::Sound }),
            file_errors: self.file.as_ref().map_or(0, |file| file.errors()),
        }
    }

    /// The last fault of the primary, and when it was.
    pub(crate) fn last_fault(&self) -> Option<(Tick, Error)> {
        self.gate.lock().last_fault.clone()
    }

    /// Since when the primary is not asked.
    pub(crate) fn away_since(&self) -> Option<Tick> {
        let gate = self.gate.lock();
        (!gate.breaker.state().lets_calls_through()).then_some(gate.away_since)
    }

    /// Since when writes are refused.
    pub(crate) fn refused_since(&self) -> Option<Tick> {
        self.gate.lock().refusal.map(|refusal| refusal.since)
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
