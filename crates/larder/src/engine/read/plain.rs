//! A read without a loader that the near tier has no answer for.

use std::{sync::Arc, time::Duration};

use larder_core::{ErrorKind, Timer};
use larder_flight::{FlightId, Join, Leader};
use larder_memory::AnyValue;

use super::{Fault, Landed, LoadRequest, chain::Chain};
use crate::engine::remote::{Remote, Stored};
use crate::{call::TIERS, outcome::Outcome, stats::Event, value::Absent};

impl LoadRequest {
    /// Reads the remote tier without loading, and promotes what it finds. Reads of one key share a round trip. Where the key
    /// is being loaded, the load has asked already: its value is waited for instead, no longer than the remote tier would be.
    pub(crate) async fn read(&self) -> larder_core::Result<Option<Outcome<AnyValue>>> {
        let Some(remote) = self.remote() else { return Ok(None) };
        let came = self.engine.tags.epoch();
        let own = self.options.deadline.unwrap_or(Duration::MAX);
        let deadline = self.region.strategy.remote_deadline.min(own);
        match self.of_a_load(deadline, came).await {
            Loading::Ended(found) => return Ok(found),
            Loading::Not => {}
        }
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

    async fn of_a_load(&self, deadline: Duration, came: u64) -> Loading {
        // A loader that looks for its own key would wait for itself.
        if Chain::current().loads(self) {
            return Loading::Not;
        }
        let suits = |id: &FlightId| {
            id.value == self.id.value && id.error != self.id.error && id.options == self.id.options & TIERS
        };
        let Some(follower) = self.engine.flights.follow(&self.key, suits) else { return Loading::Not };
        let timer: &dyn Timer = self.engine.timer.as_ref();
        match timer.within(deadline, follower.wait()).await {
            // Still loading: there is nothing yet.
            None => Loading::Ended(None),
            Some(landed) => match landed.and_then(|landed| landed.at(came)) {
                Some(Ok(outcome)) => {
                    self.region.counters.count(Event::Coalesced);
                    Loading::Ended((!outcome.value.is::<Absent>()).then_some(outcome))
                }
                // The load failed or was fenced: what the remote tier has may still do.
                _ => Loading::Not,
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
                self.engine.remote_fault(&self.region, Some(&self.key), &error);
                let hasty = error.kind() == ErrorKind::Timeout && deadline < self.region.strategy.remote_deadline;
                let landed = Landed::read(Err(Fault::Remote(error)), began, None);
                if hasty {
                    // This call's haste is not the others': they join again.
                    return landed;
                }
                landed
            }
        };
        drop(leader.finish(landed.clone()));
        landed
    }
}

/// What a load of the key that is under way means for a read.
enum Loading {
    /// It answered, or takes longer than the read may wait.
    Ended(Option<Outcome<AnyValue>>),
    /// There is none that would answer.
    Not,
}

/// Nothing stands in the remote tier.
struct Nothing;

/// What reads without a loader have in place of its error's type.
pub(crate) enum NoLoader {}
