//! A flight that is being led, of a single load or of a batch: what is at hand, and the ways in which it ends. Everything
//! that enters the near tier from a load passes the fence here.

use std::{sync::Arc, time::Duration};

use larder_core::{Tag, Tick};
use larder_flight::{Leader, LeaderTicket};
use larder_memory::{AnyValue, Displaced, NearEntry};
use larder_strategy::{FailSafe, Lease, Plan};

use super::{
    Fault, FlightResult, How, Landed, LoadRequest, LoadedAny, Meta, NearRead, Served, answer, remote_phase::FillGuard,
};
use crate::engine::{
    Engine, NearLife,
    remote::{Encoded, RemoteEntry},
};
use crate::{
    loaded::PreviousAny,
    outcome::Outcome,
    stats::Event,
    tags::TagCells,
    value::{Absent, AnyError, Failed},
};

/// How long a key's loader is left alone after a refresh failed, where the strategy's fail-safe does not say it, and after
/// it was left to another process.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// A value that may still be served.
#[derive(Debug, Clone)]
pub(crate) struct AtHand {
    pub(crate) outcome: Outcome<AnyValue>,
    /// Since when it is stale.
    since: Tick,
    /// When it ends.
    until: Tick,
    tags: Option<TagCells>,
}

impl AtHand {
    pub(crate) fn near(entry: &NearEntry<Meta>, now: Tick) -> Self {
        let (since, until) = (entry.fresh_until, entry.stale_until);
        Self { outcome: answer(entry, now), since, until, tags: entry.meta.tags() }
    }

    /// Whether the strategy serves it in place of an error.
    pub(crate) fn is_safe(&self, fail_safe: Option<FailSafe>, now: Tick) -> bool {
        fail_safe.is_some_and(|safe| now.since(self.since) <= safe.max_stale)
    }

    /// What the loader is told of it.
    fn previous(&self) -> Option<PreviousAny> {
        let tags = self.tags.iter().flat_map(|cells| cells.iter().map(|cell| cell.tag().clone())).collect();
        let value = self.outcome.value.clone();
        (!value.is::<Absent>()).then_some(PreviousAny { value, age: self.outcome.age, tags })
    }
}

/// A flight that is being led.
pub(crate) struct Led {
    pub(crate) request: LoadRequest,
    leader: Leader<Landed>,
    /// Where the epochs of the tags stood when it began.
    began: u64,
    pub(crate) at_hand: Option<AtHand>,
    /// Only held.
    served: Option<Served>,
}

impl Led {
    /// Begins, unless the near tier has a fresh value by now: then the flight ends with that.
    pub(crate) fn begin(request: LoadRequest, leader: Leader<Landed>, refresh_of: Option<Tick>) -> Option<Self> {
        // Taken before anything is asked, as the flight's ticket was: an invalidation from here on fences the result.
        let began = request.engine.tags.epoch();
        let mut led = Self { request, leader, began, at_hand: None, served: None };
        let Self { request, .. } = &led;
        if !request.reads_near() {
            return Some(led);
        }
        let now = request.engine.timer.now();
        match request.engine.near_read(request.key.as_str(), now) {
            // Somebody filled or refreshed it between this caller's look and its lead.
            NearRead::Fresh(entry) if takes(&entry, request, refresh_of) => {
                let result = found(&entry.value, answer(&entry, now));
                led.finish(result, entry.meta.tags());
                return None;
            }
            NearRead::Fresh(entry) | NearRead::Refresh(entry) | NearRead::Stale(entry)
                if request.can_serve(&entry.value) =>
            {
                led.at_hand = Some(AtHand::near(&entry, now));
            }
            _ => {}
        }
        Some(led)
    }

    fn finish(self, result: FlightResult, tags: Option<TagCells>) {
        let landed = Landed::new(result, self.began, tags, &self.request);
        drop(self.leader.finish(landed));
    }

    /// Ends with a fresh entry of the remote tier.
    pub(crate) fn finish_with(mut self, entry: &RemoteEntry) {
        let outcome = self.promote(entry);
        let tags = self.request.engine.tags.cells(&entry.tags);
        self.finish(Ok(outcome), tags);
    }

    /// Takes a stale entry of the remote tier to hand.
    pub(crate) fn take(&mut self, entry: &RemoteEntry) {
        let outcome = self.promote(entry);
        let engine = &self.request.engine;
        let now = engine.timer.now();
        let tags = engine.tags.cells(&entry.tags);
        self.at_hand = Some(AtHand { since: now - entry.stale_by, until: now + entry.stale_for, outcome, tags });
    }

    fn promote(&mut self, entry: &RemoteEntry) -> Outcome<AnyValue> {
        self.request.promote(self.leader.ticket(), entry, self.began)
    }

    /// Answers those who wait now with what is at hand, and leads on. Who comes later finds it in the near tier, or, where
    /// that is not used, beside the flight.
    pub(crate) fn answer(mut self) -> Self {
        if let Some(AtHand { outcome, tags, .. }) = &self.at_hand {
            let landed = Landed::new(Ok(outcome.clone()), self.began, tags.clone(), &self.request);
            if !self.request.reads_near() {
                let Self { request, leader, .. } = &mut self;
                self.served = Some(Served::new(&request.engine, leader.ticket(), request.id, landed.clone()));
            }
            self.leader = self.leader.answer(landed);
        }
        self
    }

    /// What the loader is told.
    pub(crate) fn previous(&self) -> Option<PreviousAny> {
        self.at_hand.as_ref().and_then(AtHand::previous)
    }

    /// Leaves the load to another process and ends with what is at hand.
    pub(crate) fn leave(mut self) {
        self.throttle(REFRESH_PAUSE);
        self.serve_at_hand();
    }

    fn serve_at_hand(self) {
        if let Some(AtHand { mut outcome, tags, .. }) = self.at_hand.clone() {
            outcome.stale = true;
            self.finish(Ok(outcome), tags);
        }
    }

    /// Puts the next refresh off: in the near entry, or, where there is none, by what is served beside it until then.
    fn throttle(&mut self, pause: Duration) {
        let engine = &self.request.engine;
        let now = engine.timer.now();
        let at = now + pause;
        if !self.request.reads_near() {
            let Some(AtHand { outcome, since, until, tags }) = &self.at_hand else { return };
            let safe = self.request.region.strategy.fail_safe.map_or(*until, |safe| *since + safe.max_stale);
            let landed = Outcome { stale: true, ..outcome.clone() };
            let landed = Landed::new(Ok(landed), self.began, tags.clone(), &self.request);
            // Without trust in the bus nobody would hear that it was invalidated elsewhere.
            let coherence = &engine.coherence;
            let blind = if coherence.is_trusted(now) { Tick::FOREVER } else { now + coherence.blind_ttl() };
            let (id, until) = (self.request.id, at.min(*until).min(safe).min(blind));
            engine.serving.keep(self.leader.ticket(), id, landed, now, until);
            return;
        }
        let mut displaced = Displaced::default();
        self.leader.ticket().commit_copy(|| {
            let key = Arc::clone(self.request.key.as_arc());
            engine.near.amend(key, |entry| entry.refresh_at = at, &mut displaced);
        });
    }

    /// Answers the callers of a load that failed: a stale value where the strategy allows it, else the error, which is
    /// remembered if the strategy says so. `barred`: not while a writer holds the key.
    pub(crate) fn fail(mut self, fault: Fault, barred: bool) {
        crate::events::load_failed(&self.request.key, &fault);
        let safe = self.request.region.strategy.fail_safe;
        if let Some(at_hand) = &self.at_hand {
            let is_safe = at_hand.is_safe(safe, self.request.engine.timer.now());
            self.throttle(safe.map_or(REFRESH_PAUSE, |safe| safe.throttle));
            if is_safe {
                return self.serve_at_hand();
            }
        } else if let (Fault::Loader(error), false) = (&fault, barred) {
            self.request.remember_failure(&mut self.leader, error, self.began);
        }
        drop(self.leader.finish(Landed::untagged(Err(fault))));
    }

    /// Answers the callers with a loaded value and commits it through the fence: near tier first, so that no caller who
    /// comes after the answer misses; the remote tier afterwards, by what is returned.
    pub(crate) fn store(mut self, mut loaded: LoadedAny, how: How) -> Pending {
        let request = self.request.clone();
        let plan = request.plan(&loaded, how.cost);
        loaded.tags.retain(|tag| !request.tags.contains(tag));
        let value: AnyValue = loaded.value.take().unwrap_or_else(|| Arc::new(Absent));
        let barred = how.guard.as_ref().is_some_and(FillGuard::is_barred);
        let stores = loaded.store && !request.options.no_store && !barred;
        let wanted = stores && plan.is_stored() && request.checks_tags(&loaded.tags);
        let encoded = if wanted && how.guard.is_some() { request.encode(&value) } else { None };
        let bytes = encoded.as_ref().map(|encoded: &Encoded| encoded.payload.bytes.len());
        let entry = Filled { value: &value, late: &loaded.tags, plan: &plan, bytes, unverified: how.unverified };
        let stored = wanted && request.commit_near(&mut self.leader, &entry, self.began);
        if !request.reads_near() {
            request.engine.serving.forget(|key| *key == request.key);
        }
        let tags = request.cells(&loaded.tags);
        let landed = Landed::new(Ok(Outcome::loaded(value)), self.began, tags, &request);
        let ticket = self.leader.finish(landed);
        let write = encoded.filter(|_| stored);
        Pending { _ticket: ticket, how, write, late: loaded.tags, plan }
    }
}

/// What is left to do when the callers have been answered.
pub(crate) struct Pending {
    /// Dropped only after the remote commit, so that the key counts as being worked on until then.
    _ticket: LeaderTicket<Landed>,
    how: How,
    write: Option<Encoded>,
    late: Vec<Tag>,
    plan: Plan,
}

impl Pending {
    /// Stores the value in the remote tier, or gives the token back.
    pub(crate) async fn settle(self) {
        let Some(guard) = self.how.guard else { return };
        match self.write {
            Some(encoded) => guard.commit(&self.late, &encoded, &self.plan, self.how.cost).await,
            None => guard.release().await,
        }
    }
}

/// Whether a fresh near entry spares the load: not a forced one, and for a refresh only one that is newer.
fn takes(entry: &NearEntry<Meta>, request: &LoadRequest, refresh_of: Option<Tick>) -> bool {
    let newer = refresh_of.is_none_or(|loaded_at| entry.meta.loaded_at > loaded_at);
    newer && !request.options.force_refresh && request.accepts(&entry.value)
}

/// A value on its way into the near tier.
struct Filled<'a> {
    value: &'a AnyValue,
    late: &'a [Tag],
    plan: &'a Plan,
    /// What it takes when encoded, where it has been.
    bytes: Option<usize>,
    unverified: bool,
}

impl LoadRequest {
    /// Whether a load of another process spares this one where a stale value is at hand.
    pub(crate) fn leaves_loads_to_others(&self) -> bool {
        self.region.strategy.lease == Lease::ServeStale && !self.options.force_refresh
    }

    /// The call's and the loader's tags.
    fn cells(&self, late: &[Tag]) -> Option<TagCells> {
        if late.is_empty() {
            return self.engine.tags.cells(&self.tags);
        }
        let mut tags = self.tags.to_vec();
        tags.extend_from_slice(late);
        self.engine.tags.cells(&tags)
    }

    /// Commits a value to the near tier, if this call uses it; answers whether the fence let it through.
    fn commit_near(&self, leader: &mut Leader<Landed>, filled: &Filled<'_>, began: u64) -> bool {
        if self.another_type_stands_near() {
            return false;
        }
        let Filled { value, late, plan, bytes, unverified } = *filled;
        let now = self.engine.timer.now();
        let meta = Meta::new(now, began, self.cells(late));
        let entry = self.engine.near_entry(value.clone(), meta, life(plan, unverified, now), &self.region);
        let weight = Engine::weight(&self.region, value, bytes, self.ops.size);
        let committed = self.commit(leader, entry, weight);
        if !committed {
            self.region.counters.count(Event::Refused);
        }
        committed
    }

    /// What gives way is dropped outside the fence's lock.
    fn commit(&self, leader: &mut Leader<Landed>, entry: NearEntry<Meta>, weight: u64) -> bool {
        let mut displaced = Displaced::default();
        leader.ticket().commit(|| {
            if self.writes_near() {
                self.engine.near.insert_with(Arc::clone(self.key.as_arc()), entry, weight, &mut displaced);
            }
        })
    }

    /// Remembers a failure near, for as long as the strategy says.
    fn remember_failure(&self, leader: &mut Leader<Landed>, error: &AnyError, began: u64) {
        let plan = self.region.strategy.plan_negative(&mut self.engine.rng());
        let wanted = plan.is_stored() && !self.options.no_store && self.writes_near();
        if !wanted || self.another_type_stands_near() {
            return;
        }
        let failed = Arc::new(Failed(Arc::clone(error)));
        let now = self.engine.timer.now();
        let meta = Meta::new(now, began, self.cells(&[]));
        let entry = self.engine.near_entry(failed, meta, life(&plan, false, now), &self.region);
        self.commit(leader, entry, self.ops.size as u64);
    }
}

fn life(plan: &Plan, unverified: bool, from: Tick) -> NearLife {
    let Plan { fresh_for, stale_for, refresh_after, .. } = *plan;
    NearLife { from, fresh_for, stale_for, refresh_after, unverified }
}

/// A near entry may stand for a remembered failure.
pub(crate) fn found(value: &AnyValue, outcome: Outcome<AnyValue>) -> FlightResult {
    match value.downcast_ref::<Failed>() {
        Some(Failed(error)) => Err(Fault::Loader(Arc::clone(error))),
        None => Ok(outcome),
    }
}
