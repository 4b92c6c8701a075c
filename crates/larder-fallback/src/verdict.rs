//! What the outcome of a call says about the primary.
//!
//! Most faults count for the breaker. Two kinds do not wait for their number:
//!
//! - **Out of memory** refuses writes alone; reads and removals are carried out, so that the server is as good for them as
//!   ever. To open the breaker would take its values from everybody, defer every removal until somebody gives it memory,
//!   and close again with the first PING. So it stays closed: writes fail, each at the cost of its round trip, and a value
//!   that could not be overwritten is removed.
//! - **Read-only** is what a primary says that has become a replica, or cannot save its data: it takes no removals, and its
//!   values are no longer the truth. One such answer opens the breaker, and the removal of the key in question has to
//!   succeed before it closes.

use std::sync::{Arc, atomic::Ordering};

use larder_core::{Error, ErrorKind, Tick};

use crate::{
    Ticket, log,
    shared::{Gate, Shared},
    stats::{add, count},
};

/// Good calls that are counted without the lock before the breaker hears of them.
const UNTOLD: u32 = 32;

/// How long no write was refused before it is taken for over. Of a cluster's nodes one may be full, and the others not.
const CALM_FOR: std::time::Duration = std::time::Duration::from_secs(1);

/// Writes that are refused for lack of memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) since: Tick,
    pub(crate) last: Tick,
}

/// Whether a server without memory refuses this.
fn needs_memory(operation: &str) -> bool {
    matches!(operation, "set_many" | "get_or_set" | "compare_and_set" | "increment" | "acquire")
}

impl Shared {
    /// The primary answered a call of so many callers; it is timed if its beginning is told.
    pub(crate) fn succeeded(
        self: &Arc<Self>,
        ticket: Ticket,
        operation: &'static str,
        began: Option<Tick>,
        callers: u32,
    ) {
        // The coarse clock is good enough to tell calls of some ten milliseconds from good ones.
        let is_slow = began.is_some_and(|began| self.timer.now().since(began) >= self.settings.slow_call);
        if is_slow {
            self.slow(ticket, callers);
        } else if self.calm.load(Ordering::Acquire) == ticket.0 + 1 {
            if self.untold.fetch_add(callers, Ordering::Relaxed) + callers > UNTOLD {
                self.change(None, |gate| self.tell(gate, self.timer.now()));
            }
        } else {
            let now = self.timer.now();
            self.change(None, |gate| (0..callers).for_each(|_| gate.breaker.succeeded(ticket, now)));
        }
        if self.refuses_writes.load(Ordering::Relaxed) && needs_memory(operation) {
            self.took_a_write();
        }
    }

    /// Counts the good calls that the breaker has not heard of.
    fn tell(&self, gate: &mut Gate, now: Tick) {
        let calls = self.untold.swap(0, Ordering::Relaxed);
        if calls > 0 {
            gate.breaker.succeeded_calmly(calls, now);
        }
    }

    fn slow(self: &Arc<Self>, ticket: Ticket, callers: u32) {
        add(&self.counters.slow, callers.into());
        let now = self.timer.now_precise();
        let message = format!("too many calls take longer than {:?} (`slow_call`)", self.settings.slow_call);
        let error = Error::new(ErrorKind::Timeout, "slow_call", message);
        let opened = self.change(Some(&error), |gate| {
            self.tell(gate, now);
            let chance = gate.random.f64();
            let opened = (0..callers).any(|_| gate.breaker.slow(ticket, now, chance));
            if opened {
                gate.last_fault = Some((now, error.clone()));
            }
            opened
        });
        if opened {
            count(&self.counters.opened);
        }
    }

    /// The primary failed a call of so many callers.
    pub(crate) fn failed(self: &Arc<Self>, ticket: Ticket, error: &Error, callers: u32) {
        self.counters.fault(error.kind(), callers);
        let now = self.timer.now_precise();
        let (opened, is_news) = self.change(Some(error), |gate| {
            self.tell(gate, now);
            gate.last_fault = Some((now, error.clone()));
            let chance = gate.random.f64();
            match error.kind() {
                ErrorKind::OutOfMemory => {
                    gate.breaker.succeeded(ticket, now);
                    let since = gate.refusal.map_or(now, |refusal| refusal.since);
                    let is_news = gate.refusal.replace(Refusal { since, last: now }).is_none();
                    self.refuses_writes.store(true, Ordering::Relaxed);
                    (false, is_news)
                }
                ErrorKind::ReadOnly => (gate.breaker.open_now(ticket, now, chance), false),
                _ => ((0..callers).any(|_| gate.breaker.failed(ticket, now, chance)), false),
            }
        });
        if opened {
            count(&self.counters.opened);
        }
        if is_news {
            log::writes_refused(self.primary.name(), error);
        }
    }

    fn took_a_write(self: &Arc<Self>) {
        let now = self.timer.now();
        let over = self.change(None, |gate| {
            let over = gate.refusal.take_if(|refusal| now.since(refusal.last) >= CALM_FOR);
            if over.is_some() {
                self.refuses_writes.store(false, Ordering::Relaxed);
            }
            over
        });
        if let Some(refusal) = over {
            log::writes_taken(self.primary.name(), now.since(refusal.since));
        }
    }
}
