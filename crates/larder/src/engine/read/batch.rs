//! Loads of many keys at once: the read path of a single key, step by step, for all of them together.
//!
//! One look into the near tier, one MGET, one claim for each key that is missing (sent together), one call of the loader
//! for what nobody else is loading. Keys that another process is loading are waited for meanwhile, and loaded in a further
//! call if it gives them up or their bound passes. Each key has a flight of its own, so that calls for single keys share it.
//! Here is the callers' part; the leader's is in `batch_lead.rs`.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::{BoxFuture, join_all};
use larder_core::{Key, Tick};
use larder_flight::{Follower, Join, Leader};

use super::{
    AtHand, Fault, FlightResult, Landed, Led, LoadRequest, LoadSlot, LoadedAny, NearState, answer,
    batch_lead::{Batch, Item},
    chain::Chain,
    found,
};
use crate::{load_error::LoadFault, value::AnyError};

/// What a batch's loader says of the keys that it was given, in their order.
pub(crate) type Answers = Vec<Result<LoadedAny, AnyError>>;

/// The user's function: it is given places in the batch's list of keys.
pub(crate) type BatchLoader = Arc<dyn Fn(Vec<usize>) -> BoxFuture<'static, Answers> + Send + Sync>;

/// One read of many keys that differ.
pub(crate) struct BatchRequest {
    /// What holds for every key; its own key is none of them.
    pub(crate) request: LoadRequest,
    pub(crate) keys: Vec<Key>,
    pub(crate) loader: BatchLoader,
}

impl BatchRequest {
    fn at(&self, place: usize) -> LoadRequest {
        LoadRequest { key: self.keys[place].clone(), ..self.request.clone() }
    }

    /// Reads and loads; answers for each key.
    pub(crate) async fn run(self) -> Vec<FlightResult> {
        let engine = Arc::clone(&self.request.engine);
        // Taken before the flights are joined: what was invalidated until now must not be what they bring.
        let came = engine.tags.epoch();
        let mut results: Vec<Option<FlightResult>> = (0..self.keys.len()).map(|_| None).collect();
        let mut refreshes = Vec::new();
        let missing = self.look_near(&mut results, &mut refreshes);
        self.refresh(refreshes);
        let deadline = self.request.deadline();
        let at_hand: HashMap<usize, AtHand> =
            missing.iter().filter_map(|&place| Some((place, self.at(place).at_hand()?))).collect();
        let mut left = missing;
        let mut forced = self.request.options.force_refresh;
        // Dropped with this future: what is then still running goes on in the background.
        let mut waiting = Vec::new();
        while !left.is_empty() {
            let (followers, led) = self.join(&left, forced, came, &mut results);
            forced = false;
            if !led.is_empty() {
                let (slot, caller) = LoadSlot::waited_for(&engine);
                waiting.push(caller);
                self.spawn(led.into_iter().map(|(place, leader)| (place, leader, None)).collect(), slot);
            }
            let this = &self;
            let waits = followers.into_iter().map(|(place, follower, follows)| async move {
                (place, this.at(place).answer_of(follower, deadline, came, follows).await)
            });
            left.clear();
            for (place, answer) in join_all(waits).await {
                match answer {
                    Some(result) => results[place] = Some(result),
                    None => left.push(place),
                }
            }
        }
        drop(waiting);
        let results = results.into_iter().enumerate();
        results
            .map(|(place, result)| {
                let result = result.unwrap_or(Err(Fault::Larder(LoadFault::TimedOut)));
                self.request.or_at_hand(result, at_hand.get(&place))
            })
            .collect()
    }

    /// Answers what the near tier has; returns the places of what is missing, and notes what is due for a refresh.
    fn look_near(&self, results: &mut [Option<FlightResult>], refreshes: &mut Vec<(usize, Tick)>) -> Vec<usize> {
        let request = &self.request;
        let all = (0..self.keys.len()).collect();
        if !request.reads_near() || request.options.force_refresh {
            return all;
        }
        let now = request.engine.timer.now();
        let mut missing = Vec::new();
        for (place, key) in self.keys.iter().enumerate() {
            let near = request.engine.near_read(key.as_str(), now);
            let refresh = near.state == NearState::Refresh;
            let Some(entry) = near.living().filter(|entry| request.accepts(&entry.value)) else {
                missing.push(place);
                continue;
            };
            if refresh {
                refreshes.push((place, entry.meta.loaded_at));
            }
            results[place] = Some(found(&entry.value, answer(&entry, now)));
        }
        missing
    }

    /// Refreshes in the background what nobody refreshes already.
    fn refresh(&self, due: Vec<(usize, Tick)>) {
        let engine = &self.request.engine;
        if due.is_empty() {
            return;
        }
        let Some(slot) = LoadSlot::background(engine) else { return };
        let mut led = Vec::new();
        for (place, loaded_at) in due {
            let request = self.at(place);
            if Chain::current().contains(&request) {
                continue;
            }
            if let Join::Lead(leader) = engine.flights.join(&request.key, request.id) {
                led.push((place, leader, Some(loaded_at)));
            }
        }
        if !led.is_empty() {
            self.spawn(led, slot);
        }
    }

    /// Joins the flights of keys: those to wait for, and those to lead. What cannot be loaded is answered at once.
    #[expect(clippy::type_complexity, reason = "two lists that are taken apart where they are made")]
    fn join(
        &self,
        places: &[usize],
        forced: bool,
        came: u64,
        results: &mut [Option<FlightResult>],
    ) -> (Vec<(usize, Follower<Landed>, bool)>, Vec<(usize, Leader<Landed>)>) {
        let engine = &self.request.engine;
        let (mut followers, mut led) = (Vec::new(), Vec::new());
        for &place in places {
            let request = self.at(place);
            if Chain::current().contains(&request) {
                results[place] = Some(Err(Fault::Larder(LoadFault::Recursive)));
                continue;
            }
            if let Some(result) = request.served(came) {
                results[place] = Some(result);
                continue;
            }
            let joined = if forced {
                Join::Lead(engine.flights.lead_alone(&request.key, request.id))
            } else {
                engine.flights.join(&request.key, request.id)
            };
            match joined {
                Join::Follow(follower) => followers.push((place, follower, true)),
                Join::Lead(leader) if engine.loads.is_full() => {
                    let fault = Fault::Larder(LoadFault::Overloaded);
                    leader.end(Landed::untagged(Err(fault.clone())));
                    results[place] = Some(Err(fault));
                }
                Join::Lead(leader) => {
                    followers.push((place, leader.follow(), false));
                    led.push((place, leader));
                }
            }
        }
        (followers, led)
    }

    fn spawn(&self, led: Vec<(usize, Leader<Landed>, Option<Tick>)>, slot: LoadSlot) {
        let items = led.into_iter().filter_map(|(place, leader, refresh_of)| {
            let led = Led::begin(self.at(place), leader, refresh_of)?;
            Some(Item { place, led, refresh_of })
        });
        let batch = Batch { request: self.request.clone(), loader: Arc::clone(&self.loader) };
        let items: Vec<Item> = items.collect();
        let engine = &self.request.engine;
        engine.spawn(Chain::current().scope(async move { batch.lead(items, slot).await }));
    }
}
