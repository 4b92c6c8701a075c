//! The contract in its plainest form: one map under one mutex.

mod bus;
mod powers;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use larder_core::{
    Atomic, Backend, BusSource, Clock, Condition, Counter, Each, Expiry, Found, GetOptions, Inspect, Key, Lock,
    Remaining, Result, Scan, SetItem, SetOptions, SetOutcome, Tick, Ttl, ttl_millis,
};
use tokio::sync::broadcast;

/// A backend for tests, without bound and with every power: what others are compared with, and what stands behind a
/// decorator under test. Clones share their entries.
///
/// Its bus reaches the clones in this process. Futures complete at the first poll.
#[derive(Clone)]
pub struct ModelBackend {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    entries: Mutex<BTreeMap<Key, Entry>>,
    channels: Mutex<HashMap<String, broadcast::Sender<Bytes>>>,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    deadline: Tick,
}

impl ModelBackend {
    /// An empty backend that goes by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (entries, channels) = (Mutex::new(BTreeMap::new()), Mutex::new(HashMap::new()));
        Self { shared: Arc::new(Shared { clock, entries, channels }) }
    }

    /// The keys that are there, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.live().keys().cloned().collect()
    }

    /// The entries, without those that have expired.
    fn live(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        let mut entries = self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        entries.retain(|_, entry| entry.deadline > now);
        entries
    }

    fn now(&self) -> Tick {
        self.shared.clock.now_precise()
    }

    fn remaining(&self, entry: &Entry) -> Remaining {
        if entry.deadline == Tick::FOREVER {
            return Remaining::Forever;
        }
        let left = entry.deadline.since(self.now());
        Remaining::For(Duration::from_millis(ttl_millis(left).unwrap_or(u64::MAX)))
    }

    fn deadline(&self, ttl: Duration) -> Tick {
        ttl_millis(ttl).map_or(Tick::FOREVER, |millis| self.now() + Duration::from_millis(millis))
    }

    fn store(&self, entries: &mut BTreeMap<Key, Entry>, key: &Key, value: &Bytes, options: SetOptions) -> SetOutcome {
        let old = entries.get(key);
        let holds = match options.condition {
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
            _ => true,
        };
        if !holds {
            return SetOutcome::Rejected;
        }
        let deadline = match options.ttl {
            Ttl::For(ttl) => self.deadline(ttl),
            Ttl::Keep => old.map_or(Tick::FOREVER, |entry| entry.deadline),
            _ => Tick::FOREVER,
        };
        entries.insert(key.clone(), Entry { value: value.clone(), deadline });
        SetOutcome::Stored
    }
}

impl fmt::Debug for ModelBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelBackend").field("keys", &self.live().len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for ModelBackend {
    fn name(&self) -> &str {
        "model"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        let entries = self.live();
        let found = |entry: &Entry| Found::new(entry.value.clone(), options.with_ttl.then(|| self.remaining(entry)));
        keys.iter().map(|key| Ok(entries.get(key).map(found))).collect()
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        items.iter().map(|item| Ok(self.store(&mut self.live(), &item.key, &item.value, item.options))).collect()
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        let mut entries = self.live();
        keys.iter().map(|key| Ok(entries.remove(key).is_some())).collect()
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        let entries = self.live();
        keys.iter().map(|key| Ok(entries.get(key).map(|entry| self.remaining(entry)))).collect()
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        let deadline = match expiry {
            Expiry::After(ttl) => self.deadline(ttl),
            Expiry::At(time) => self.deadline(time.remaining(self.shared.clock.wall())),
            _ => Tick::FOREVER,
        };
        let mut entries = self.live();
        let expire = |key| entries.get_mut(key).map(|entry| entry.deadline = deadline).is_some();
        keys.iter().map(expire).map(Ok).collect()
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn as_scan(&self) -> Option<&dyn Scan> {
        Some(self)
    }

    fn as_atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn as_counter(&self) -> Option<&dyn Counter> {
        Some(self)
    }

    fn as_lock(&self) -> Option<&dyn Lock> {
        Some(self)
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        Some(self)
    }

    fn as_inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }
}
