//! A cached function's look into the near tier.

use std::sync::Arc;

use larder_core::KeyBuf;
use larder_memory::{AnyValue, NearEntry};

use super::{Miss, Site, site::on};
use crate::{
    Cache, Outcome,
    engine::{Meta, NearState, RegionState, provenance},
    stats::Event,
    value::{Absent, Failed},
};

/// What the near tier says about a call.
#[derive(Debug)]
pub enum Lookup<V> {
    /// A value, or the knowledge that there is none.
    Found(Outcome<Option<Arc<V>>>),
    /// The loader failed a moment ago, with this error.
    Failed(Arc<dyn std::any::Any + Send + Sync>),
    /// Nothing that can be used.
    Miss(Miss),
    /// A value that is to be refreshed in the background, by [`Miss::refresh`].
    Refresh(Outcome<Option<Arc<V>>>, Miss),
}

/// Looks into the near tier: no allocation, no lock that outlives it. `optional`: the function may return that there is no
/// value.
#[inline]
pub fn lookup<V: Send + Sync + 'static>(
    site: &'static Site,
    cache: Option<&Cache>,
    optional: bool,
    render: impl FnOnce(&mut KeyBuf),
) -> Lookup<V> {
    on(cache, |cache| {
        let region = site.state(cache);
        // Built in place: the buffer is too large to be moved for nothing.
        let mut key = KeyBuf::new();
        key.start(&region.prefix);
        render(&mut key);
        key.finish();
        let engine = &cache.engine;
        let miss = |loaded_at| Miss {
            cache: cache.clone(),
            region: Arc::clone(region),
            key: key.to_key(),
            loaded_at,
            patient: false,
            required: !optional,
        };
        if !engine.is_enabled() || !region.strategy.tiers.uses_near() {
            return Lookup::Miss(miss(larder_core::Tick::ZERO));
        }
        let now = engine.timer.now();
        let found = engine.near.get(&key);
        let state = engine.near_state(found.as_ref(), now);
        let Some(NearEntry { value, fresh_until, meta: Meta { loaded_at, .. }, .. }) = found else {
            return Lookup::Miss(miss(larder_core::Tick::ZERO));
        };
        let waits = state == NearState::Refresh && now >= fresh_until && region.strategy.soft_timeout.is_some();
        if state == NearState::Miss || waits {
            return Lookup::Miss(miss(larder_core::Tick::ZERO));
        }
        let outcome = provenance(fresh_until, loaded_at, now);
        let found = match typed::<V>(value) {
            Typed::Value(value) => Some(value),
            Typed::Absent if optional => None,
            // Another function's, which may return that there is no value.
            Typed::Absent => return Lookup::Miss(miss(larder_core::Tick::ZERO)),
            Typed::Failed(failed) => {
                region.counters.count(Event::NearHit);
                return Lookup::Failed(Arc::clone(&failed.0));
            }
            Typed::Other => {
                region.counters.count(Event::WrongType);
                crate::events::wrong_type(key.as_str(), std::any::type_name::<V>());
                return Lookup::Miss(miss(larder_core::Tick::ZERO));
            }
        };
        count_hit(region, outcome.stale);
        let outcome = outcome.map(|()| found);
        if state == NearState::Refresh { Lookup::Refresh(outcome, miss(loaded_at)) } else { Lookup::Found(outcome) }
    })
}

/// Forgets a remembered failure whose error can be handed out only once, and was: the next call loads.
pub fn forget_failure(site: &'static Site, cache: Option<&Cache>, render: impl FnOnce(&mut KeyBuf)) {
    on(cache, |cache| {
        let mut key = KeyBuf::with_prefix(site.state(cache).prefix.as_str());
        render(&mut key);
        let key = key.to_key();
        let engine = &cache.engine;
        if engine.near.get(key.as_str()).is_some_and(|entry| entry.value.is::<Failed>()) {
            engine.forget(&key);
        }
    });
}

#[inline]
pub(crate) fn count_hit(region: &RegionState, stale: bool) {
    region.counters.count(Event::NearHit);
    if stale {
        region.counters.count(Event::StaleHit);
    }
}

/// A value of the near tier, in its type. Two words, which a function returns in registers.
pub(crate) enum Typed<V> {
    Value(Arc<V>),
    Absent,
    Failed(Arc<Failed>),
    Other,
}

/// Not in place: a hit takes 7 to 20 ns less, and no longer now this and now that. To tell a type is to write its identity to the
/// stack and to read it back. Where the caller's other variables have that place at other times, a processor is presumably
/// often wrong about which write the read will see.
#[inline(never)]
pub(crate) fn typed<V: Send + Sync + 'static>(value: AnyValue) -> Typed<V> {
    match value.downcast::<V>() {
        Ok(value) => Typed::Value(value),
        Err(other) => untyped(other),
    }
}

#[inline(never)]
fn untyped<V>(other: AnyValue) -> Typed<V> {
    if other.is::<Absent>() {
        return Typed::Absent;
    }
    match other.downcast::<Failed>() {
        Ok(failed) => Typed::Failed(failed),
        Err(_) => Typed::Other,
    }
}
