//! The secondary: keys with their epoch, lives that end with the outage.

use std::{sync::Arc, time::Duration};

use futures_util::{TryStreamExt, future::BoxFuture};
use larder_core::{Backend, Each, Error, ErrorKind, Expiry, Key, Pattern, Result, SCAN_PAGE, SetItem, SetOutcome, Ttl};

use crate::{
    call::{Attempt, Attempts},
    shared::Shared,
    stats::count,
    terms::Item,
};

impl Shared {
    /// The key in the secondary. A `%` followed by this never comes from a user's key.
    pub(crate) fn local_key(&self, epoch: u64, key: &Key) -> Key {
        Key::from_canonical(format!("%f{:x}:{epoch}:{}", self.instance, key.as_str()))
    }

    /// A life, bounded by the outage's.
    pub(crate) fn bounded(&self, ttl: Duration) -> Duration {
        ttl.min(self.settings.outage_ttl)
    }

    /// Asks the secondary about the keys that the primary did not answer for. `absent` answers for those that are not away,
    /// of which the secondary knows nothing.
    pub(crate) async fn fill_in<I: Item, T: Send>(
        &self,
        items: &[I],
        attempts: Attempts<T>,
        absent: impl Fn(&I, Option<Error>) -> Result<T> + Send,
        call: impl for<'c> FnOnce(&'c dyn Backend, &'c [Key]) -> BoxFuture<'c, Each<T>> + Send,
    ) -> Each<T> {
        let attempts = match attempts {
            Attempts::Answered(answers) => return answers,
            Attempts::Mixed(attempts) => attempts,
        };
        let missing: Vec<&Key> = items
            .iter()
            .zip(&attempts)
            .filter(|(_, attempt)| matches!(attempt, Attempt::Away { .. }))
            .map(|(item, _)| item.key())
            .collect();
        let (away, epoch) = self.locate(missing.iter().copied());
        let here = missing.iter().zip(&away).filter(|(_, away)| **away);
        let keys: Vec<Key> = here.map(|(key, _)| self.local_key(epoch, key)).collect();
        let answers = if keys.is_empty() { Vec::new() } else { call(&*self.secondary, &keys).await };
        let (mut answers, mut away) = (answers.into_iter(), away.into_iter());
        let (mut all, mut hides) = (Vec::with_capacity(items.len()), false);
        for (item, attempt) in items.iter().zip(attempts) {
            all.push(match attempt {
                Attempt::Answer(answer) => answer,
                Attempt::Away { error, .. } => {
                    let was_asked = error.is_some();
                    let answer = if away.next() == Some(true) {
                        answers.next().unwrap_or_else(|| Err(away_error("fallback", item.key())))
                    } else {
                        absent(item, error)
                    };
                    hides |= was_asked && answer.is_ok();
                    answer
                }
            });
        }
        if hides {
            count(&self.counters.hidden);
        }
        all
    }

    /// Stores in the secondary what the primary did not take.
    pub(crate) async fn store_local(self: &Arc<Self>, item: &SetItem, epoch: u64) -> Result<SetOutcome> {
        let key = self.local_key(epoch, &item.key);
        let life = match item.options.ttl {
            Ttl::For(life) => self.bounded(life),
            // What is kept has been bounded when it was stored.
            Ttl::Keep => match self.secondary.ttl_many(std::slice::from_ref(&key)).await.pop() {
                Some(Ok(Some(left))) => self.bounded(left.duration().unwrap_or(Duration::MAX)),
                _ => self.settings.outage_ttl,
            },
            _ => self.settings.outage_ttl,
        };
        let local = SetItem::new(key, item.value.clone(), item.options.ttl(life));
        let take = async {
            let answer = self.secondary.set_many(std::slice::from_ref(&local)).await.pop();
            let outcome = answer.unwrap_or_else(|| Err(away_error("set_many", &item.key)))?;
            Ok(if outcome.is_stored() { SetOutcome::StoodIn } else { outcome })
        };
        self.keeping(item, epoch, take).await
    }

    pub(crate) fn bounded_expiry(&self, expiry: Expiry) -> Expiry {
        match expiry {
            Expiry::After(life) => Expiry::After(self.bounded(life)),
            Expiry::At(time) => Expiry::After(self.bounded(time.remaining(self.timer.wall()))),
            _ => Expiry::After(self.settings.outage_ttl),
        }
    }

    /// Gives back the room that earlier epochs take up. What cannot be removed ends with `outage_ttl`.
    pub(crate) async fn purge(self: &Arc<Self>) -> Result<()> {
        let epoch = self.change(None, |gate| {
            gate.unpurged = false;
            gate.epoch
        });
        let Some(scan) = self.secondary.as_scan() else { return Ok(()) };
        let pattern = Pattern::prefix(&format!("%f{:x}:", self.instance));
        let current = format!("%f{:x}:{epoch}:", self.instance);
        let mut pages = scan.scan(&pattern, SCAN_PAGE);
        while let Some(mut keys) = pages.try_next().await? {
            keys.retain(|key| !key.as_str().starts_with(&current));
            for answer in self.secondary.delete_many(&keys).await {
                answer?;
            }
        }
        Ok(())
    }
}

/// The answer to what has no second source.
pub(crate) fn away_error(operation: &'static str, key: &Key) -> Error {
    away(operation).with_key(key)
}

pub(crate) fn away(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "the primary is away, and this has no fallback")
}
