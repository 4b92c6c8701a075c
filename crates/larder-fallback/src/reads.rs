//! Reads that tell of faults; those of single keys that callers make at about the same time are made at once.
//!
//! What a call to the primary costs here (the breaker, the deadline's timer, the way through the backend) is then spent once
//! for all of them. They share what becomes of the call, so that is done only where they would meet the same faults anyway: at
//! a primary that says that it is one server.

use std::sync::Arc;

use futures_util::future::{join, join_all};
use larder_core::{Combiner, Each, Error, ErrorKind, Found, Gathered, GetOptions, Key, Lineage, Result};

use crate::{
    shared::Shared,
    terms::{Place, Remember, Terms},
};

pub(crate) type Reads = Combiner<Key, Result<Option<Found>>>;

type Read = Gathered<Key, Result<Option<Found>>>;

const OPERATION: &str = "get_many";

impl Shared {
    /// Reads keys.
    pub(crate) async fn get_many_or_fault(
        self: &Arc<Self>,
        keys: &[Key],
        options: GetOptions,
        terms: Terms<'_>,
    ) -> Each<Option<Found>> {
        let attempts = self.each(OPERATION, keys, terms, move |primary, keys| primary.get_many(keys, options));
        let attempts = attempts.await;
        let absent = |_: &Key, error: Option<Error>| error.map_or(Ok(None), Err);
        self.fill_in(keys, attempts, absent, move |secondary, keys| secondary.get_many(keys, options)).await
    }

    async fn get_or_fault(self: &Arc<Self>, key: &Key) -> Result<Option<Found>> {
        let found =
            self.get_many_or_fault(std::slice::from_ref(key), GetOptions::new(), Remember::Never.into()).await.pop();
        found.unwrap_or(Ok(None))
    }

    /// Reads a key, together with others where some are on their way.
    pub(crate) async fn get_combined(self: &Arc<Self>, key: &Key) -> Result<Option<Found>> {
        let on_its_way = self.reads.begin();
        let gathered = if on_its_way.is_alone() || !self.combines() {
            None
        } else {
            let shared = Arc::clone(self);
            let read = move |reads| {
                let shared = Arc::clone(&shared);
                async move { shared.read(reads).await }
            };
            self.reads.gather(|| key.clone(), read)
        };
        let Some(answer) = gathered else {
            // Boxed, so that those who wait for others' calls do not have its size.
            return Box::pin(self.get_or_fault(key)).await;
        };
        answer.await.unwrap_or_else(|_| {
            let message = "the task that read for several callers ended early; try again";
            Err(Error::new(ErrorKind::Unavailable, OPERATION, message).with_key(key))
        })
    }

    fn combines(&self) -> bool {
        self.is_calm() && self.primary.as_lineage().is_some_and(Lineage::has_one_server)
    }

    /// Reads keys at once and deals the answers out. For whom there is no room goes by himself, as who comes alone does.
    async fn read(self: &Arc<Self>, mut reads: Vec<Read>) {
        let place = self.enter(u32::try_from(reads.len()).unwrap_or(u32::MAX));
        let over = reads.split_off(reads.len().min(place.callers() as usize));
        let alone = over.into_iter().map(|Gathered { request, answer }| async move {
            // One that went away needs no answer.
            drop(answer.send(self.get_or_fault(&request).await));
        });
        join(self.read_at_once(reads, place), join_all(alone)).await;
    }

    async fn read_at_once(self: &Arc<Self>, reads: Vec<Read>, place: Place<'_>) {
        let (keys, callers): (Vec<Key>, Vec<_>) =
            reads.into_iter().map(|Gathered { request, answer }| (request, answer)).unzip();
        let terms = Terms { shared: Some(place), ..Remember::Never.into() };
        let found = self.get_many_or_fault(&keys, GetOptions::new().combined(), terms).await;
        for (caller, found) in callers.into_iter().zip(found) {
            drop(caller.send(found));
        }
    }
}
