//! The leader's part of a read: remote tier, load, answer, commit. Runs in a task of its own, so that callers may come
//! and go.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use larder_core::{Tag, Tick};
use larder_flight::Leader;
use larder_memory::{AnyValue, NearEntry};
use larder_strategy::Plan;

use super::{
    Encoded, Engine, LoadRequest, Meta, NearLife, NearRead, answer,
    near_read::retry_at,
    read_path::Chain,
    remote_phase::{FillGuard, RemotePhase},
};
use crate::{
    load_error::LoadFault,
    outcome::Outcome,
    stats::Event,
    tags::{TagCells, valid},
    value::{Absent, AnyError, Failed},
};

/// What a flight ends with.
pub(crate) type FlightResult = Result<Outcome<AnyValue>, Fault>;

/// How a flight ends: its result, and the tags that it is under.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    result: FlightResult,
    began: u64,
    tags: Option<TagCells>,
}

impl Landed {
    /// A result that no tag concerns: an error.
    pub(crate) fn untagged(result: FlightResult) -> Self {
        Self { result, began: 0, tags: None }
    }

    /// A result of a flight that began at this epoch of the tags.
    pub(crate) fn new(result: FlightResult, began: u64, tags: Option<TagCells>) -> Self {
        Self { result, began, tags }
    }

    /// The result for a caller that came at this epoch; `None` if one of the tags was invalidated between the beginning
    /// of the flight and then, upon which the caller needs a newer one. Which tags a flight is under is known only when
    /// it ends, so an invalidation cannot detach it as that of a key does.
    pub(crate) fn at(self, came: u64) -> Option<FlightResult> {
        let outdated = came > self.began && self.tags.is_some_and(|tags| !valid(&tags, self.began));
        (!outdated).then_some(self.result)
    }
}

/// A load that failed, without the error's type.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Loader(AnyError),
    Larder(LoadFault),
}

/// What a loader returned, without its type.
pub(crate) struct LoadedAny {
    pub(crate) value: Option<AnyValue>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) store: bool,
}

/// The user's function, boxed: it runs on the slow path only.
pub(crate) type Loader<'a> = Box<dyn FnOnce() -> BoxFuture<'a, Result<LoadedAny, AnyError>> + Send + 'a>;

/// A value that may still be served, and until when.
struct AtHand {
    outcome: Outcome<AnyValue>,
    since: Tick,
    tags: Option<TagCells>,
}

/// Leads a flight to its end. `refresh_of` is the fresh-until of the near entry that is being refreshed.
pub(crate) async fn lead(
    request: LoadRequest,
    mut leader: Leader<Landed>,
    loader: Loader<'_>,
    refresh_of: Option<Tick>,
) {
    let engine = Arc::clone(&request.engine);
    // Taken before anything is asked, as the flight's ticket was: an invalidation from here on fences the result.
    let began = engine.tags.epoch();
    let now = engine.timer.now();
    let mut at_hand = None;
    if request.reads_near() {
        match engine.near_read(request.key.as_str(), now) {
            // Somebody filled or refreshed it between this caller's look and its lead.
            NearRead::Fresh(entry) if takes(&entry, &request, refresh_of) => {
                let result = found(&entry.value, answer(&entry, now));
                drop(leader.finish(Landed::new(result, began, entry.meta.tags)));
                return;
            }
            NearRead::Fresh(entry) | NearRead::Refresh(entry) | NearRead::Stale(entry)
                if request.can_serve(&entry.value) =>
            {
                let outcome = answer(&entry, now);
                at_hand = Some(AtHand { since: entry.fresh_until, outcome, tags: entry.meta.tags });
            }
            _ => {}
        }
    }
    let phase = request.remote_phase(refresh_of).await;
    let unverified = matches!(phase, RemotePhase::Fault);
    let fill = match phase {
        RemotePhase::Fresh(entry) => {
            let outcome = request.promote(leader.ticket(), &entry, began);
            drop(leader.finish(Landed::new(Ok(outcome), began, engine.tags.cells(&entry.tags))));
            return;
        }
        RemotePhase::Stale(entry, fill) => {
            let outcome = request.promote(leader.ticket(), &entry, began);
            let tags = engine.tags.cells(&entry.tags);
            leader = leader.answer(Landed::new(Ok(outcome.clone()), began, tags.clone()));
            at_hand = Some(AtHand { since: engine.timer.now() - entry.stale_by, outcome, tags });
            fill
        }
        RemotePhase::Load(fill) => fill,
        RemotePhase::Fault => None,
    };
    let guard = fill.map(|fill| FillGuard::new(&request, fill));
    let started = engine.timer.now_precise();
    let result = run(&request, loader, guard.as_ref()).await;
    let cost = engine.timer.now_precise().since(started);
    request.region.counters.count(Event::Load);
    request.region.counters.add(Event::LoadMicros, u64::try_from(cost.as_micros()).unwrap_or(u64::MAX));
    match result {
        Ok(loaded) => {
            store(&request, leader, loaded, Loaded { fill: guard, cost, began, unverified }).await;
        }
        Err(fault) => {
            request.region.counters.count(Event::LoadError);
            crate::events::load_failed(&request.key, &fault);
            fail(&request, leader, fault, at_hand.as_ref(), began);
            if let Some(guard) = guard {
                guard.release().await;
            }
        }
    }
}

/// Whether a fresh near entry spares the load: not a forced one, and for a refresh only one that is newer.
fn takes(entry: &NearEntry<Meta>, request: &LoadRequest, refresh_of: Option<Tick>) -> bool {
    let newer = refresh_of.is_none_or(|fresh_until| entry.fresh_until > fresh_until);
    newer && !request.options.force_refresh && request.accepts(&entry.value)
}

/// Runs the loader: a panic is a fault, one that runs longer than the strategy allows is aborted, and its fill token is
/// renewed meanwhile.
async fn run(request: &LoadRequest, loader: Loader<'_>, guard: Option<&FillGuard>) -> Result<LoadedAny, Fault> {
    let chain = Chain::current().with(request);
    let load = AssertUnwindSafe(chain.scope(async move { loader().await })).catch_unwind();
    let renewal = async {
        match guard {
            Some(guard) => guard.renew_for_ever().await,
            None => std::future::pending().await,
        }
    };
    let longest = request.region.strategy.max_load.max(request.region.strategy.hard_timeout);
    tokio::select! {
        biased;
        result = load => match result {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(error)) => Err(Fault::Loader(error)),
            Err(panic) => Err(Fault::Larder(LoadFault::Panicked(panic_message(panic.as_ref())))),
        },
        () = renewal => Err(Fault::Larder(LoadFault::TimedOut)),
        () = request.engine.timer.sleep(longest), if !request.options.patient => Err(Fault::Larder(LoadFault::TimedOut)),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
        .into()
}

/// The circumstances of a load that succeeded.
struct Loaded {
    fill: Option<FillGuard>,
    cost: Duration,
    began: u64,
    unverified: bool,
}

/// Answers the callers with a loaded value and commits it through the fence: near tier first, so that no caller who
/// comes after the answer misses; the remote tier afterwards.
async fn store(request: &LoadRequest, mut leader: Leader<Landed>, loaded: LoadedAny, how: Loaded) {
    let plan = request.plan(&loaded, how.cost);
    let value: AnyValue = loaded.value.unwrap_or_else(|| Arc::new(Absent));
    let wanted = loaded.store && plan.is_stored() && request.checks_tags(&loaded.tags);
    let encoded = if wanted && how.fill.is_some() { request.encode(&value) } else { None };
    let bytes = encoded.as_ref().map(|encoded: &Encoded| encoded.payload.bytes.len());
    let stored =
        wanted && request.commit_near(&mut leader, &value, &loaded.tags, &plan, bytes, how.began, how.unverified);
    // The ticket is dropped only after the remote commit, so that the key counts as being worked on until then.
    let tags = request.cells(&loaded.tags);
    let _ticket = leader.finish(Landed::new(Ok(Outcome::loaded(value)), how.began, tags));
    let Some(guard) = how.fill else { return };
    match encoded.filter(|_| stored) {
        Some(encoded) => guard.commit(&loaded.tags, &encoded, &plan, how.cost).await,
        None => guard.release().await,
    }
}

/// Answers the callers of a load that failed: a stale value where the strategy allows it, else the error, which is
/// remembered if the strategy says so.
fn fail(request: &LoadRequest, mut leader: Leader<Landed>, fault: Fault, at_hand: Option<&AtHand>, began: u64) {
    let engine = &request.engine;
    let strategy = &request.region.strategy;
    let now = engine.timer.now();
    if let (Some(safe), Some(stale)) = (strategy.fail_safe, at_hand)
        && now.since(stale.since) <= safe.max_stale
    {
        let _ = leader.ticket().commit_copy(|| {
            if let Some(mut entry) = engine.near.get(request.key.as_str()) {
                entry.refresh_at = retry_at(now, safe.throttle);
                let weight = Engine::weight(&request.region, &entry.value, None, request.ops.size);
                engine.near.insert(Arc::clone(request.key.as_arc()), entry, weight);
            }
        });
        let mut outcome = stale.outcome.clone();
        outcome.stale = true;
        drop(leader.finish(Landed::new(Ok(outcome), began, stale.tags.clone())));
        return;
    }
    if let (Fault::Loader(error), None) = (&fault, at_hand) {
        request.remember_failure(&mut leader, error, began);
    }
    drop(leader.finish(Landed::untagged(Err(fault))));
}

impl LoadRequest {
    /// The call's and the loader's tags.
    pub(crate) fn cells(&self, late: &[Tag]) -> Option<TagCells> {
        if late.is_empty() {
            return self.engine.tags.cells(&self.tags);
        }
        let mut tags = self.tags.to_vec();
        tags.extend_from_slice(late);
        self.engine.tags.cells(&tags)
    }

    /// Commits a value to the near tier, if this call uses it; answers whether the fence let it through.
    #[expect(clippy::too_many_arguments, reason = "one value, its tags and what is known of its load")]
    fn commit_near(
        &self,
        leader: &mut Leader<Landed>,
        value: &AnyValue,
        late: &[Tag],
        plan: &Plan,
        bytes: Option<usize>,
        began: u64,
        unverified: bool,
    ) -> bool {
        if self.another_type_stands_near() {
            return false;
        }
        let meta = Meta { loaded_at: self.engine.timer.now(), began, tags: self.cells(late) };
        let entry = self.engine.near_entry(value.clone(), meta, life(plan, unverified), &self.region);
        let weight = Engine::weight(&self.region, value, bytes, self.ops.size);
        let committed = leader.ticket().commit(|| {
            if self.writes_near() {
                self.engine.near.insert(Arc::clone(self.key.as_arc()), entry, weight);
            }
        });
        if !committed {
            self.region.counters.count(Event::Refused);
        }
        committed
    }

    /// Keeps what a plain function returned.
    pub(crate) fn keep(&self, leader: &mut Leader<Landed>, loaded: &LoadedAny, cost: Duration, began: u64) {
        let plan = self.plan(loaded, cost);
        if loaded.store && plan.is_stored() && self.checks_tags(&loaded.tags) {
            let value = loaded.value.clone().unwrap_or_else(|| Arc::new(Absent));
            self.commit_near(leader, &value, &loaded.tags, &plan, None, began, false);
        }
    }

    /// Remembers a failure near, for as long as the strategy says.
    pub(crate) fn remember_failure(&self, leader: &mut Leader<Landed>, error: &AnyError, began: u64) {
        let plan = self.region.strategy.plan_negative(&mut fastrand::Rng::new());
        if !plan.is_stored() || !self.writes_near() || self.another_type_stands_near() {
            return;
        }
        let failed = Arc::new(Failed(Arc::clone(error)));
        let meta = Meta { loaded_at: self.engine.timer.now(), began, tags: self.cells(&[]) };
        let entry = self.engine.near_entry(failed, meta, life(&plan, false), &self.region);
        leader.ticket().commit(|| {
            self.engine.near.insert(Arc::clone(self.key.as_arc()), entry, self.ops.size as u64);
        });
    }
}

fn life(plan: &Plan, unverified: bool) -> NearLife {
    NearLife { fresh_for: plan.fresh_for, stale_for: plan.stale_for, refresh_after: plan.refresh_after, unverified }
}

/// A near entry may stand for a remembered failure.
pub(crate) fn found(value: &AnyValue, outcome: Outcome<AnyValue>) -> FlightResult {
    match value.downcast_ref::<Failed>() {
        Some(Failed(error)) => Err(Fault::Loader(Arc::clone(error))),
        None => Ok(outcome),
    }
}
