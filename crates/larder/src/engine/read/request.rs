//! One read: what was asked for, and what that means for the tiers.

use std::{pin::Pin, sync::Arc, time::Duration};

use larder_codec::AnyCodec;
use larder_core::{Key, Tag, Tick, Timer};
use larder_flight::FlightId;
use larder_memory::AnyValue;
use larder_strategy::Strategy;

use super::{AtHand, FlightResult, Kept};
use crate::engine::{Engine, RegionState, Remote};
use crate::{
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

impl ReadOptions {
    /// Whether the call asks that nothing be stored.
    pub(crate) fn stores_nothing(&self) -> bool {
        self.no_store || self.ttl.is_some_and(|ttl| ttl.is_zero())
    }

    /// How long a caller that finds a stale value waits for a fresh one; `None`: not at all.
    fn soft_timeout(&self, strategy: &Strategy) -> Option<Duration> {
        strategy.soft_timeout.filter(|_| !self.allow_stale)
    }

    /// Whether there is any case in which the caller would be served something else than the load's result. Where not, the
    /// near tier need not be looked into once more.
    pub(crate) fn serves_what_is_at_hand(&self, strategy: &Strategy) -> bool {
        self.allow_stale || strategy.fail_safe.is_some() || self.soft_timeout(strategy).is_some()
    }

    /// Until when the caller waits; a call's own deadline counts also where no hard time-out could be told.
    pub(crate) fn until(&self, strategy: &Strategy, timer: &dyn Timer) -> Option<Tick> {
        let hard = if self.patient { None } else { until(strategy.hard_timeout, timer) };
        let own = self.deadline.map(|limit| timer.now_precise() + limit);
        hard.into_iter().chain(own).min()
    }
}

/// `None`: that never comes.
fn until(limit: Duration, timer: &dyn Timer) -> Option<Tick> {
    larder_core::ttl_millis(limit).map(|_| timer.now_precise() + limit)
}

/// One read of one key, without the value's type.
#[derive(Debug, Clone)]
pub(crate) struct LoadRequest {
    pub(crate) engine: Arc<Engine>,
    pub(crate) region: Arc<RegionState>,
    pub(crate) key: Key,
    pub(crate) ops: &'static ValueOps,
    pub(crate) id: FlightId,
    /// `None`: there are none.
    pub(crate) tags: Option<Arc<[Tag]>>,
    pub(crate) options: ReadOptions,
}

impl LoadRequest {
    /// Tags as a request has them.
    pub(crate) fn shared(tags: impl AsRef<[Tag]> + Into<Arc<[Tag]>>) -> Option<Arc<[Tag]>> {
        (!tags.as_ref().is_empty()).then(|| tags.into())
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        self.tags.as_deref().unwrap_or_default()
    }

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
        let near = self.engine.near_read(self.key.as_str(), self.engine.timer.now());
        near.living().is_some_and(|entry| !self.ops.accepts(&entry.value))
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
        let mut all = self.tags().to_vec();
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
        self.options.soft_timeout(&self.region.strategy)
    }

    /// Until when the caller waits.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.options.until(&self.region.strategy, self.engine.timer.as_ref())
    }

    /// `None`: that never comes.
    pub(super) fn wait_limit(&self, limit: Duration) -> Option<Tick> {
        until(limit, self.engine.timer.as_ref())
    }

    pub(super) fn serves_what_is_at_hand(&self) -> bool {
        self.options.serves_what_is_at_hand(&self.region.strategy)
    }

    /// A value that may be served if the load takes too long or fails.
    pub(crate) fn at_hand(&self) -> Option<AtHand> {
        let now = self.engine.timer.now();
        if !self.reads_near() {
            return self.beside(now)?.at_hand(self.engine.tags.epoch(), now);
        }
        let entry = self.engine.near_look(self.key.as_str(), now).living()?;
        self.can_serve(&entry.value).then(|| AtHand::near(&entry, now, self))
    }

    /// What is served while the key's loader is left alone, or while a flight goes on that has answered others; only where
    /// the near tier does not have it.
    pub(super) fn served(&self, came: u64) -> Option<FlightResult> {
        if self.reads_near() || self.options.force_refresh {
            return None;
        }
        let now = self.engine.timer.now();
        let kept = self.beside(now)?;
        if kept.goes_on && self.soft_timeout().is_some() { None } else { kept.result(came, now) }
    }

    fn beside(&self, now: Tick) -> Option<Kept> {
        let kept = self.engine.serving.of(&self.key, self.id, now)?;
        let serves = !kept.relies_on_bus || self.engine.coherence.is_trusted(now);
        (serves && !kept.landed.leaves_out(self.options.required)).then_some(kept)
    }

    /// Runs a load, measured and counted.
    pub(crate) async fn timed<T>(&self, load: Pin<&mut impl Future<Output = T>>) -> (T, Duration) {
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
