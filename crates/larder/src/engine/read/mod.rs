//! The read path: one state machine, from top to bottom. Its picture is in `docs/architecture.md`.
//!
//! | step | where |
//! |---|---|
//! | 1. near, fresh: the caller's own answer, without allocation, lock or await | `call/`, [`near`] |
//! | 2. near, stale or due for an early refresh: the same, and [`LoadRequest::refresh`] | here |
//! | 3. miss: join the key's flight; whoever leads spawns the leader's task and waits like everybody else | [`LoadRequest::load`] |
//! | 4. the leader asks the remote tier: fresh ends the flight, stale answers it | [`Lead`], [`remote_phase`] |
//! | 5. nothing there: place the fill token, or wait for the process that has one | [`Way`], `fill.rs` |
//! | 6. load, within the soft and hard time-outs | [`Way`], `run.rs` |
//! | 7. answer the callers, then commit through the fence | [`Miss`], [`led`] |
//! | 8. a loader's error: what is at hand, else the remembered error, else the error | [`Miss`], [`led`] |
//!
//! A caller waits for a flight and may go away at any moment; nothing of the leader's part depends on it. [`batch`] takes
//! the same steps for many keys at once, [`inline`] with a loader that the caller runs, [`plain`] without one.

mod batch;
mod batch_lead;
mod chain;
mod inline;
mod landed;
mod led;
mod loads;
mod near;
mod plain;
pub(crate) mod remote_phase;
mod request;
mod run;
mod serving;

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use larder_core::Tick;
use larder_flight::{Follower, Join, Leader, Unwatched};
use tokio::runtime::RuntimeFlavor;

pub(crate) use self::{
    batch::{Answers, BatchLoader, BatchRequest},
    chain::Chain,
    landed::{Fault, FlightResult, How, Landed, LoadedAny, Loader, TakeLoader},
    led::{AtHand, Led, found},
    loads::{LoadSlot, Loads},
    near::{Meta, NearRead, NearState, Vouched, answer, provenance},
    plain::NoLoader,
    request::{LoadRequest, ReadOptions},
    serving::{Kept, Served, Serving},
};
use self::{
    remote_phase::{FillGuard, Next, RemotePhase},
    run::{guarded, run},
};
use super::{Engine, RegionState, remote::RemoteEntry};
use crate::{load_error::LoadFault, outcome::Outcome, stats::Event, value::AnyError};

// The caller's part.

impl LoadRequest {
    /// Joins the key's flight and waits for its result. A value that is at hand serves once the soft time-out has passed,
    /// and where the strategy or the call allows it in place of a fault.
    ///
    /// The loader is asked for if this call leads. What callers wait in is kept small: there may be very many of them.
    pub(crate) async fn load(&self, loader: &mut TakeLoader<'_>) -> FlightResult {
        let at_hand = self.serves_what_is_at_hand().then(|| self.at_hand()).flatten().map(Box::new);
        let result = self.join(loader, at_hand.as_deref()).await;
        self.or_at_hand(result, at_hand.as_deref())
    }

    /// A result, or what is at hand in place of a fault, where that may be served.
    pub(crate) fn or_at_hand(&self, result: FlightResult, at_hand: Option<&AtHand>) -> FlightResult {
        let (safe, now) = (self.region.strategy.fail_safe, self.engine.timer.now());
        match (result, at_hand) {
            (Err(_), Some(at_hand))
                if self.options.allow_stale && at_hand.lives_at(now) || at_hand.is_safe(safe, now) =>
            {
                Ok(Outcome { stale: true, ..at_hand.outcome_at(now) })
            }
            (result, _) => result,
        }
    }

    async fn join(&self, loader: &mut TakeLoader<'_>, at_hand: Option<&AtHand>) -> FlightResult {
        if Chain::current().contains(self) {
            return Err(Fault::Larder(LoadFault::Recursive));
        }
        // Taken before the flight is joined: what was invalidated until now must not be what it brings.
        let came = self.engine.tags.epoch();
        if let Some(result) = self.served(came) {
            return result;
        }
        let mut may_lead = true;
        let deadline = self.deadline();
        // Unless what is at hand has died by then.
        let soft = at_hand.zip(self.soft_timeout()).and_then(|(at_hand, limit)| {
            let soft = self.wait_limit(limit)?;
            let soft = deadline.map_or(soft, |hard| hard.min(soft));
            at_hand.lives_at(soft).then_some((at_hand, soft))
        });
        // Dropped with this future: a load that is then still running goes on in the background.
        let mut waiting = None;
        let mut forced = self.options.force_refresh;
        loop {
            let joined = if forced && may_lead {
                Join::Lead(self.engine.flights.lead_alone(&self.key, self.id))
            } else {
                self.engine.flights.join(&self.key, self.id)
            };
            let (follower, follows) = match joined {
                // Its own leader went away without a result: the runtime is shutting down.
                Join::Lead(_) if !may_lead => return Err(Fault::Larder(LoadFault::TimedOut)),
                Join::Lead(leader) if self.engine.loads.is_full() => {
                    let fault = Fault::Larder(LoadFault::Overloaded);
                    leader.end(Landed::untagged(Err(fault.clone())));
                    return Err(fault);
                }
                Join::Lead(leader) => {
                    let follower = leader.follow();
                    let (slot, caller) = LoadSlot::waited_for(&self.engine);
                    waiting = Some(caller);
                    may_lead = false;
                    spawn(self.clone(), leader, loader(), None, slot);
                    (follower, false)
                }
                // A caller whose own leader went away has not waited for another's.
                Join::Follow(follower) => (follower, may_lead),
            };
            let until = soft.map(|(_, soft)| soft).or(deadline);
            let waited = self.wait(follower, until, came).await;
            if follows {
                waited.count_coalesced(&self.region);
            }
            match waited {
                Waited::Result(result) => {
                    drop(waiting);
                    return result;
                }
                Waited::Again if self.engine.has_ended() => return Err(Fault::Larder(LoadFault::TimedOut)),
                // What was forced is under way.
                Waited::Again => forced &= may_lead,
                Waited::TimedOut => {
                    return match soft {
                        Some((at_hand, _)) => Ok(at_hand.outcome_at(self.engine.timer.now())),
                        None => Err(Fault::Larder(LoadFault::TimedOut)),
                    };
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

    /// Waits for the flight of one key of a batch; `None`: it is to be joined again.
    pub(crate) async fn answer_of(
        &self,
        follower: Follower<Landed>,
        deadline: Option<Tick>,
        came: u64,
        follows: bool,
    ) -> Option<FlightResult> {
        match self.wait(follower, deadline, came).await {
            waited if follows => waited.for_follower(&self.engine, &self.region),
            Waited::Result(result) => Some(result),
            // Its own leader went away without a result: the runtime is shutting down.
            Waited::Again | Waited::TimedOut => Some(Err(Fault::Larder(LoadFault::TimedOut))),
        }
    }

    /// Not an async function, which would take room for what it is given twice.
    fn wait(
        &self,
        follower: Follower<Landed>,
        deadline: Option<Tick>,
        came: u64,
    ) -> impl Future<Output = Waited> + Send {
        let (mut wait, mut has_begun) = (Wait::new(follower, deadline, came), false);
        poll_fn(move |context| {
            if !mem::replace(&mut has_begun, true)
                && let Some(result) = self.served(came)
            {
                return Poll::Ready(Waited::Result(result));
            }
            wait.poll(&self.engine, self.options.required, context)
        })
    }
}

/// A caller that waits for a flight, without a timer of its own as long as one of many watches the clock for all. Small, since
/// very many may wait.
pub(crate) struct Wait {
    follower: Follower<Landed>,
    deadline: Option<Tick>,
    /// Where the epochs of the tags stood when the caller came.
    came: u64,
    may_watch: bool,
    sleep: Option<BoxFuture<'static, ()>>,
}

impl Wait {
    pub(crate) fn new(follower: Follower<Landed>, deadline: Option<Tick>, came: u64) -> Self {
        Self { follower, deadline, came, may_watch: true, sleep: None }
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// `required`: that there is no value is no answer, unless the loader always has one.
    pub(crate) fn poll(&mut self, engine: &Engine, required: bool, context: &mut Context<'_>) -> Poll<Waited> {
        loop {
            let landed = match self.deadline.filter(|_| self.sleep.is_none()) {
                None => self.follower.poll(context),
                Some(deadline) => match self.follower.poll_watched(deadline, context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(landed)) => Poll::Ready(landed),
                    Poll::Ready(Err(Unwatched)) => {
                        let is_watched =
                            mem::take(&mut self.may_watch) && watch_the_clock(engine, &self.follower, deadline);
                        self.sleep = (!is_watched).then(|| engine.timer.sleep_until(deadline));
                        continue;
                    }
                },
            };
            return match (landed, &mut self.sleep) {
                (Poll::Ready(landed), _) => {
                    let landed = landed.filter(|landed| !landed.leaves_out(required));
                    let result = landed.and_then(|landed| landed.at(self.came));
                    Poll::Ready(result.map_or(Waited::Again, Waited::Result))
                }
                (Poll::Pending, Some(sleep)) => sleep.as_mut().poll(context).map(|()| Waited::TimedOut),
                (Poll::Pending, None) => Poll::Pending,
            };
        }
    }
}

/// Watches the clock for a crowd that waits for one flight. On a runtime with one thread it could be kept from it by
/// whoever blocks that thread, while callers of other runtimes count on it.
fn watch_the_clock(engine: &Engine, follower: &Follower<Landed>, deadline: Tick) -> bool {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
    if runtime.runtime_flavor() != RuntimeFlavor::MultiThread {
        return false;
    }
    let Some(watch) = follower.watch(deadline) else { return false };
    let timer = Arc::clone(&engine.timer);
    runtime.spawn(async move {
        tokio::select! {
            biased;
            () = watch.ended() => {}
            () = timer.sleep_until(deadline) => {}
        }
    });
    true
}

/// How a wait ends.
pub(crate) enum Waited {
    Result(FlightResult),
    /// The leader went away, or what it brought is older than the caller.
    Again,
    TimedOut,
}

impl Waited {
    /// What a caller gets that waited for another's load; `None`: it is to join again.
    pub(crate) fn for_follower(self, engine: &Engine, region: &RegionState) -> Option<FlightResult> {
        self.count_coalesced(region);
        match self {
            Self::Result(result) => Some(result),
            Self::Again if !engine.has_ended() => None,
            Self::Again | Self::TimedOut => Some(Err(Fault::Larder(LoadFault::TimedOut))),
        }
    }

    /// Counts a caller that another's load answered, or kept waiting; not one that has to join again.
    fn count_coalesced(&self, region: &RegionState) {
        if !matches!(self, Self::Again) {
            region.counters.count(Event::Coalesced);
        }
    }
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
    let lead = Lead { request, leader, loader, refresh_of, slot: Some(slot) };
    engine.spawn(Chain::current().scope(async move { lead.run(&mut None).await }));
}

// The leader's part.

/// A flight that is to be led.
struct Lead<'l> {
    request: LoadRequest,
    leader: Leader<Landed>,
    loader: Loader<'l>,
    /// When the near entry was loaded that is being refreshed.
    refresh_of: Option<Tick>,
    /// Given back when the callers have their answer: storing it is no load.
    slot: Option<LoadSlot>,
}

impl Lead<'_> {
    /// Leads to the end. If those who wait get something before that, `last` waits for what comes in the end.
    async fn run(self, last: &mut Option<Follower<Landed>>) {
        let Self { request, leader, loader, refresh_of, slot } = self;
        let Some(led) = Led::begin(request, leader, refresh_of) else { return };
        let (stale, next, unverified) = match led.request.look(refresh_of, false).await {
            RemotePhase::Fresh(entry) => return led.finish_with(&entry),
            RemotePhase::Stale(entry, next) => (Some(entry), next, false),
            RemotePhase::Go(next) => (None, next, false),
            RemotePhase::Fault => (None, Next::Load(None), true),
        };
        let miss = Miss { led, loader, refresh_of, slot, stale, next, unverified };
        // Boxed, so that a hit does not have its size.
        Box::pin(miss.run(last)).await;
    }
}

/// A flight that is led although the remote tier has nothing fresh.
struct Miss<'l> {
    led: Led,
    loader: Loader<'l>,
    refresh_of: Option<Tick>,
    slot: Option<LoadSlot>,
    /// What the remote tier has.
    stale: Option<Box<RemoteEntry>>,
    next: Next,
    /// The remote tier could not be asked.
    unverified: bool,
}

impl Miss<'_> {
    async fn run(self, last: &mut Option<Follower<Landed>>) {
        let Self { mut led, loader, refresh_of, slot, stale, next, unverified } = self;
        let mut answer = |led: Led| {
            let led = led.answer();
            *last = Some(led.follow());
            led
        };
        let request = led.request.clone();
        // How long those who wait are kept waiting although there is a value for them.
        let mut answer_after = None;
        if let Some(entry) = stale {
            led.take(&entry);
            if !request.options.force_refresh {
                led.keep_beside();
                answer_after = Some(request.soft_timeout().unwrap_or(Duration::ZERO));
            }
        }
        if answer_after == Some(Duration::ZERO) {
            led = answer(led);
            answer_after = None;
        }
        let way = Way { request: &request, refresh_of, at_hand: led.at_hand.is_some(), unverified };
        let previous = led.previous();
        let mut way = pin!(way.go(next, || loader(previous)));
        let brought = match answer_after {
            None => way.await,
            Some(after) => tokio::select! {
                biased;
                brought = way.as_mut() => brought,
                () = request.engine.timer.sleep(after) => {
                    led = answer(led);
                    way.await
                }
            },
        };
        match brought {
            Brought::Fresh(entry) => led.finish_with(&entry),
            Brought::Left => led.leave(),
            Brought::Loaded(Ok(loaded), how) => {
                let pending = led.store(loaded, how);
                drop(slot);
                pending.settle().await;
            }
            Brought::Loaded(Err(fault), how) => {
                request.region.counters.count(Event::LoadError);
                led.fail(fault, how.guard.as_ref().is_some_and(FillGuard::is_barred));
                drop(slot);
                if let Some(guard) = how.guard {
                    guard.release().await;
                }
            }
        }
    }
}

/// What came of a read that the near tier had no fresh value for.
#[expect(clippy::large_enum_variant, reason = "there is one, on its way to the end of the same function")]
enum Brought {
    /// Another process has loaded it.
    Fresh(Box<RemoteEntry>),
    /// Another process is loading it, and what is at hand will do until then.
    Left,
    Loaded(Result<LoadedAny, Fault>, How),
}

/// The way from the first look into the remote tier to a value.
struct Way<'a> {
    request: &'a LoadRequest,
    refresh_of: Option<Tick>,
    /// Whether there is a value that may still be served.
    at_hand: bool,
    unverified: bool,
}

impl Way<'_> {
    async fn go<'l>(
        self,
        next: Next,
        load: impl FnOnce() -> BoxFuture<'l, Result<LoadedAny, AnyError>> + Send,
    ) -> Brought {
        let Self { request, refresh_of, at_hand, mut unverified } = self;
        let fill = match next {
            Next::Load(fill) => fill,
            Next::Wait(_) if at_hand && request.leaves_loads_to_others() => return Brought::Left,
            Next::Wait(token) => match request.wait_for_other(token, refresh_of).await {
                RemotePhase::Fresh(entry) => return Brought::Fresh(entry),
                RemotePhase::Go(Next::Load(fill)) | RemotePhase::Stale(_, Next::Load(fill)) => fill,
                RemotePhase::Go(Next::Wait(_)) | RemotePhase::Stale(_, Next::Wait(_)) => None,
                RemotePhase::Fault => {
                    unverified = true;
                    None
                }
            },
        };
        let guard = fill.map(|fill| FillGuard::new(request, fill));
        let (result, cost) = request.timed(pin!(run(request, load, guard.as_ref()))).await;
        Brought::Loaded(result, How { guard, cost, unverified })
    }
}
