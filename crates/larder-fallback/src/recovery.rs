//! The one task that brings the primary back: it probes, replays the journal, closes the breaker and clears the secondary.
//!
//! It runs while there is something to do, and holds no strong reference while it waits, so that a dropped fallback ends it.
//! If its runtime goes away, or nobody drives that any more, the next call starts it in its own.
//!
//! The order of closing: PING; the generation, if the journal was overflown; remembered removals; what is to be copied; then, under the lock that appending takes, the breaker closes and the
//! secondary's epoch moves on. Removals that are remembered meanwhile are replayed in further rounds; those that are left
//! keep their keys away from the primary after the breaker has closed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use larder_core::{Each, Key, Result, Tick};
use tokio::task::AbortHandle;

use crate::{
    BreakerState,
    call::fault_of,
    local::away,
    log,
    shared::{Gate, Shared},
    stats::count,
    terms::is_absence,
};

/// Keys that are removed in one call.
pub(crate) const BATCH: usize = 256;

/// Rounds of replay before the breaker closes with what is left.
const ROUNDS: u32 = 8;

/// Between two probes of which several must be answered.
const PROBE_GAP: Duration = Duration::from_millis(50);

/// How much longer than a call the removal of a batch may take.
const PATIENCE: u32 = 10;

/// How late a step of the task may be before its runtime is taken to stand still.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// The pauses between two replays while the breaker is closed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Starts the task; `None` outside of a runtime, where the next call tries again. Called with the gate locked, so the task
/// must not lock it before it is polled, nor when it is dropped.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Option<AbortHandle> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(runtime.spawn(run(Arc::downgrade(shared))).abort_handle())
}

enum Step {
    Stop,
    Wait(Tick),
    Probe,
    Replay,
    Purge,
}

async fn run(weak: Weak<Shared>) {
    let (mut pause, mut replay_at) = (FIRST_PAUSE, Tick::ZERO);
    while let Some(shared) = weak.upgrade() {
        match shared.next_step(replay_at) {
            Step::Stop => return,
            Step::Wait(until) => {
                let (timer, wake) = (Arc::clone(&shared.timer), Arc::clone(&shared.wake));
                drop(shared);
                tokio::select! {
                    () = timer.sleep_until(until) => {}
                    () = wake.notified() => {}
                }
            }
            Step::Probe => shared.probe().await,
            Step::Replay => {
                let before = shared.stats();
                let outcome = shared.replay_all().await;
                let after = shared.stats();
                if after.replayed > before.replayed {
                    pause = FIRST_PAUSE;
                }
                if outcome.is_err() || after.journal > 0 || after.overflown {
                    replay_at = shared.timer.now_precise() + pause;
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                }
            }
            Step::Purge => {
                if let Err(error) = shared.purge().await {
                    tracing::debug!(target: "larder", %error, "the fallback's old entries stay until they expire");
                }
            }
        }
    }
}

impl Shared {
    fn next_step(self: &Arc<Self>, replay_at: Tick) -> Step {
        let now = self.timer.now_precise();
        self.change(None, |gate| {
            let step = Self::step_of(gate, now, replay_at);
            let from = if let Step::Wait(until) = step { until.max(now) } else { now };
            gate.next_step_by = from + self.longest_step();
            step
        })
    }

    /// How long a step may take that was begun.
    fn longest_step(&self) -> Duration {
        self.settings.deadline.saturating_mul(PATIENCE).saturating_add(GRACE)
    }

    fn step_of(gate: &mut Gate, now: Tick, replay_at: Tick) -> Step {
        if let Some(due) = gate.breaker.probe_due() {
            return if gate.breaker.begin_probe(now) { Step::Probe } else { Step::Wait(due) };
        }
        if !gate.needs_recovery() {
            gate.recovery = None;
            return Step::Stop;
        }
        if gate.breaker.state() == BreakerState::HalfOpen {
            // The probe of a task that went down with its runtime.
            gate.breaker.probe_dropped(now);
            return Step::Wait(now);
        }
        if gate.unpurged {
            return Step::Purge;
        }
        let is_due = now >= replay_at || std::mem::take(&mut gate.heard);
        if is_due { Step::Replay } else { Step::Wait(replay_at) }
    }

    /// The task goes on.
    fn steps_on(self: &Arc<Self>) {
        let now = self.timer.now_precise();
        self.change(None, |gate| gate.next_step_by = now + self.longest_step());
    }

    async fn probe(self: &Arc<Self>) {
        let verdict = match self.signs_of_life().await {
            Ok(()) => self.replay_and_close().await,
            Err(error) => Err(error),
        };
        if let Err(error) = verdict {
            let now = self.timer.now_precise();
            self.change(Some(&error), |gate| {
                if gate.breaker.state() != BreakerState::HalfOpen {
                    // Somebody has set it meanwhile: this says nothing of the primary.
                    return;
                }
                gate.last_fault = Some((now, error.clone()));
                let chance = gate.random.f64();
                gate.breaker.probe_failed(now, chance);
            });
        }
    }

    /// As many answers to a PING as it takes. One that comes late is none: the next calls would take as long.
    async fn signs_of_life(self: &Arc<Self>) -> Result<()> {
        for probe in 0..self.settings.successes {
            if probe > 0 {
                self.timer.sleep(PROBE_GAP).await;
            }
            self.steps_on();
            count(&self.counters.probes);
            let limit = self.settings.deadline.min(self.settings.slow_call);
            let pong = self.timely("ping", limit, self.primary.ping()).await?;
            // An error that does not speak of its health is an answer.
            if let Some(error) = fault_of(&pong) {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn replay_and_close(self: &Arc<Self>) -> Result<()> {
        let mut from = 0;
        for round in 1..=ROUNDS {
            let to = self.change(None, |gate| gate.journal.latest());
            self.remove_generation().await?;
            self.replay(from, to).await?;
            if round == 1 {
                self.copy_back().await;
            }
            let closed = self.change(None, |gate| {
                let done = gate.journal.latest() == to || round == ROUNDS;
                done && gate.breaker.probe_succeeded()
            });
            if closed {
                break;
            }
            from = to;
        }
        Ok(())
    }

    async fn replay_all(self: &Arc<Self>) -> Result<()> {
        self.remove_generation().await?;
        let to = self.change(None, |gate| gate.journal.latest());
        self.replay(0, to).await
    }

    /// Removes the generation, if there were removals that found no room: it covers them.
    async fn remove_generation(self: &Arc<Self>) -> Result<()> {
        let Some((generation, number)) = self.change(None, |gate| gate.journal.overflow()) else { return Ok(()) };
        let answers = self.remove(std::slice::from_ref(&generation)).await?;
        if let Some(answer) = answers.into_iter().next() {
            answer?;
            self.change(None, |gate| gate.journal.settle_overflow(number));
            count(&self.counters.generations_removed);
            log::generation_removed(self.primary.name());
        }
        Ok(())
    }

    /// Removes keys from the primary, and tells the other processes where that is possible.
    async fn remove(self: &Arc<Self>, keys: &[Key]) -> Result<Each<bool>> {
        self.steps_on();
        let limit = self.settings.deadline.saturating_mul(PATIENCE);
        match (&self.settings.announce, self.primary.as_bus()) {
            (Some(announce), Some(bus)) => {
                let call = bus.remove_and_publish(keys, &announce.channel, &announce.message);
                self.timely("remove_and_publish", limit, call).await
            }
            _ => self.timely("delete_many", limit, self.primary.delete_many(keys)).await,
        }
    }

    /// Removes remembered keys from the primary. Those that it refuses stay remembered; an error says that it is away.
    async fn replay(self: &Arc<Self>, mut from: u64, to: u64) -> Result<()> {
        let mut leading = self.change(None, |gate| gate.journal.leading());
        loop {
            if self.state() == BreakerState::ForcedOpen {
                return Err(away("replay"));
            }
            if let Some(leading) = leading.take() {
                self.make_up_for(&[leading]).await?;
                continue;
            }
            let batch = self.change(None, |gate| gate.journal.batch(from, to, BATCH));
            let Some((_, last)) = batch.last() else { return Ok(()) };
            from = *last;
            self.make_up_for(&batch).await?;
        }
    }

    async fn make_up_for(self: &Arc<Self>, batch: &[(Key, u64)]) -> Result<()> {
        let keys: Vec<Key> = batch.iter().map(|(key, _)| key.clone()).collect();
        let answers = self.remove(&keys).await?;
        let (mut fault, mut answered) = (None, false);
        for ((key, number), answer) in batch.iter().zip(answers) {
            match answer {
                Ok(_) => {
                    answered = true;
                    let settled = self.change(None, |gate| gate.journal.settle(key, *number));
                    if settled {
                        count(&self.counters.replayed);
                    }
                }
                Err(error) if is_absence(&error) => fault = Some(error),
                Err(error) => {
                    answered = true;
                    tracing::warn!(target: "larder", %error, "a remembered removal was refused; it is tried again");
                }
            }
        }
        fault.filter(|_| !answered).map_or(Ok(()), Err)
    }
}
