//! What the secondary took in, on its way to a primary that is back: only if that was asked for
//! ([`FallbackBuilder::copy_back`](crate::FallbackBuilder::copy_back)).
//!
//! It happens between the replay of the journal and the closing of the breaker. Until the breaker is closed every write and
//! every removal of a caller goes to the journal, and the breaker closes only when a further round has replayed what came
//! meanwhile: so a removal that falls together with the copy is carried out behind it. A copy whose outcome is unknown is
//! remembered for removal, as any write is.
//!
//! A value may be copied from when the secondary has taken it until its key is named in the journal again, or given up in the
//! secondary. That is noted here, key by key, since the secondary alone cannot tell: of a removal whose caller went away
//! half-way only the journal knows.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use larder_core::{GetOptions, Key, SetItem, SetOptions, SetOutcome};

use crate::{journal::Bounds, log, recovery::BATCH, shared::Shared, stats::add};

/// The keys whose values may be copied; none where that was not asked for.
#[derive(Debug)]
pub(crate) struct Kept {
    bounds: Bounds,
    /// With their lengths, at least 1, and 0 until the secondary has taken the value.
    values: HashMap<Key, usize>,
    bytes: usize,
}

impl Kept {
    pub(crate) fn new(bounds: Option<Bounds>) -> Self {
        Self { bounds: bounds.unwrap_or(Bounds { keys: 0, bytes: 0 }), values: HashMap::new(), bytes: 0 }
    }

    /// The secondary is about to take a value. A value that finds no room is not copied.
    fn begin(&mut self, key: &Key) {
        self.forget(key);
        if self.values.len() < self.bounds.keys {
            self.values.insert(key.clone(), 0);
        }
    }

    /// It has taken it; if the key was forgotten meanwhile it stays so.
    fn finish(&mut self, key: &Key, length: usize) {
        let length = length.max(1);
        if let Entry::Occupied(mut value) = self.values.entry(key.clone()) {
            let others = self.bytes - *value.get();
            if others + length > self.bounds.bytes {
                value.remove();
                self.bytes = others;
            } else {
                value.insert(length);
                self.bytes = others + length;
            }
        }
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        self.bytes -= self.values.remove(key).unwrap_or(0);
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.bytes = 0;
    }

    fn holds(&self, key: &Key) -> bool {
        self.values.get(key).is_some_and(|length| *length > 0)
    }

    fn keys(&self) -> Vec<Key> {
        self.values.iter().filter(|(_, length)| **length > 0).map(|(key, _)| key.clone()).collect()
    }
}

impl Shared {
    /// Notes that the secondary takes a value, where that may have to be copied. `take` stores it in the epoch.
    pub(crate) async fn keeping(
        self: &Arc<Self>,
        item: &SetItem,
        epoch: u64,
        take: impl Future<Output = larder_core::Result<SetOutcome>>,
    ) -> larder_core::Result<SetOutcome> {
        if self.settings.copy_back.is_none() {
            return take.await;
        }
        let change = |act: &dyn Fn(&mut Kept)| {
            self.change(None, |gate| {
                if gate.epoch == epoch {
                    act(&mut gate.kept);
                }
            });
        };
        change(&|kept| kept.begin(&item.key));
        let outcome = take.await;
        match outcome {
            Ok(outcome) if outcome.is_stored() => change(&|kept| kept.finish(&item.key, item.value.len())),
            _ => change(&|kept| kept.forget(&item.key)),
        }
        outcome
    }

    /// Something else than a value stands under a key in the secondary, or nothing.
    pub(crate) fn not_kept(self: &Arc<Self>, key: &Key) {
        if self.settings.copy_back.is_some() {
            self.change(None, |gate| gate.kept.forget(key));
        }
    }

    /// Copies what may be copied, where the primary holds nothing, for as long as one call may take. What is left then is
    /// dropped.
    pub(crate) async fn copy_back(self: &Arc<Self>) {
        if self.settings.copy_back.is_none() {
            return;
        }
        let (keys, epoch) = self.change(None, |gate| (gate.kept.keys(), gate.epoch));
        let until = self.timer.now_precise() + self.settings.deadline;
        let mut copied = 0;
        for batch in keys.chunks(BATCH) {
            let left = until.since(self.timer.now_precise());
            if left.is_zero() {
                break;
            }
            let mut items = self.found_locally(batch, epoch).await;
            // What was removed meanwhile, or made room for a token, may not be what was found.
            self.change(None, |gate| {
                items.retain(|item| gate.kept.holds(&item.key) && !gate.journal.holds(&item.key));
            });
            let call = self.primary.set_many(&items);
            let Ok(answers) = self.timely("set_many", left, call).await else {
                for item in &items {
                    self.remember(&item.key);
                }
                break;
            };
            for (item, answer) in items.iter().zip(answers) {
                match answer {
                    Ok(outcome) => copied += u64::from(outcome.is_stored()),
                    Err(_) => {
                        self.remember(&item.key);
                    }
                }
            }
        }
        add(&self.counters.copied, copied);
        if copied > 0 {
            log::copied(self.primary.name(), copied, keys.len());
        }
    }

    async fn found_locally(&self, keys: &[Key], epoch: u64) -> Vec<SetItem> {
        let local: Vec<Key> = keys.iter().map(|key| self.local_key(epoch, key)).collect();
        let found = self.secondary.get_many(&local, GetOptions::new().with_ttl()).await;
        let items = keys.iter().zip(found).filter_map(|(key, found)| {
            let found = found.ok()??;
            // Its life in the secondary ends with the outage's.
            let life = found.remaining?.duration()?;
            (!life.is_zero())
                .then(|| SetItem::new(key.clone(), found.value, SetOptions::new().ttl(life).only_if_absent()))
        });
        items.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(keys: usize, bytes: usize) -> Kept {
        Kept::new(Some(Bounds { keys, bytes }))
    }

    fn take(kept: &mut Kept, name: &str, length: usize) {
        kept.begin(&Key::new(name));
        kept.finish(&Key::new(name), length);
    }

    #[test]
    fn a_key_that_is_named_between_the_beginning_and_the_end_of_a_write_is_not_kept() {
        let mut kept = kept(10, 100);
        kept.begin(&Key::new("a"));
        kept.forget(&Key::new("a"));
        kept.finish(&Key::new("a"), 1);
        assert_eq!((kept.keys(), kept.bytes), (Vec::new(), 0));
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let mut kept = kept(2, 10);
        take(&mut kept, "a", 4);
        take(&mut kept, "a", 6);
        take(&mut kept, "b", 5);
        assert_eq!(kept.bytes, 6);
        take(&mut kept, "c", 4);
        take(&mut kept, "d", 0);
        let mut keys = kept.keys();
        keys.sort();
        assert_eq!(keys, [Key::new("a"), Key::new("c")]);
    }
}
