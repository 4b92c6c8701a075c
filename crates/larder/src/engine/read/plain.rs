//! A read without a loader that the near tier has no answer for.

use std::{pin::pin, sync::Arc, time::Duration};

use larder_core::{ErrorKind, Timer};
use larder_flight::{FlightId, Follower, Join, Leader};
use larder_memory::AnyValue;

use super::{Fault, Landed, LoadRequest, chain::Chain};
use crate::engine::remote::{Remote, Stored};
use crate::{call::TIERS, outcome::Outcome, stats::Event, value::Absent};

impl LoadRequest {
    /// Reads the remote tier without loading, and promotes what it finds. Reads of one key share a round trip. Where the key
    /// is being loaded, the load has asked already: its value is waited for instead, no longer than the remote tier would be.
    pub(crate) async fn read(&self) -> Found {
        let Some(remote) = self.remote() else { return Ok(None) };
        let came = self.engine.tags.epoch();
        let own = self.options.deadline.unwrap_or(Duration::MAX);
        let deadline = self.region.strategy.remote_deadline.min(own);
        match self.loading() {
            Some(load) => self.beside_a_load(remote, load, deadline, came).await,
            None => self.ask(remote, deadline, came).await,
        }
    }

    /// Asks the remote tier, or whoever is asking it.
    async fn ask(&self, remote: &Remote, deadline: Duration, came: u64) -> Found {
        loop {
            let landed = match self.engine.flights.join(&self.key, self.id) {
                Join::Lead(leader) => Some(self.lead_read(remote, leader, deadline).await),
                Join::Follow(follower) => self.engine.within(deadline, async { Ok(follower.wait().await) }).await?,
            };
            return match landed.and_then(|landed| landed.at(came)) {
                Some(Ok(outcome)) => Ok((!outcome.value.is::<Nothing>()).then_some(outcome)),
                Some(Err(Fault::Remote(error))) => Err(error),
                // The leader went away, or what it found is older than this call.
                _ => continue,
            };
        }
    }

    /// The load of the key that is under way, unless this call comes from there: it would wait for itself.
    fn loading(&self) -> Option<Follower<Landed>> {
        let suits = |id: &FlightId| {
            id.value == self.id.value && id.error != self.id.error && id.options == self.id.options & TIERS
        };
        (!Chain::current().loads(self)).then(|| self.engine.flights.follow(&self.key, suits)).flatten()
    }

    /// Waits for a load. One that takes long may be a refresh, so that something stands in the remote tier that will do: at
    /// half time that is asked, and if it has nothing the wait goes on. All that takes no longer than the remote tier may.
    async fn beside_a_load(&self, remote: &Remote, load: Follower<Landed>, deadline: Duration, came: u64) -> Found {
        let timer: &dyn Timer = self.engine.timer.as_ref();
        let until = timer.now_precise() + deadline;
        let left = || until.since(timer.now_precise());
        let mut load = pin!(load.wait());
        let (mut landed, mut asked) = (timer.within(deadline / 2, load.as_mut()).await, Ok(None));
        if landed.is_none() {
            asked = self.ask(remote, left(), came).await;
            if let Ok(Some(_)) = asked {
                return asked;
            }
            landed = timer.within(left(), load.as_mut()).await;
        }
        match landed {
            // Still loading: there is nothing yet.
            None => asked,
            Some(landed) => match landed.and_then(|landed| landed.at(came)) {
                Some(Ok(outcome)) => {
                    self.region.counters.count(Event::Coalesced);
                    Ok((!outcome.value.is::<Absent>()).then_some(outcome))
                }
                // The load failed or was fenced: what the remote tier has may still do.
                _ => self.ask(remote, deadline, came).await,
            },
        }
    }

    async fn lead_read(&self, remote: &Remote, mut leader: Leader<Landed>, deadline: Duration) -> Landed {
        let began = self.engine.tags.epoch();
        let read = async {
            let key = std::slice::from_ref(&self.key);
            let found = remote.read_many(key, &self.region, self.ops, (&self.tags, self.options.tells)).await;
            found.into_iter().next().unwrap_or(Ok(Stored::Nothing))
        };
        let landed = match self.engine.within(deadline, read).await {
            Ok(Stored::Entry(entry)) => {
                let outcome = self.promote(leader.ticket(), &entry, began);
                Landed::read(Ok(outcome), began, self.engine.tags.cells(&entry.tags))
            }
            Ok(_) => Landed::read(Ok(Outcome::loaded(Arc::new(Nothing) as AnyValue)), began, None),
            Err(error) => {
                let hasty = error.kind() == ErrorKind::Timeout && deadline < self.region.strategy.remote_deadline;
                if hasty {
                    // This call's haste is not the others', who join again, and no fault.
                    return Landed::read(Err(Fault::Remote(error)), began, None);
                }
                self.engine.remote_fault(&self.region, Some(&self.key), &error);
                Landed::read(Err(Fault::Remote(error)), began, None)
            }
        };
        drop(leader.finish(landed.clone()));
        landed
    }
}

/// What a read finds.
type Found = larder_core::Result<Option<Outcome<AnyValue>>>;

/// Nothing stands in the remote tier.
struct Nothing;

/// What reads without a loader have in place of its error's type.
pub(crate) enum NoLoader {}
