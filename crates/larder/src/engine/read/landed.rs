//! What flights end with.

use std::time::Duration;

use futures_util::future::BoxFuture;
use larder_core::Tag;
use larder_memory::AnyValue;

use super::{LoadRequest, remote_phase::FillGuard};
use crate::{
    load_error::LoadFault,
    loaded::PreviousAny,
    outcome::Outcome,
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

/// How a call hands its loader over, once: when it leads.
pub(crate) type TakeLoader<'a> = dyn FnMut() -> Loader<'static> + Send + 'a;

/// The circumstances of a load.
pub(crate) struct How {
    pub(crate) guard: Option<FillGuard>,
    pub(crate) cost: Duration,
    /// The remote tier could not be asked.
    pub(crate) unverified: bool,
}
