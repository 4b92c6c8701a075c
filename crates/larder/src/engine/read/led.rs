//! A flight that is being led, of a single load or of a batch: what is at hand, and the ways in which it ends. Everything
//! that enters the near tier from a load passes the fence here.

use std::{sync::Arc, time::Duration};

use larder_core::{Tag, Tick};
use larder_flight::{Follower, Leader, LeaderTicket};
use larder_memory::{AnyValue, Displaced, NearEntry};
use larder_strategy::{FailSafe, Lease, Plan};

use super::{
    Fault, FlightResult, How, Kept, Landed, LoadRequest, LoadedAny, Meta, NearState, Served, answer,
    remote_phase::{Committed, FillGuard},
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
    /// As of when it was taken.
    outcome: Outcome<AnyValue>,
    taken: Tick,
    /// From when on it is stale.
    since: Tick,
    /// When it ends.
    until: Tick,
    tags: Option<TagCells>,
}

impl AtHand {
    pub(super) fn new(outcome: Outcome<AnyValue>, taken: Tick, since: Tick, until: Tick) -> Self {
        Self { outcome, taken, since, until, tags: None }
    }

    /// What is answered with it.
    pub(super) fn outcome_at(&self, now: Tick) -> Outcome<AnyValue> {
        let Outcome { age, source, .. } = self.outcome;
        let value = self.outcome.value.clone();
        Outcome { value, source, age: age + now.since(self.taken), stale: now >= self.since }
    }

    pub(crate) fn near(entry: &NearEntry<Meta>, now: Tick, request: &LoadRequest) -> Self {
        // A copy may end before what it is a copy of. Who found it in time may be served it after that.
        let is_copy = !entry.meta.bus().relies_on_bus() && request.engine.remote_of(&request.region).is_some();
        let is_whole = !is_copy && request.region.strategy.near_ttl.is_none();
        let until = if is_whole { entry.stale_until } else { Tick::FOREVER };
        let tags = entry.meta.tags();
        Self { outcome: answer(entry, now), taken: now, since: entry.fresh_until, until, tags }
    }

    /// Whether it may be served at all then.
    pub(crate) fn lives_at(&self, time: Tick) -> bool {
        time < self.until
    }

    /// Whether the strategy serves it in place of an error.
    pub(crate) fn is_safe(&self, fail_safe: Option<FailSafe>, now: Tick) -> bool {
        self.lives_at(now) && fail_safe.is_some_and(|safe| now.since(self.since) <= safe.max_stale)
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
        let near = request.engine.near_look(request.key.as_str(), now);
        let fresh = near.state == NearState::Fresh;
        let Some(entry) = near.living() else { return Some(led) };
        // Somebody filled or refreshed it between this caller's look and its lead.
        if fresh && takes(&entry, request, refresh_of) {
            let result = found(&entry.value, answer(&entry, now));
            led.finish(result, entry.meta.tags());
            return None;
        }
        if request.can_serve(&entry.value) {
            led.at_hand = Some(AtHand::near(&entry, now, request));
        }
        Some(led)
    }

    fn finish(self, result: FlightResult, tags: Option<TagCells>) {
        let landed = Landed::new(result, self.began, tags, &self.request);
        self.leader.end(landed);
    }

    /// Ends with a fresh entry of the remote tier.
    pub(crate) fn finish_with(mut self, entry: &RemoteEntry) {
        let outcome = self.promote(entry);
        let tags = self.request.engine.tags.cells(&entry.tags);
        self.finish(Ok(outcome), tags);
    }

    /// Takes an entry of the remote tier to hand.
    pub(crate) fn take(&mut self, entry: &RemoteEntry) {
        let outcome = self.promote(entry);
        let engine = &self.request.engine;
        let now = engine.timer.now();
        let tags = engine.tags.cells(&entry.tags);
        let since = if entry.fresh_for.is_zero() { now - entry.stale_by } else { now + entry.fresh_for };
        self.at_hand = Some(AtHand { outcome, taken: now, since, until: now + entry.stale_for, tags });
    }

    fn promote(&mut self, entry: &RemoteEntry) -> Outcome<AnyValue> {
        self.request.promote(self.leader.ticket(), entry, self.began)
    }

    /// Where the near tier is not used, lets who comes later find what is at hand beside the flight.
    pub(crate) fn keep_beside(&mut self) {
        let Some(at_hand) = &self.at_hand else { return };
        if !self.request.reads_near() {
            let kept = self.request.kept(self.landed(at_hand, false), (at_hand.since, at_hand.until), true);
            let Self { request, leader, .. } = self;
            self.served = Some(Served::new(&request.engine, leader.ticket(), request.id, kept));
        }
    }

    /// Answers those who wait now with what is at hand, if it still lives, and leads on. Who comes later finds it in the near
    /// tier, or beside the flight.
    pub(crate) fn answer(mut self) -> Self {
        let now = self.request.engine.timer.now();
        if let Some(at_hand) = self.at_hand.as_ref().filter(|it| it.lives_at(now)) {
            let landed = self.landed(at_hand, false);
            self.leader = self.leader.answer(landed);
        }
        self
    }

    /// Another way to wait for what comes next.
    pub(crate) fn follow(&self) -> Follower<Landed> {
        self.leader.follow()
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

    /// What is at hand as an answer; `failed`: in place of something fresh.
    fn landed(&self, at_hand: &AtHand, failed: bool) -> Landed {
        let outcome = at_hand.outcome_at(self.request.engine.timer.now());
        let outcome = Outcome { stale: outcome.stale || failed, ..outcome };
        Landed::new(Ok(outcome), self.began, at_hand.tags.clone(), &self.request)
    }

    fn serve_at_hand(self) {
        if let Some(at_hand) = &self.at_hand {
            let landed = self.landed(at_hand, true);
            self.leader.end(landed);
        }
    }

    /// Puts the next refresh off: in the near entry, or, where there is none, by what is served beside it until then.
    fn throttle(&mut self, pause: Duration) {
        let engine = &self.request.engine;
        let now = engine.timer.now();
        let at = now + pause;
        if !self.request.reads_near() {
            // What is still fresh is found where it is.
            let stale = self.at_hand.as_ref().filter(|it| it.since <= now);
            let Some(at_hand) = stale else { return };
            let AtHand { since, until, .. } = at_hand;
            let safe = self.request.region.strategy.fail_safe.map_or(*until, |safe| *since + safe.max_stale);
            let landed = self.landed(at_hand, true);
            let kept = self.request.kept(landed, (*since, at.min(*until).min(safe)), false);
            engine.serving.keep(self.leader.ticket(), self.request.id, kept);
            return;
        }
        let mut displaced = Displaced::default();
        self.leader.ticket().commit_copy(|| {
            let key = Arc::clone(self.request.key.as_arc());
            engine.near.amend(key, |entry| entry.refresh_at = entry.refresh_at.max(at), &mut displaced);
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
        self.leader.end(Landed::untagged(Err(fault)));
    }

    /// Answers the callers with a loaded value and commits it through the fence: near tier first, so that no caller who
    /// comes after the answer misses; the remote tier afterwards, by what is returned.
    pub(crate) fn store(mut self, mut loaded: LoadedAny, how: How) -> Pending {
        let request = self.request.clone();
        let plan = request.plan(&loaded, how.cost);
        loaded.tags.retain(|tag| !request.tags().contains(tag));
        let value: AnyValue = loaded.value.take().unwrap_or_else(|| Arc::new(Absent));
        let barred = how.guard.as_ref().is_some_and(FillGuard::is_barred);
        let stores = loaded.store && !request.options.no_store && !barred;
        let wanted = stores && plan.is_stored() && request.checks_tags(&loaded.tags);
        let encoded = if wanted && how.guard.is_some() { request.encode(&value) } else { None };
        let bytes = encoded.as_ref().map(|encoded: &Encoded| encoded.payload.bytes.len());
        let entry = Filled { value: &value, late: &loaded.tags, plan: &plan, bytes, unverified: how.unverified };
        let stored = wanted && request.commit_near(&mut self.leader, &entry, self.began);
        // There is no value any more, and that is not remembered: what is at hand ends all the same.
        let gone = value.is::<Absent>() && !plan.is_stored() && !request.options.stores_nothing();
        let ended = stores && gone && request.end_near(&mut self.leader);
        if !request.reads_near() {
            request.engine.serving.forget(|key| *key == request.key);
        }
        let tags = request.cells(&loaded.tags);
        let landed = Landed::new(Ok(Outcome::loaded(value)), self.began, tags, &request);
        let ticket = self.leader.finish(landed);
        let write = encoded.filter(|_| stored);
        Pending { request, ticket, how, write, ended, late: loaded.tags, plan }
    }
}

/// What is left to do when the callers have been answered.
pub(crate) struct Pending {
    request: LoadRequest,
    /// Dropped only after the remote commit, so that the key counts as being worked on until then.
    ticket: LeaderTicket<Landed>,
    how: How,
    write: Option<Encoded>,
    /// Whether what stood there is to be removed.
    ended: bool,
    late: Vec<Tag>,
    plan: Plan,
}

impl Pending {
    /// Stores the value in the remote tier, or gives the token back. Where the token has been removed, by whomever, the near
    /// copy goes too.
    pub(crate) async fn settle(mut self) {
        let Some(guard) = self.how.guard else { return };
        match self.write {
            Some(encoded) => {
                let committed = guard.commit(&self.late, &encoded, &self.plan, self.how.cost).await;
                if committed == Committed::Lost && self.request.writes_near() {
                    // Dropped outside the fence's lock.
                    let mut lost = None;
                    let near = &self.request.engine.near;
                    self.ticket.ticket().commit_copy(|| lost = near.remove(self.request.key.as_str()));
                }
            }
            None if self.ended => guard.remove_replaced().await,
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

    /// What is served beside a flight, or until the loader is asked again.
    fn kept(&self, landed: Landed, (since, until): (Tick, Tick), goes_on: bool) -> Kept {
        let (at, coherence) = (self.engine.timer.now(), &self.engine.coherence);
        let (_, relies_on_bus) = coherence.vouch(at);
        // Without trust in the bus nobody would hear that it was invalidated elsewhere.
        let until = if relies_on_bus { until } else { until.min(at + coherence.blind_ttl()) };
        Kept { landed, since, until, at, relies_on_bus, goes_on }
    }

    /// The call's and the loader's tags.
    fn cells(&self, late: &[Tag]) -> Option<TagCells> {
        if late.is_empty() {
            return self.engine.tags.cells(self.tags());
        }
        let mut tags = self.tags().to_vec();
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

    /// Ends what stands near, if this call uses the near tier; answers whether the fence let it through.
    fn end_near(&self, leader: &mut Leader<Landed>) -> bool {
        if self.another_type_stands_near() {
            return false;
        }
        // Dropped outside the fence's lock.
        let mut ended = None;
        leader.ticket().commit(|| {
            if self.writes_near() {
                ended = self.engine.near.remove(self.key.as_str());
            }
        })
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
        let wanted = plan.is_stored() && !self.options.stores_nothing() && self.writes_near();
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
