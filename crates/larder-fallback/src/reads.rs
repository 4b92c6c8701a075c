//! Reads that tell of faults; those of single keys that callers make at about the same time are made at once.
//!
//! What a call to the primary costs here (the breaker, the deadline's timer, the way through the backend) is then spent once
//! for all of them. They share what becomes of the call; keys on different servers therefore go separately, so that one
//! server's faults are not those of another.

use std::{mem, sync::Arc, time::Duration};

use futures_util::future::join_all;
use larder_core::{Combiner, Each, Error, ErrorKind, Found, Gathered, GetOptions, Key, Result};

use crate::{
    call::{Remember, Terms},
    shared::Shared,
};

/// So many keys are read at once at most: all of them wait for the last one's answer.
const TOGETHER: usize = 64;

pub(crate) type Reads = Combiner<Key, Result<Option<Found>>>;

type Read = Gathered<Key, Result<Option<Found>>>;

const OPERATION: &str = "get_many";

impl Shared {
    /// Reads keys within a limit, or the deadline where that is less; `is_shared`: each for a caller of its own.
    pub(crate) async fn get_many_or_fault(
        self: &Arc<Self>,
        keys: &[Key],
        options: GetOptions,
        (limit, is_shared): (Duration, bool),
    ) -> Each<Option<Found>> {
        let terms = Terms { remember: Remember::Never, limit, is_shared };
        let attempts = self.each(OPERATION, keys, terms, move |primary, keys| primary.get_many(keys, options));
        let attempts = attempts.await;
        let absent = |_: &Key, error: Option<Error>| error.map_or(Ok(None), Err);
        self.fill_in(keys, attempts, absent, move |secondary, keys| secondary.get_many(keys, options)).await
    }

    /// Reads a key, together with others where some are on their way.
    pub(crate) async fn get_combined(self: &Arc<Self>, key: &Key) -> Result<Option<Found>> {
        let on_its_way = self.reads.begin();
        let gathered = if on_its_way.is_alone() || !self.is_calm() {
            None
        } else {
            let shared = Arc::clone(self);
            self.reads.gather(|| key.clone(), move |reads| async move { shared.carry(reads).await })
        };
        let Some(answer) = gathered else {
            // Boxed, so that those who wait for others' calls do not have its size.
            let key = std::slice::from_ref(key);
            let found = Box::pin(self.get_many_or_fault(key, GetOptions::new(), (Duration::MAX, false))).await.pop();
            return found.unwrap_or(Ok(None));
        };
        answer.await.unwrap_or_else(|_| {
            let message = "the task that read for several callers ended early; try again";
            Err(Error::new(ErrorKind::Unavailable, OPERATION, message).with_key(key))
        })
    }

    async fn carry(self: &Arc<Self>, mut reads: Vec<Read>) {
        let over = reads.split_off(reads.len().min(self.room()));
        for Gathered { request, answer } in over {
            drop(answer.send(Err(self.overloaded(OPERATION, 1).with_key(&request))));
        }
        let mut batches = Vec::new();
        for mut reads in self.by_server(reads) {
            while !reads.is_empty() {
                let rest = reads.split_off(reads.len().min(TOGETHER));
                batches.push(self.read(mem::replace(&mut reads, rest)));
            }
        }
        join_all(batches).await;
    }

    fn by_server(&self, reads: Vec<Read>) -> Vec<Vec<Read>> {
        let Some(lineage) = self.primary.as_lineage() else { return vec![reads] };
        let mut servers: Vec<(usize, Vec<Read>)> = Vec::new();
        for read in reads {
            let server = lineage.server_of(&read.request);
            match servers.iter_mut().find(|(other, _)| *other == server) {
                Some((_, reads)) => reads.push(read),
                None => servers.push((server, vec![read])),
            }
        }
        servers.into_iter().map(|(_, reads)| reads).collect()
    }

    /// Reads keys at once and deals the answers out.
    async fn read(self: &Arc<Self>, reads: Vec<Read>) {
        let (keys, callers): (Vec<Key>, Vec<_>) =
            reads.into_iter().map(|Gathered { request, answer }| (request, answer)).unzip();
        let found = self.get_many_or_fault(&keys, GetOptions::new(), (Duration::MAX, true)).await;
        for (caller, found) in callers.into_iter().zip(found) {
            // One that went away needs no answer.
            drop(caller.send(found));
        }
    }
}
