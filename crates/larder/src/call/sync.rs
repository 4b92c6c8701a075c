//! Loads of plain functions: on the caller's thread, near tier only.

use std::{cell::Cell, sync::Arc};

use larder_flight::Join;
use larder_memory::AnyValue;

use super::{counted, erase_loaded};
use crate::{
    LoadError, Loaded, Outcome,
    engine::{Fault, LoadRequest},
    private::{Answer, in_types},
    stats::Event,
    value::{Absent, AnyError},
};

thread_local! {
    /// How many loads of plain functions this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

struct Deeper;

impl Deeper {
    fn new() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

pub(crate) fn load_sync<V, E>(request: &LoadRequest, load: impl FnOnce() -> Result<Loaded<V>, E>) -> Answer<V, E>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    if !request.engine.is_enabled() {
        let loaded = load().map_err(|error| LoadError::Loader(Arc::new(error)))?;
        return Ok(Outcome::loaded(loaded.value));
    }
    loop {
        match request.engine.flights.join(&request.key, request.id) {
            Join::Lead(leader) => return counted(&request.region, lead(request, leader, load)),
            // Within another load one does not wait: the other thread might be waiting for this one.
            Join::Follow(_) if DEPTH.get() > 0 => {
                let leader = request.engine.flights.lead_alone(&request.key, request.id);
                return counted(&request.region, lead(request, leader, load));
            }
            Join::Follow(follower) => {
                request.region.counters.count(Event::Coalesced);
                // No result: the leader's function panicked, and this thread leads anew.
                if let Some(result) = futures_executor::block_on(follower.wait()) {
                    return counted(&request.region, in_types(result));
                }
            }
        }
    }
}

fn lead<V, E>(
    request: &LoadRequest,
    mut leader: larder_flight::Leader<crate::engine::FlightResult>,
    load: impl FnOnce() -> Result<Loaded<V>, E>,
) -> Answer<V, E>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let engine = &request.engine;
    let began = engine.tags.epoch();
    let started = engine.timer.now_precise();
    let result = {
        // A panic drops the leader, and so wakes the followers.
        let _deeper = Deeper::new();
        load()
    };
    let cost = engine.timer.now_precise().since(started);
    request.region.counters.count(Event::Load);
    request.region.counters.add(Event::LoadMicros, u64::try_from(cost.as_micros()).unwrap_or(u64::MAX));
    let result = match result {
        Ok(loaded) => {
            let loaded = erase_loaded(loaded);
            request.keep(&mut leader, &loaded, cost, began);
            Ok(Outcome::loaded(loaded.value.unwrap_or_else(|| Arc::new(Absent) as AnyValue)))
        }
        Err(error) => {
            request.region.counters.count(Event::LoadError);
            let error = Arc::new(error) as AnyError;
            request.remember_failure(&mut leader, &error, began);
            Err(Fault::Loader(error))
        }
    };
    drop(leader.finish(result.clone()));
    in_types(result)
}
