//! The leader's part of a read: remote tier, load, answer, commit. Runs in a task of its own, so that callers may come
//! and go.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use larder_core::{Tag, Tick};
use larder_flight::Leader;
use larder_memory::AnyValue;

use super::{
    LoadRequest,
    chain::Chain,
    led::Led,
    remote::RemoteEntry,
    remote_phase::{FillGuard, Next, RemotePhase},
};
use crate::{
    load_error::LoadFault,
    loaded::PreviousAny,
    outcome::Outcome,
    stats::Event,
    tags::{TagCells, valid},
    value::{Absent, AnyError},
};

/// What a flight ends with.
pub(crate) type FlightResult = Result<Outcome<AnyValue>, Fault>;

/// How a flight ends: its result, and the tags that it is under.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    result: FlightResult,
    began: u64,
    tags: Option<TagCells>,
    /// Whether the loader always has a value: then its saying that there is none is an answer to everybody.
    required: bool,
}

impl Landed {
    /// A result that no tag concerns: an error.
    pub(crate) fn untagged(result: FlightResult) -> Self {
        Self { result, began: 0, tags: None, required: true }
    }

    /// A result of a flight that began at this epoch of the tags.
    pub(crate) fn new(result: FlightResult, began: u64, tags: Option<TagCells>, request: &LoadRequest) -> Self {
        Self { result, began, tags, required: request.options.required }
    }

    /// The result for the caller that led.
    pub(crate) fn into_result(self) -> FlightResult {
        self.result
    }

    /// The result for a caller that came at this epoch; `None` if one of the tags was invalidated between the beginning
    /// of the flight and then, upon which the caller needs a newer one. Which tags a flight is under is known only when
    /// it ends, so an invalidation cannot detach it as that of a key does.
    pub(crate) fn at(self, came: u64) -> Option<FlightResult> {
        let outdated = came > self.began && self.tags.is_some_and(|tags| !valid(&tags, self.began));
        (!outdated).then_some(self.result)
    }

    /// A result of a read that had no loader.
    pub(crate) fn read(result: FlightResult, began: u64, tags: Option<TagCells>) -> Self {
        Self { result, began, tags, required: false }
    }

    /// Whether this is another call's "there is none", which is no answer where there must be a value.
    pub(crate) fn leaves_out(&self, required: bool) -> bool {
        let absent = self.result.as_ref().is_ok_and(|outcome| outcome.value.is::<Absent>());
        required && !self.required && absent
    }
}

/// A load that failed, without the error's type.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Loader(AnyError),
    Larder(LoadFault),
    /// Of a read without a loader: the remote tier failed.
    Remote(larder_core::Error),
}

/// What a loader returned, without its type.
pub(crate) struct LoadedAny {
    pub(crate) value: Option<AnyValue>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) store: bool,
}

/// The user's function, boxed: it runs on the slow path only.
pub(crate) type Loader<'a> =
    Box<dyn FnOnce(Option<PreviousAny>) -> BoxFuture<'a, Result<LoadedAny, AnyError>> + Send + 'a>;

/// Leads a flight to its end. `refresh_of` tells when the near entry was loaded that is being refreshed.
pub(crate) async fn lead(request: LoadRequest, leader: Leader<Landed>, loader: Loader<'_>, refresh_of: Option<Tick>) {
    let Some(mut led) = Led::begin(request, leader, refresh_of) else { return };
    let request = led.request.clone();
    // How long those who wait are kept waiting although there is a value for them.
    let mut answer_after = None;
    let (next, unverified) = match request.look(refresh_of, false).await {
        RemotePhase::Fresh(entry) => return led.finish_with(&entry),
        RemotePhase::Stale(entry, next) => {
            led.take(&entry);
            answer_after = Some(request.soft_timeout().unwrap_or(Duration::ZERO));
            (next, false)
        }
        RemotePhase::Go(next) => (next, false),
        RemotePhase::Fault => (Next::Load(None), true),
    };
    if answer_after == Some(Duration::ZERO) {
        led = led.answer();
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
                led = led.answer();
                way.await
            }
        },
    };
    match brought {
        Brought::Fresh(entry) => led.finish_with(&entry),
        Brought::Left => led.leave(),
        Brought::Loaded(Ok(loaded), how) => led.store(loaded, how).settle().await,
        Brought::Loaded(Err(fault), how) => {
            request.region.counters.count(Event::LoadError);
            led.fail(fault, how.guard.as_ref().is_some_and(FillGuard::is_barred));
            if let Some(guard) = how.guard {
                guard.release().await;
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

/// The circumstances of a load.
pub(crate) struct How {
    pub(crate) guard: Option<FillGuard>,
    pub(crate) cost: Duration,
    /// The remote tier could not be asked.
    pub(crate) unverified: bool,
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
        let (result, cost) = request.timed(run(request, load, guard.as_ref())).await;
        Brought::Loaded(result, How { guard, cost, unverified })
    }
}

/// Runs the loader: a panic is a fault, one that runs longer than the strategy allows is aborted, and its fill token is
/// renewed meanwhile.
async fn run<'l>(
    request: &LoadRequest,
    load: impl FnOnce() -> BoxFuture<'l, Result<LoadedAny, AnyError>> + Send,
    guard: Option<&FillGuard>,
) -> Result<LoadedAny, Fault> {
    let chain = Chain::current().with(request);
    let load = chain.scope(async move { load().await.map_err(Fault::Loader) });
    let renewal = async {
        match guard {
            Some(guard) => guard.renew_for_ever().await,
            None => std::future::pending().await,
        }
    };
    guarded(request, load, renewal).await
}

/// Bounds a load in time, and makes a fault of its panic. `renewal` never ends.
pub(crate) async fn guarded<T>(
    request: &LoadRequest,
    load: impl Future<Output = Result<T, Fault>>,
    renewal: impl Future<Output = ()>,
) -> Result<T, Fault> {
    let longest = request.region.strategy.max_load.max(request.region.strategy.hard_timeout);
    tokio::select! {
        biased;
        result = AssertUnwindSafe(load).catch_unwind() => result.unwrap_or_else(|panic| {
            Err(Fault::Larder(LoadFault::Panicked(panic_message(panic.as_ref()))))
        }),
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

impl LoadRequest {
    /// Runs a load, measured and counted.
    pub(crate) async fn timed<T>(&self, load: impl Future<Output = T>) -> (T, Duration) {
        let timer = &self.engine.timer;
        let started = timer.now_precise();
        let result = load.await;
        let cost = timer.now_precise().since(started);
        self.count_load(cost);
        (result, cost)
    }

    pub(crate) fn count_load(&self, cost: Duration) {
        self.region.counters.count(Event::Load);
        self.region.counters.add(Event::LoadMicros, u64::try_from(cost.as_micros()).unwrap_or(u64::MAX));
    }
}
