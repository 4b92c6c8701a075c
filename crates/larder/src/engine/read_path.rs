//! The read path, from the caller's side. With `lead.rs` (the leader's side) it is the whole state machine; the picture
//! is in `docs/architecture.md`.
//!
//! 1. A fresh near entry is returned by the caller itself, before it comes here.
//! 2. A stale one, or one that is due for an early refresh, is returned too, and [`LoadRequest::refresh`] starts one
//!    refresh in the background. With a soft time-out the caller of a stale one joins the flight and keeps it at hand.
//! 3. On a miss the caller joins the key's flight. Whoever leads spawns the leader's task and then waits like everybody
//!    else: within the hard time-out, and free to go away.

use std::{sync::Arc, time::Duration};

use larder_codec::AnyCodec;
use larder_core::{Key, Tag, Tick};
use larder_flight::{FlightId, Follower, Join, Leader};
use larder_memory::AnyValue;

use super::{
    AtHand, Engine, Fault, FlightResult, Landed, LoadSlot, Loader, NearRead, RegionState, Remote, chain::Chain,
    lead::lead,
};
use crate::{
    load_error::LoadFault,
    outcome::Outcome,
    stats::Event,
    value::{Absent, Failed, ValueOps},
};

/// What a call may ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) codec: Option<AnyCodec>,
    pub(crate) skip_near: bool,
    pub(crate) skip_remote: bool,
    pub(crate) force_refresh: bool,
    /// Stored in no tier.
    pub(crate) no_store: bool,
    /// A stale value will do, at once and in place of an error.
    pub(crate) allow_stale: bool,
    /// How long the caller waits at most, where that is shorter than the hard time-out.
    pub(crate) deadline: Option<Duration>,
    /// A fault of the remote tier is told instead of counting as a miss.
    pub(crate) tells: bool,
    /// A remembered absence is no answer: the loader always has a value.
    pub(crate) required: bool,
    /// The load runs on its caller's thread. Such a caller must not wait for a load that may need the thread.
    pub(crate) on_thread: bool,
    /// Nobody could be told of a time-out, so there is none.
    pub(crate) patient: bool,
}

/// One read of one key, without the value's type.
#[derive(Debug, Clone)]
pub(crate) struct LoadRequest {
    pub(crate) engine: Arc<Engine>,
    pub(crate) region: Arc<RegionState>,
    pub(crate) key: Key,
    pub(crate) ops: &'static ValueOps,
    pub(crate) id: FlightId,
    pub(crate) tags: Arc<[Tag]>,
    pub(crate) options: ReadOptions,
}

impl LoadRequest {
    /// Whether a near value answers this call: a value of its type, a failure of its loader, or an absence where there may
    /// be one.
    pub(crate) fn accepts(&self, value: &AnyValue) -> bool {
        match value.downcast_ref::<Failed>() {
            Some(Failed(error)) => error.as_ref().type_id() == self.id.error,
            None => self.can_serve(value),
        }
    }

    /// The same without failures: these are no values that could be served in place of another failure.
    pub(crate) fn can_serve(&self, value: &AnyValue) -> bool {
        if value.is::<Absent>() { !self.options.required } else { !value.is::<Failed>() && self.ops.accepts(value) }
    }

    /// Whether the near tier holds a value of another type, which a load leaves alone.
    pub(crate) fn another_type_stands_near(&self) -> bool {
        if !self.writes_near() {
            return false;
        }
        match self.engine.near_read(self.key.as_str(), self.engine.timer.now()) {
            NearRead::Fresh(entry) | NearRead::Refresh(entry) | NearRead::Stale(entry) => {
                !self.ops.accepts(&entry.value)
            }
            NearRead::Miss => false,
        }
    }

    pub(crate) fn reads_near(&self) -> bool {
        !self.options.skip_near && self.region.strategy.tiers.uses_near()
    }

    pub(crate) fn writes_near(&self) -> bool {
        self.reads_near()
    }

    /// The remote tier, if this call uses it.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        if self.options.skip_remote || self.ops.serde.is_none() {
            return None;
        }
        self.engine.remote_of(&self.region)
    }

    /// Whether an entry may carry the call's and the loader's tags; too many are reported and the value is not stored.
    pub(crate) fn checks_tags(&self, late: &[Tag]) -> bool {
        let mut all = self.tags.to_vec();
        all.extend_from_slice(late);
        match self.region.check_tags("load", &self.key, &all) {
            Ok(()) => true,
            Err(error) => {
                crate::events::refused_value(&self.key, &error);
                false
            }
        }
    }

    /// How long a caller that finds a stale value waits for a fresh one; `None`: not at all.
    pub(crate) fn soft_timeout(&self) -> Option<Duration> {
        self.region.strategy.soft_timeout.filter(|_| !self.options.allow_stale)
    }

    /// Joins the key's flight and waits for its result. A value that is at hand serves once the soft time-out has passed,
    /// and where the strategy or the call allows it in place of a fault.
    pub(crate) async fn load(self, loader: Loader<'static>) -> FlightResult {
        let at_hand = self.at_hand();
        let request = self.clone();
        let result = self.join(loader, at_hand.as_ref()).await;
        request.or_at_hand(result, at_hand)
    }

    /// A result, or what is at hand in place of a fault, where that may be served.
    pub(crate) fn or_at_hand(&self, result: FlightResult, at_hand: Option<AtHand>) -> FlightResult {
        let (safe, now) = (self.region.strategy.fail_safe, self.engine.timer.now());
        match (result, at_hand) {
            (Err(_), Some(at_hand)) if self.options.allow_stale || at_hand.is_safe(safe, now) => {
                Ok(Outcome { stale: true, ..at_hand.outcome })
            }
            (result, _) => result,
        }
    }

    async fn join(mut self, loader: Loader<'static>, at_hand: Option<&AtHand>) -> FlightResult {
        if Chain::current().contains(&self) {
            return Err(Fault::Larder(LoadFault::Recursive));
        }
        // Taken before the flight is joined: what was invalidated until now must not be what it brings.
        let came = self.engine.tags.epoch();
        let mut loader = Some(loader);
        let deadline = self.deadline();
        let soft =
            at_hand.zip(self.soft_timeout()).and_then(|(at_hand, limit)| Some((at_hand, self.wait_limit(limit)?)));
        // Dropped with this future: a load that is then still running goes on in the background.
        let mut waiting = None;
        loop {
            let joined = if self.options.force_refresh && loader.is_some() {
                Join::Lead(self.engine.flights.lead_alone(&self.key, self.id))
            } else {
                self.engine.flights.join(&self.key, self.id)
            };
            let (follower, follows) = match (joined, loader.take()) {
                (Join::Lead(leader), Some(_)) if self.engine.loads.is_full() => {
                    let fault = Fault::Larder(LoadFault::Overloaded);
                    drop(leader.finish(Landed::untagged(Err(fault.clone()))));
                    return Err(fault);
                }
                (Join::Lead(leader), Some(loader)) => {
                    let follower = leader.follow();
                    let (slot, caller) = LoadSlot::waited_for(&self.engine);
                    waiting = Some(caller);
                    spawn(self.clone(), leader, loader, None, slot);
                    (follower, false)
                }
                // Its own leader went away without a result: the runtime is shutting down.
                (Join::Lead(_), None) => return Err(Fault::Larder(LoadFault::TimedOut)),
                (Join::Follow(follower), rest) => {
                    // A caller whose own leader went away has not waited for another's.
                    let follows = rest.is_some();
                    loader = rest;
                    (follower, follows)
                }
            };
            let until =
                soft.as_ref().map_or(deadline, |(_, soft)| Some(deadline.map_or(*soft, |hard| hard.min(*soft))));
            let waited = self.wait(follower, until, came).await;
            self.count_coalesced(follows, &waited);
            match waited {
                Waited::Result(result) => {
                    drop(waiting);
                    return result;
                }
                Waited::Again => self.options.force_refresh &= loader.is_some(),
                Waited::TimedOut => {
                    return match &soft {
                        Some((at_hand, _)) => Ok(at_hand.outcome.clone()),
                        None => Err(Fault::Larder(LoadFault::TimedOut)),
                    };
                }
            }
        }
    }

    /// The same with a loader that borrows: the caller polls it, and if it is dropped the next follower leads.
    pub(crate) async fn load_inline(mut self, loader: Loader<'_>) -> FlightResult {
        if Chain::current().contains(&self) {
            return Err(Fault::Larder(LoadFault::Recursive));
        }
        let came = self.engine.tags.epoch();
        let mut loader = Some(loader);
        let deadline = self.deadline();
        loop {
            let joined = if self.options.force_refresh {
                self.options.force_refresh = false;
                Join::Lead(self.engine.flights.lead_alone(&self.key, self.id))
            } else {
                self.engine.flights.join(&self.key, self.id)
            };
            match joined {
                Join::Lead(leader) => {
                    let follower = leader.follow();
                    let loader = loader.take().expect("whoever leads returns below, so the loader is still there");
                    lead(self.clone(), leader, loader, None).await;
                    let landed = follower.wait().await.and_then(|landed| landed.at(came));
                    return landed.unwrap_or(Err(Fault::Larder(LoadFault::TimedOut)));
                }
                Join::Follow(follower) => {
                    let waited = self.wait(follower, deadline, came).await;
                    self.count_coalesced(true, &waited);
                    match waited {
                        Waited::Result(result) => return result,
                        Waited::Again => {}
                        Waited::TimedOut => return Err(Fault::Larder(LoadFault::TimedOut)),
                    }
                }
            }
        }
    }

    /// Refreshes an entry in the background, unless somebody does already or too many loads go on there: then a later hit
    /// tries again. `loaded_at` is the near entry's.
    pub(crate) fn refresh(self, loader: Loader<'static>, loaded_at: Tick) {
        if Chain::current().contains(&self) || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Some(slot) = LoadSlot::background(&self.engine) else { return };
        if let Join::Lead(leader) = self.engine.flights.join(&self.key, self.id) {
            spawn(self, leader, loader, Some(loaded_at), slot);
        }
    }

    /// Until when the caller waits; a call's own deadline counts also where no hard time-out could be told.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let hard = self.wait_limit(self.region.strategy.hard_timeout);
        let own = self.options.deadline.map(|limit| self.engine.timer.now_precise() + limit);
        hard.into_iter().chain(own).min()
    }

    fn wait_limit(&self, limit: Duration) -> Option<Tick> {
        (!self.options.patient && larder_core::ttl_millis(limit).is_some())
            .then(|| self.engine.timer.now_precise() + limit)
    }

    /// Counts a caller that another's load answered, or kept waiting; not one that has to join again.
    fn count_coalesced(&self, follows: bool, waited: &Waited) {
        if follows && !matches!(waited, Waited::Again) {
            self.region.counters.count(Event::Coalesced);
        }
    }

    /// What a flight that goes on has answered to others; only where the near tier does not have it.
    fn served(&self, came: u64) -> Option<FlightResult> {
        if self.reads_near() || self.options.force_refresh || self.soft_timeout().is_some() {
            return None;
        }
        let landed = self.engine.serving.of(&self.key, self.id)?;
        if landed.leaves_out(self.options.required) { None } else { landed.at(came) }
    }

    /// Waits for the flight of one key of a batch; `None`: it is to be joined again.
    pub(crate) async fn answer_of(
        &self,
        follower: Follower<Landed>,
        deadline: Option<Tick>,
        came: u64,
        follows: bool,
    ) -> Option<FlightResult> {
        let waited = self.wait(follower, deadline, came).await;
        self.count_coalesced(follows, &waited);
        match waited {
            Waited::Result(result) => Some(result),
            Waited::Again if follows => None,
            // Its own leader went away without a result: the runtime is shutting down.
            Waited::Again | Waited::TimedOut => Some(Err(Fault::Larder(LoadFault::TimedOut))),
        }
    }

    async fn wait(&self, follower: Follower<Landed>, deadline: Option<Tick>, came: u64) -> Waited {
        if let Some(result) = self.served(came) {
            return Waited::Result(result);
        }
        let result = match deadline {
            None => follower.wait().await,
            Some(deadline) => tokio::select! {
                biased;
                result = follower.wait() => result,
                () = self.engine.timer.sleep_until(deadline) => return Waited::TimedOut,
            },
        };
        let result = result.filter(|landed| !landed.leaves_out(self.options.required));
        result.and_then(|landed| landed.at(came)).map_or(Waited::Again, Waited::Result)
    }
}

enum Waited {
    Result(FlightResult),
    /// The leader went away, or what it brought is older than the caller.
    Again,
    TimedOut,
}

/// The leader's task carries the chain of keys that are being loaded.
fn spawn(
    request: LoadRequest,
    leader: Leader<Landed>,
    loader: Loader<'static>,
    refresh_of: Option<Tick>,
    slot: LoadSlot,
) {
    let engine = Arc::clone(&request.engine);
    engine.spawn(Chain::current().scope(async move {
        lead(request, leader, loader, refresh_of).await;
        drop(slot);
    }));
}

impl LoadRequest {
    /// A value that may be served if the load takes too long or fails.
    pub(crate) fn at_hand(&self) -> Option<AtHand> {
        if !self.reads_near() {
            return None;
        }
        let now = self.engine.timer.now();
        match self.engine.near_read(self.key.as_str(), now) {
            NearRead::Fresh(entry) | NearRead::Refresh(entry) | NearRead::Stale(entry) => {
                self.can_serve(&entry.value).then(|| AtHand::near(&entry, now))
            }
            NearRead::Miss => None,
        }
    }
}
