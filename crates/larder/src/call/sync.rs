//! Loads of plain functions: on the caller's thread, near tier only.

use std::{cell::Cell, sync::Arc};

use larder_flight::Join;

use super::{counted, erase_loaded};
use crate::{
    LoadError, Loaded, Outcome,
    engine::{Fault, How, Landed, Led, LoadRequest},
    private::{Answer, in_types},
    stats::Event,
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
            Join::Lead(leader) => return counted(&request.region, lead(request, leader, load)),
            // Within another load one does not wait: the other thread might be waiting for this one.
            Join::Follow(_) if DEPTH.get() > 0 => {
                let leader = request.engine.flights.lead_alone(&request.key, request.id);
                return counted(&request.region, lead(request, leader, load));
            }
            Join::Follow(follower) => {
                // No result: the leader's function panicked, or what it brought is no answer; this thread joins anew.
                let landed = futures_executor::block_on(follower.wait());
                let landed = landed.filter(|landed| !landed.leaves_out(request.options.required));
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
    leader: larder_flight::Leader<Landed>,
    load: impl FnOnce() -> Result<Loaded<V>, E>,
) -> Answer<V, E>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let follower = leader.follow();
    // Another thread may have loaded between this one's look and its lead.
    if let Some(led) = Led::begin(request.clone(), leader, None) {
        let timer = &request.engine.timer;
        let started = timer.now_precise();
        let result = {
            // A panic drops what is led, and so wakes the followers.
            let _deeper = Deeper::new();
            load()
        };
        let cost = timer.now_precise().since(started);
        request.count_load(cost);
        match result {
            Ok(loaded) => drop(led.store(erase_loaded(loaded), How { guard: None, cost, unverified: false })),
            Err(error) => {
                request.region.counters.count(Event::LoadError);
                led.fail(Fault::Loader(Arc::new(error)), false);
            }
        }
    }
    let landed = futures_executor::block_on(follower.wait());
    in_types(landed.expect("the flight has ended above").into_result())
}
