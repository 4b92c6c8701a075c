//! A read without a loader that the near tier has no answer for.

use std::{pin::pin, sync::Arc, time::Duration};

use larder_core::{ErrorKind, Result, Timer};
use larder_flight::{FlightId, Follower, Join, Leader};
use larder_memory::AnyValue;

use super::{Fault, Landed, LoadRequest, chain::Chain};
use crate::engine::remote::{Reading, Remote, Stored};
use crate::{call::TIERS, outcome::Outcome, stats::Event, value::Absent};

impl LoadRequest {
    /// Reads the remote tier without loading, and promotes what it finds. Reads of one key share a round trip. Where the key
    /// is being loaded, the load has asked already: its value is waited for instead, no longer than the remote tier would be.
    pub(crate) async fn read(&self) -> Found {
        let Some(remote) = self.remote() else { return Ok(None) };
        let came = self.engine.tags.epoch();
        let own = self.options.deadline.unwrap_or(Duration::MAX);
        let deadline = self.region.strategy.remote_deadline.min(own);
        // A load of the key that is under way, unless this call comes from there: it would wait for itself.
        let is_inside = Chain::current().loads(self);
        let is_load = |id: &FlightId| {
            let suits = id.value == self.id.value && id.options == self.id.options & TIERS;
            !is_inside && suits && id.error != self.id.error
        };
        match self.engine.flights.join_unless(&self.key, self.id, is_load) {
            Ok(joined) => self.ask(remote, joined, deadline, came).await,
            // Boxed, since few reads need it.
            Err(load) => Box::pin(self.beside_a_load(remote, load, deadline, came)).await,
        }
    }

    /// Asks the remote tier, or whoever is asking it.
    async fn ask(&self, remote: &Remote, mut joined: Join<Landed>, deadline: Duration, came: u64) -> Found {
        loop {
            let landed = match joined {
                Join::Lead(mut leader) => {
                    // Lent: what an async function is given takes its room twice.
                    let landed = self.lead_read(remote, &mut leader, deadline).await?;
                    leader.end(landed.clone());
                    Some(landed)
                }
                Join::Follow(follower) => self.engine.within(deadline, async { Ok(follower.wait().await) }).await?,
            };
            return match landed.and_then(|landed| landed.at(came)) {
                Some(Ok(outcome)) => Ok((!outcome.value.is::<Nothing>()).then_some(outcome)),
                Some(Err(Fault::Remote(error))) => Err(error),
                // The leader went away, or what it found is older than this call.
                _ => {
                    joined = self.join_read();
                    continue;
                }
            };
        }
    }

    fn join_read(&self) -> Join<Landed> {
        self.engine.flights.join(&self.key, self.id)
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
            asked = self.ask(remote, self.join_read(), left(), came).await;
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
                _ => self.ask(remote, self.join_read(), deadline, came).await,
            },
        }
    }

    /// Reads for all who wait. An error is this call's alone: that it would not wait as long as the others, who join again.
    async fn lead_read(&self, remote: &Remote, leader: &mut Leader<Landed>, deadline: Duration) -> Result<Landed> {
        let began = self.engine.tags.epoch();
        // This call's haste says nothing about the store.
        let is_hasty = deadline < self.region.strategy.remote_deadline.min(remote.deadline());
        let how = Reading { tags: self.tags(), tells: self.options.tells, limit: deadline };
        Ok(match remote.read(&self.key, &self.region, self.ops, how).await {
            Ok(Stored::Entry(entry)) => {
                let outcome = self.promote(leader.ticket(), &entry, began);
                Landed::read(Ok(outcome), began, self.engine.tags.cells(&entry.tags))
            }
            Ok(_) => Landed::read(Ok(Outcome::loaded(Arc::new(Nothing) as AnyValue)), began, None),
            Err(error) => {
                if is_hasty && error.kind() == ErrorKind::Timeout {
                    return Err(error);
                }
                self.engine.remote_fault(&self.region, Some(&self.key), &error);
                Landed::read(Err(Fault::Remote(error)), began, None)
            }
        })
    }
}

/// What a read finds.
type Found = Result<Option<Outcome<AnyValue>>>;

/// Nothing stands in the remote tier.
struct Nothing;

/// What reads without a loader have in place of its error's type.
pub(crate) enum NoLoader {}
