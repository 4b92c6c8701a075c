//! The leader's part of a load of many keys.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::{join, join_all, pending},
    stream::FuturesUnordered,
};
use larder_core::{Key, Tick};
use larder_strategy::Lease;

use super::{
    BatchLoader, Fault, How, Led, LoadRequest, LoadSlot,
    chain::Chain,
    guarded,
    remote_phase::{Considered, FillGuard, Next, RemotePhase},
};
use crate::engine::{
    fill::{Claim, Fill, Ground},
    remote::{Reading, Remote, Stored},
};
use crate::stats::Event;

/// One key of a batch that this process leads.
pub(super) struct Item {
    /// Its place in the list of keys.
    pub(super) place: usize,
    pub(super) led: Led,
    pub(super) refresh_of: Option<Tick>,
}

/// A key that is to be loaded, and with what.
struct Claimed {
    item: Item,
    fill: Option<Fill>,
    unverified: bool,
}

/// The leader's part.
pub(super) struct Batch {
    pub(super) request: LoadRequest,
    pub(super) loader: BatchLoader,
}

impl Batch {
    /// The slot is given back when the callers have their answers: storing them is no load.
    pub(super) async fn lead(&self, items: Vec<Item>, slot: LoadSlot) {
        if items.is_empty() {
            return;
        }
        let slot = Arc::new(slot);
        let (ready, held) = self.look(items, false).await;
        let early = Arc::clone(&slot);
        join(self.load(ready, early), self.wait(held, slot)).await;
    }

    /// Asks the remote tier for all keys at once, and claims what is to be loaded. Returns also what other processes load.
    /// `waited`: they were found to load before, which one look that fails does not disprove.
    async fn look(&self, items: Vec<Item>, waited: bool) -> (Vec<Claimed>, Vec<Item>) {
        let request = &self.request;
        let Some(remote) = request.remote() else {
            let unclaimed = |item| Claimed { item, fill: None, unverified: false };
            return (items.into_iter().map(unclaimed).collect(), vec![]);
        };
        let keys: Vec<Key> = items.iter().map(|item| item.led.request.key.clone()).collect();
        let limit = request.region.strategy.remote_deadline;
        let how = Reading { tags: request.tags(), tells: false, limit };
        let (mut ready, mut held, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        let mut items: Vec<_> = items.into_iter().map(Some).collect();
        let mut take = |index: usize, stored| {
            let Some(item) = items[index].take() else { return };
            match self.judge(item, stored, waited) {
                Judged::Done => {}
                Judged::Load(claimed) => ready.push(claimed),
                Judged::Held(item) => held.push(item),
                Judged::Claim(item, ground) => claims.push((item, ground)),
            }
        };
        remote.read_many(&keys, &request.region, request.ops, how, &mut take).await;
        self.claim(claims, waited, &mut ready, &mut held).await;
        (ready, held)
    }

    fn judge(&self, mut item: Item, stored: larder_core::Result<Stored>, waited: bool) -> Judged {
        let request = &item.led.request;
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => {
                request.engine.remote_fault(&request.region, Some(&request.key), &error);
                if waited && !request.engine.is_away() {
                    return Judged::Held(item);
                }
                return Judged::Load(Claimed { item, fill: None, unverified: true });
            }
        };
        let (entry, next) = match request.consider(stored, item.refresh_of, waited) {
            Considered::Done(RemotePhase::Fresh(entry)) => {
                item.led.finish_with(&entry);
                return Judged::Done;
            }
            Considered::Done(RemotePhase::Fault) => {
                return Judged::Load(Claimed { item, fill: None, unverified: true });
            }
            Considered::Done(RemotePhase::Go(next)) => (None, Ok(next)),
            Considered::Done(RemotePhase::Stale(entry, next)) => (Some(entry), Ok(next)),
            Considered::Claim(entry, ground) => (entry, Err(ground)),
        };
        if let Some(entry) = entry {
            item.led.take(&entry);
            // Those who wait have their value, unless it was forced; a batch does not keep them for a soft time-out.
            if !item.led.request.options.force_refresh {
                item.led.keep_beside();
                item.led = item.led.answer();
            }
        }
        match next {
            Ok(Next::Wait(_)) if item.may_leave() => {
                item.led.leave();
                Judged::Done
            }
            Ok(Next::Wait(_)) => Judged::Held(item),
            Ok(Next::Load(fill)) => Judged::Load(Claimed { item, fill, unverified: false }),
            Err(ground) => Judged::Claim(item, ground),
        }
    }

    /// Claims keys, all at the same time, with the versions of their tags, which are read once.
    async fn claim(&self, claims: Vec<(Item, Ground)>, waited: bool, ready: &mut Vec<Claimed>, held: &mut Vec<Item>) {
        let (Some(remote), false) = (self.request.remote(), claims.is_empty()) else { return };
        let (items, grounds): (Vec<Item>, Vec<Ground>) = claims.into_iter().unzip();
        let keys: Vec<Key> = items.iter().map(|item| item.led.request.key.clone()).collect();
        let claiming = async {
            let each = keys.iter().zip(grounds).map(|(key, ground)| remote.claim(key, ground));
            let versions = remote.versions(&self.request.region, self.request.tags());
            let (versions, claims) = join(versions, join_all(each)).await;
            let complete = |claim: larder_core::Result<_>| Remote::complete(claim?, versions.clone());
            Ok(claims.into_iter().map(complete).collect::<Vec<_>>())
        };
        let claims = self.request.engine.within(self.request.region.strategy.remote_deadline, claiming).await;
        let claims = claims.unwrap_or_else(|error| items.iter().map(|_| Err(error.clone())).collect());
        for (item, claim) in items.into_iter().zip(claims) {
            match claim {
                Ok(Claim::Ours(fill)) => ready.push(Claimed { item, fill: Some(fill), unverified: false }),
                Ok(Claim::Leased(_) | Claim::Found(_) | Claim::Changed) if item.may_leave() => item.led.leave(),
                // Somebody was quicker.
                Ok(Claim::Leased(_) | Claim::Found(_) | Claim::Changed) => held.push(item),
                Err(error) => {
                    let request = &item.led.request;
                    request.engine.remote_fault(&request.region, Some(&request.key), &error);
                    if waited && !request.engine.is_away() {
                        held.push(item);
                    } else {
                        ready.push(Claimed { item, fill: None, unverified: true });
                    }
                }
            }
        }
    }

    /// Polls for what other processes load, all at once, until they have stored it or the strategy's bound has passed, and
    /// loads what they do not. What they give up before that is loaded at once, beside the wait for the rest: its token is
    /// renewed only while it is loaded.
    async fn wait(&self, mut held: Vec<Item>, slot: Arc<LoadSlot>) {
        let engine = &self.request.engine;
        let mut loads = FuturesUnordered::new();
        if let Lease::Wait { bound } = self.request.region.strategy.lease {
            let until = engine.timer.now_precise() + bound;
            while !held.is_empty() && engine.timer.now_precise() < until {
                let mut round = pin!(self.look_again(held, until));
                let (ready, still) = loop {
                    tokio::select! {
                        looked = &mut round => break looked,
                        Some(()) = loads.next() => {}
                    }
                };
                loads.push(self.load(ready, Arc::clone(&slot)).boxed());
                held = still;
            }
        }
        loads.push(self.load_all_the_same(held, slot).boxed());
        loads.collect::<()>().await;
    }

    async fn look_again(&self, held: Vec<Item>, until: Tick) -> (Vec<Claimed>, Vec<Item>) {
        let engine = &self.request.engine;
        let pause = engine.timer.now_precise() + Duration::from_millis(engine.rng().u64(5..=50));
        engine.timer.sleep_until(pause.min(until)).await;
        self.look(held, true).await
    }

    /// Loads what others have not brought in time, each with the token that stands there: the first to commit wins.
    async fn load_all_the_same(&self, held: Vec<Item>, slot: Arc<LoadSlot>) {
        let shared = held.into_iter().map(|item| async {
            let phase = item.led.request.share(item.refresh_of).await;
            (item, phase)
        });
        let mut late = Vec::new();
        for (item, phase) in join_all(shared).await {
            match phase {
                RemotePhase::Fresh(entry) => item.led.finish_with(&entry),
                RemotePhase::Go(Next::Load(fill)) | RemotePhase::Stale(_, Next::Load(fill)) => {
                    late.push(Claimed { item, fill, unverified: false });
                }
                RemotePhase::Go(Next::Wait(_)) | RemotePhase::Stale(_, Next::Wait(_)) => {
                    late.push(Claimed { item, fill: None, unverified: false });
                }
                RemotePhase::Fault => late.push(Claimed { item, fill: None, unverified: true }),
            }
        }
        self.load(late, slot).await;
    }

    /// One call of the loader, and what follows from it for each key.
    async fn load(&self, claimed: Vec<Claimed>, slot: Arc<LoadSlot>) {
        if claimed.is_empty() {
            return;
        }
        let request = &self.request;
        let mut items = Vec::with_capacity(claimed.len());
        let mut guards = Vec::with_capacity(claimed.len());
        for Claimed { item, fill, unverified } in claimed {
            guards.push((fill.map(|fill| FillGuard::new(&item.led.request, fill)), unverified));
            items.push(item);
        }
        let places: Vec<usize> = items.iter().map(|item| item.place).collect();
        let chain = items.iter().fold(Chain::current(), |chain, item| chain.with(&item.led.request));
        let load = chain.scope(async { Ok((self.loader)(places).await) });
        let renewal = async {
            join_all(guards.iter().filter_map(|(guard, _)| Some(guard.as_ref()?.renew_for_ever()))).await;
            pending::<()>().await;
        };
        let (result, cost) = request.timed(pin!(guarded(request, pin!(load), pin!(renewal)))).await;
        let answers = match result {
            Ok(answers) => answers.into_iter().map(|answer| answer.map_err(Fault::Loader)).collect(),
            Err(fault) => items.iter().map(|_| Err(fault.clone())).collect::<Vec<_>>(),
        };
        let (mut pending, mut released) = (Vec::new(), Vec::new());
        if answers.iter().all(Result::is_err) {
            request.region.counters.count(Event::LoadError);
        }
        for ((item, (guard, unverified)), answer) in items.into_iter().zip(guards).zip(answers) {
            match answer {
                Ok(loaded) => pending.push(item.led.store(loaded, How { guard, cost, unverified }).settle()),
                Err(fault) => {
                    item.led.fail(fault, guard.as_ref().is_some_and(FillGuard::is_barred));
                    released.extend(guard.map(FillGuard::release));
                }
            }
        }
        drop(slot);
        join(join_all(pending), join_all(released)).await;
    }
}

impl Item {
    /// Whether another process's load spares this one.
    fn may_leave(&self) -> bool {
        self.led.at_hand.is_some() && self.led.request.leaves_loads_to_others()
    }
}

/// What a key of a batch needs after the first look.
enum Judged {
    Done,
    Load(Claimed),
    Held(Item),
    Claim(Item, Ground),
}

impl LoadRequest {
    /// A key of a batch that has waited for another process for as long as it may: it is looked at once more, and then
    /// loaded with the token that stands there.
    async fn share(&self, refresh_of: Option<Tick>) -> RemotePhase {
        match self.look(refresh_of, true).await {
            RemotePhase::Go(Next::Wait(token)) | RemotePhase::Stale(_, Next::Wait(token)) => {
                self.share_token(token).await
            }
            other => other,
        }
    }
}
