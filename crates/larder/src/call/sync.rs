//! Loads of plain functions: on the caller's thread, near tier only.

use std::{cell::Cell, sync::Arc};

use larder_flight::Join;
use larder_memory::AnyValue;

use super::{counted, erase_loaded};
use crate::{
    LoadError, Loaded, Outcome,
    engine::{Fault, Landed, LoadRequest, NearRead, answer as near_answer, found},
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
    // Taken before the flight is joined: what was invalidated until now must not be what it brings.
    let came = request.engine.tags.epoch();
    loop {
        match request.engine.flights.join(&request.key, request.id) {
            Join::Lead(leader) => {
                // Another thread may have loaded between this one's look and its lead.
                let now = request.engine.timer.now();
                let answer = match request.engine.near_read(request.key.as_str(), now) {
                    NearRead::Fresh(entry) if request.accepts(&entry.value) => {
                        let result = found(&entry.value, near_answer(&entry, now));
                        drop(leader.finish(Landed::new(result.clone(), came, entry.meta.tags)));
                        in_types(result)
                    }
                    _ => lead(request, leader, load),
                };
                return counted(&request.region, answer);
            }
            // Within another load one does not wait: the other thread might be waiting for this one.
            Join::Follow(_) if DEPTH.get() > 0 => {
                let leader = request.engine.flights.lead_alone(&request.key, request.id);
                return counted(&request.region, lead(request, leader, load));
            }
            Join::Follow(follower) => {
                // No result: the leader's function panicked, or what it brought is too old; this thread joins anew.
                let landed = futures_executor::block_on(follower.wait());
                if let Some(result) = landed.and_then(|landed| landed.at(came)) {
                    request.region.counters.count(Event::Coalesced);
                    return counted(&request.region, in_types(result));
                }
            }
        }
    }
}

fn lead<V, E>(
    request: &LoadRequest,
    mut leader: larder_flight::Leader<Landed>,
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
    let mut tags = None;
    let result = match result {
        Ok(loaded) => {
            let loaded = erase_loaded(loaded);
            request.keep(&mut leader, &loaded, cost, began);
            tags = request.cells(&loaded.tags);
            Ok(Outcome::loaded(loaded.value.unwrap_or_else(|| Arc::new(Absent) as AnyValue)))
        }
        Err(error) => {
            request.region.counters.count(Event::LoadError);
            let error = Arc::new(error) as AnyError;
            request.remember_failure(&mut leader, &error, began);
            Err(Fault::Loader(error))
        }
    };
    drop(leader.finish(Landed::new(result.clone(), began, tags)));
    in_types(result)
}
