//! A backend in this process, which behaves as a Redis server with one database would.
//!
//! **Deadlines are exact.** They are kept with the values and compared with the injected clock at every read; nothing
//! expires early, and nothing is served late, however long ago the backend was last used.
//!
//! **Changes are atomic.** Everything that reads and then writes a key does it under that key's lock (one of a fixed
//! number, by hash), so that conditions, counters, locks and comparisons hold among threads. Reads take no such lock.
//!
//! **The bound holds for bytes**: of values, keys and a constant for each entry. At the bound the least recently used
//! entries give way. A policy that may refuse a newcomer for the sake of frequent keys would have the better hit ratio,
//! but a lock, a counter or a fill token that was just written must be there. As on a Redis server with
//! `allkeys-lru`, any entry may give way, locks and counters too: give the backend room. Stored values are copied
//! once, since a slice of a large buffer would keep all of it alive behind the bound's back.
//!
//! **Memory comes back** without a thread of its own: every few hundred operations the caller's thread removes what has
//! expired, found by deadline, and settles the evictions. An application that goes quiet can call
//! [`MemoryBackend::upkeep`] from a timer.

mod builder;
mod powers;
mod store;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
pub use builder::MemoryBackendBuilder;
use larder_core::{
    Atomic, Backend, Bytes, Clock, Condition, Counter, Each, Error, ErrorKind, Expiry, Found, GetOptions, Inspect, Key,
    Lock, Remaining, Result, Scan, SetItem, SetOptions, SetOutcome, SystemClock, Tick, Ttl, check_size, ttl_millis,
};

use self::{
    builder::{DEFAULT_BYTES, DEFAULT_VALUE_BYTES},
    store::{Change, Slot, Store, weight_of},
};

/// A bounded store of bytes in this process.
///
/// The futures of its methods complete at the first poll; dropping one before that does nothing, and afterwards there
/// is nothing left to drop. Only a [scan](Scan::scan) comes back in several polls.
#[derive(Debug)]
pub struct MemoryBackend {
    store: Store,
    max_bytes: u64,
    max_value_bytes: usize,
}

impl MemoryBackend {
    /// A backend of 64 MiB, for values of up to 8 MiB, by the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::assemble(DEFAULT_BYTES, DEFAULT_VALUE_BYTES, Arc::new(SystemClock::new()))
    }

    /// A backend with other settings.
    pub fn builder() -> MemoryBackendBuilder {
        MemoryBackendBuilder::new()
    }

    fn assemble(max_bytes: u64, max_value_bytes: usize, clock: Arc<dyn Clock>) -> Self {
        Self { store: Store::new(max_bytes, clock), max_bytes, max_value_bytes }
    }

    /// Removes everything that has expired, and settles evictions; answers how many entries had expired. Done by
    /// itself every few hundred operations. O(expired x log entries).
    pub fn upkeep(&self) -> u64 {
        self.store.upkeep(usize::MAX)
    }

    /// The number of entries, after an [`upkeep`](Self::upkeep).
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.upkeep();
        self.store.entries()
    }

    /// The bytes of keys, values and a constant for each entry, after an [`upkeep`](Self::upkeep).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.upkeep();
        self.store.bytes()
    }

    /// Removes every entry.
    pub fn clear(&self) {
        self.store.clear();
    }

    fn check_value(&self, operation: &'static str, key: &Key, value: &Bytes) -> Result<()> {
        check_size(operation, key, value.len(), self.max_value_bytes)?;
        let weight = weight_of(key, value);
        if weight > self.max_bytes {
            let message = format!("the entry takes {weight} bytes, `max_bytes` is {}; raise it", self.max_bytes);
            return Err(Error::new(ErrorKind::TooLarge, operation, message).with_key(key));
        }
        Ok(())
    }

    fn set_one(&self, item: &SetItem) -> Result<SetOutcome> {
        self.check_value("set_many", &item.key, &item.value)?;
        let value = Bytes::copy_from_slice(&item.value);
        self.store.update(&item.key, |old, now| {
            let holds = match item.options.condition {
                Condition::Always => true,
                Condition::IfAbsent => old.is_none(),
                Condition::IfPresent => old.is_some(),
                _ => return (Change::None, Err(unknown("set_many", "condition"))),
            };
            if holds { store_value("set_many", value, item.options, old, now) } else { rejected() }
        })
    }

    fn expire_one(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let deadline: &dyn Fn(Tick) -> Option<Tick> = match expiry {
            Expiry::After(duration) => &move |now| after(duration, now),
            Expiry::At(time) => {
                let remaining = time.remaining(self.store.clock().wall());
                &move |now| after(remaining, now)
            }
            Expiry::Never => &|_| Some(Tick::FOREVER),
            _ => return Err(unknown("expire_many", "expiry")),
        };
        Ok(self.store.update(key, |old, now| match (old, deadline(now)) {
            (None, _) => (Change::None, false),
            (Some(_), None) => (Change::Remove, true),
            (Some(slot), Some(deadline)) => (Change::Put(Slot::new(slot.value.clone(), deadline)), true),
        }))
    }

    fn remaining(&self, slot: &Slot) -> Remaining {
        if slot.deadline == Tick::FOREVER {
            return Remaining::Forever;
        }
        let left = slot.deadline.since(self.store.clock().now_precise());
        // In whole milliseconds, and never zero for what was found alive.
        Remaining::For(Duration::from_millis(ttl_millis(left).unwrap_or(u64::MAX).max(1)))
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

/// The deadline of what lives for `duration` from now; `None` if it is not to live at all.
fn after(duration: Duration, now: Tick) -> Option<Tick> {
    match ttl_millis(duration) {
        None => Some(Tick::FOREVER),
        Some(0) => None,
        Some(millis) => Some(now + Duration::from_millis(millis)),
    }
}

fn store_value(
    operation: &'static str,
    value: Bytes,
    options: SetOptions,
    old: Option<&Slot>,
    now: Tick,
) -> (Change, Result<SetOutcome>) {
    let deadline = match options.ttl {
        Ttl::Forever => Some(Tick::FOREVER),
        Ttl::For(duration) => after(duration, now),
        Ttl::Keep => Some(old.map_or(Tick::FOREVER, |slot| slot.deadline)),
        _ => return (Change::None, Err(unknown(operation, "ttl"))),
    };
    let change = deadline.map_or(Change::Remove, |deadline| Change::Put(Slot::new(value, deadline)));
    (change, Ok(SetOutcome::Stored))
}

fn rejected() -> (Change, Result<SetOutcome>) {
    (Change::None, Ok(SetOutcome::Rejected))
}

/// An option of a newer core than this backend was written for.
fn unknown(operation: &'static str, field: &'static str) -> Error {
    let message = format!("`{field}` has a form that the memory backend does not know");
    Error::new(ErrorKind::Unsupported, operation, message)
}

#[async_trait]
impl Backend for MemoryBackend {
    fn name(&self) -> &str {
        "memory"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        let read = |key| {
            let slot = self.store.read(key)?;
            let remaining = options.with_ttl.then(|| self.remaining(&slot));
            Some(Found::new(slot.value.clone(), remaining))
        };
        keys.iter().map(|key| Ok(read(key))).collect()
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        items.iter().map(|item| self.set_one(item)).collect()
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        let delete = |key| self.store.update(key, |old, _| (Change::Remove, old.is_some()));
        keys.iter().map(|key| Ok(delete(key))).collect()
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        keys.iter().map(|key| Ok(self.store.read(key).map(|slot| self.remaining(&slot)))).collect()
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        keys.iter().map(|key| self.expire_one(key, expiry)).collect()
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

    fn as_inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }
}
