//! Scans, comparisons, counters, locks and figures of the memory backend.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use larder_core::{
    Atomic, Bytes, Counter, Error, ErrorKind, Expected, Inspect, Key, Lock, Pattern, Result, Scan, ServerFigures,
    SetOptions, SetOutcome, Tick,
};
use moka::sync::Iter;

use super::{
    MemoryBackend, after, rejected,
    store::{Change, Slot},
    store_value,
};

/// Entries that a scan looks at before it lets other tasks run.
const LOOKS_PER_POLL: usize = 2048;

impl Scan for MemoryBackend {
    /// As the trait says, and no key twice. The keys are read a sixty-fourth of the map at a time.
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>> {
        let mut pages = Pages { backend: self, pattern, page: page.max(1), entries: Some(self.store.iter()) };
        stream::poll_fn(move |context| pages.poll(context)).boxed()
    }
}

struct Pages<'a> {
    backend: &'a MemoryBackend,
    pattern: &'a Pattern,
    page: usize,
    entries: Option<Iter<'a, Key, Arc<Slot>>>,
}

impl Pages<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Result<Vec<Key>>>> {
        let Some(entries) = &mut self.entries else { return Poll::Ready(None) };
        let now = self.backend.store.clock().now_precise();
        let prefix = self.pattern.literal_prefix();
        let mut keys = Vec::new();
        for _ in 0..LOOKS_PER_POLL {
            let Some((key, slot)) = entries.next() else {
                self.entries = None;
                return Poll::Ready((!keys.is_empty()).then_some(Ok(keys)));
            };
            let text = key.as_str();
            if text.starts_with(prefix) && slot.is_live(now) && self.pattern.matches(text) {
                keys.push(Key::clone(&key));
                if keys.len() == self.page {
                    break;
                }
            }
        }
        if keys.is_empty() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(keys)))
    }
}

#[async_trait]
impl Atomic for MemoryBackend {
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>> {
        self.check_value("get_or_set", key, &value)?;
        check_lease("get_or_set", "ttl", key, ttl)?;
        let value = Bytes::copy_from_slice(&value);
        Ok(self.store.update(key, |old, now| match old {
            Some(slot) => (Change::None, Some(slot.value.clone())),
            None => (put_for(value, ttl, now), None),
        }))
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        self.check_value("compare_and_set", key, &value)?;
        let value = Bytes::copy_from_slice(&value);
        self.store.update(key, |old, now| {
            if old.is_some_and(|slot| expected.holds(&slot.value)) {
                store_value("compare_and_set", value, options, old, now)
            } else {
                rejected()
            }
        })
    }

    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool> {
        Ok(self.remove_where(key, |value| expected.holds(value)))
    }
}

#[async_trait]
impl Counter for MemoryBackend {
    async fn increment(&self, key: &Key, amount: i64, ttl: Option<Duration>) -> Result<i64> {
        self.store.update(key, |old, now| {
            let count = match old.map(|slot| integer(&slot.value)) {
                None => 0,
                Some(Some(count)) => count,
                Some(None) => return (Change::None, Err(no_integer("increment", key))),
            };
            let Some(sum) = count.checked_add(amount) else {
                let message = format!("{count} and {amount} leave the range of a signed 64-bit integer");
                return (Change::None, Err(Error::new(ErrorKind::Overflow, "increment", message).with_key(key)));
            };
            let deadline = match (old, ttl) {
                (Some(slot), _) => Some(slot.deadline),
                (None, Some(ttl)) => after(ttl, now),
                (None, None) => Some(Tick::FOREVER),
            };
            let text = Bytes::copy_from_slice(itoa::Buffer::new().format(sum).as_bytes());
            (deadline.map_or(Change::None, |deadline| Change::Put(Slot::new(text, deadline))), Ok(sum))
        })
    }

    async fn count(&self, key: &Key) -> Result<Option<i64>> {
        match self.store.read(key) {
            None => Ok(None),
            Some(slot) => integer(&slot.value).map(Some).ok_or_else(|| no_integer("count", key)),
        }
    }
}

/// A counter is its decimal text, in the one form that Redis accepts: no sign but a minus, no leading zeros, no spaces.
fn integer(value: &[u8]) -> Option<i64> {
    let number = std::str::from_utf8(value).ok()?.parse::<i64>().ok()?;
    (itoa::Buffer::new().format(number).as_bytes() == value).then_some(number)
}

fn no_integer(operation: &'static str, key: &Key) -> Error {
    let message = "the value is not the decimal text of a signed 64-bit integer, so it is no counter";
    Error::new(ErrorKind::KindMismatch, operation, message).with_key(key)
}

#[async_trait]
impl Lock for MemoryBackend {
    /// Taking a held lock again with its token also begins the lease anew, so that the holder's idea of it is right.
    async fn acquire(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        check_lease("acquire", "lease", key, lease)?;
        Ok(self.hold(key, token, lease, true))
    }

    async fn extend(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        check_lease("extend", "lease", key, lease)?;
        Ok(self.hold(key, token, lease, false))
    }

    async fn release(&self, key: &Key, token: &str) -> Result<bool> {
        Ok(self.remove_where(key, |value| value == token.as_bytes()))
    }
}

impl MemoryBackend {
    fn hold(&self, key: &Key, token: &str, lease: Duration, may_take: bool) -> bool {
        self.store.update(key, |old, now| {
            let granted = old.map_or(may_take, |slot| slot.value == token.as_bytes());
            let change =
                if granted { put_for(Bytes::copy_from_slice(token.as_bytes()), lease, now) } else { Change::None };
            (change, granted)
        })
    }

    fn remove_where(&self, key: &Key, which: impl FnOnce(&[u8]) -> bool) -> bool {
        self.store.update(key, |old, _| {
            let meant = old.is_some_and(|slot| which(&slot.value));
            (if meant { Change::Remove } else { Change::None }, meant)
        })
    }
}

fn put_for(value: Bytes, ttl: Duration, now: Tick) -> Change {
    after(ttl, now).map_or(Change::None, |deadline| Change::Put(Slot::new(value, deadline)))
}

fn check_lease(operation: &'static str, field: &'static str, key: &Key, lease: Duration) -> Result<()> {
    if lease.is_zero() {
        let message = format!("`{field}` is zero; give the time after which it may be taken over");
        return Err(Error::new(ErrorKind::InvalidArgument, operation, message).with_key(key));
    }
    Ok(())
}

#[async_trait]
impl Inspect for MemoryBackend {
    async fn server_figures(&self) -> Result<ServerFigures> {
        self.upkeep();
        let mut figures = ServerFigures::default();
        figures.keys = Some(self.store.entries());
        figures.used_bytes = Some(self.store.bytes());
        figures.max_bytes = Some(self.max_bytes);
        figures.eviction_policy = Some("allkeys-lru".to_owned());
        figures.evicted = Some(self.store.evicted());
        figures.expired = Some(self.store.expired.load(Ordering::Relaxed));
        figures.hits = Some(self.store.hits.load(Ordering::Relaxed));
        figures.misses = Some(self.store.misses.load(Ordering::Relaxed));
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_as_strictly_as_redis_does_it() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("+1", None),
            ("01", None),
            ("-0", None),
            (" 1", None),
            ("1\n", None),
            ("", None),
            ("1.0", None),
        ] {
            assert_eq!(integer(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(integer(b"\xff"), None);
    }
}
