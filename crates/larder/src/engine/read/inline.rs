//! Loads whose loader borrows: the caller runs the leader's part itself.

use larder_flight::{Follower, Join};

use super::{Fault, FlightResult, Landed, Lead, LoadRequest, Loader, Waited, chain::Chain};
use crate::load_error::LoadFault;

impl LoadRequest {
    /// Joins or leads with a loader that borrows: the caller polls it, and if it is dropped the next follower leads. No such
    /// call forces a refresh.
    pub(crate) async fn load_inline(self, loader: Loader<'_>) -> FlightResult {
        let at_hand = self.serves_what_is_at_hand().then(|| self.at_hand()).flatten();
        let result = self.clone().join_inline(loader).await;
        self.or_at_hand(result, at_hand.as_ref())
    }

    async fn join_inline(self, loader: Loader<'_>) -> FlightResult {
        if Chain::current().contains(&self) {
            return Err(Fault::Larder(LoadFault::Recursive));
        }
        let came = self.engine.tags.epoch();
        if let Some(result) = self.served(came) {
            return result;
        }
        let mut loader = Some(loader);
        let deadline = self.deadline();
        loop {
            match self.engine.flights.join(&self.key, self.id) {
                Join::Lead(leader) => {
                    let (first, mut last) = (leader.follow(), None);
                    let loader = loader.take().expect("whoever leads returns below, so the loader is still there");
                    let lead = Lead { request: self.clone(), leader, loader, refresh_of: None, slot: None };
                    lead.run(&mut last).await;
                    // It waited for its loader anyway, so that what the others got until then does only in place of an error.
                    let loaded = match last {
                        Some(last) => ended(last, came).await.filter(Result::is_ok),
                        None => None,
                    };
                    let loaded = match loaded {
                        None => ended(first, came).await,
                        loaded => loaded,
                    };
                    return loaded.unwrap_or(Err(Fault::Larder(LoadFault::TimedOut)));
                }
                Join::Follow(follower) => {
                    let waited = self.wait(follower, deadline, came).await;
                    waited.count_coalesced(&self.region);
                    match waited {
                        Waited::Result(result) => return result,
                        Waited::Again => {}
                        Waited::TimedOut => return Err(Fault::Larder(LoadFault::TimedOut)),
                    }
                }
            }
        }
    }
}

/// The result of a flight that has ended.
async fn ended(follower: Follower<Landed>, came: u64) -> Option<FlightResult> {
    follower.wait().await.and_then(|landed| landed.at(came))
}
