//! The trait behind which Redis, memory and decorators stand, and its optional powers.
//!
//! Batches come first: [`Backend`] has only batch methods, so that a decorator implements each thing once;
//! [`BackendExt`](crate::BackendExt) adds the single-key conveniences. Answers are in the order of the input, with an
//! error per key: one refused value does not hide the others.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{
    Announcement, Bus, Error, Expiry, Found, GetOptions, Inspect, Key, Pattern, Remaining, Result, SetItem, SetOptions,
    SetOutcome, TrackingEvent,
};

/// One answer for each key of the input, in its order.
pub type Each<T> = Vec<Result<T>>;

/// A store of bytes under keys.
///
/// Every method may be called at the same time from many tasks. A dropped future leaves the backend usable; a write
/// whose future is dropped may or may not have happened. Larder's read path puts its own deadline around each call;
/// implementations have one too, so that none hangs for ever.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// A short name for logs and metrics, such as `"redis"`.
    fn name(&self) -> &str;

    /// Reads values; an absent key is `Ok(None)`. The same key may stand in the input twice.
    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>>;

    /// Writes values. A condition that does not hold is [`SetOutcome::Rejected`], not an error.
    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome>;

    /// Removes keys; answers whether each was there.
    async fn delete_many(&self, keys: &[Key]) -> Each<bool>;

    /// How long each key has left; `Ok(None)` where it is absent.
    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>>;

    /// Changes how long a key lives, without its value; answers whether it was there.
    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool>;

    /// Asks the store for a sign of life.
    async fn ping(&self) -> Result<()>;

    /// Listing keys by pattern.
    fn as_scan(&self) -> Option<&dyn Scan> {
        None
    }

    /// Compare-and-set and compare-and-delete.
    fn as_atomic(&self) -> Option<&dyn Atomic> {
        None
    }

    /// Integer counters.
    fn as_counter(&self) -> Option<&dyn Counter> {
        None
    }

    /// Locks with a token and a lease.
    fn as_lock(&self) -> Option<&dyn Lock> {
        None
    }

    /// The bus that reaches the other processes on this store.
    fn as_bus(&self) -> Option<&dyn BusSource> {
        None
    }

    /// Which server answers, and what time it has.
    fn as_lineage(&self) -> Option<&dyn Lineage> {
        None
    }

    /// Word of every change of keys, by whomever.
    fn as_tracking(&self) -> Option<&dyn Tracking> {
        None
    }

    /// Figures about the store itself.
    fn as_inspect(&self) -> Option<&dyn Inspect> {
        None
    }
}

/// Listing keys by pattern.
#[async_trait]
pub trait Scan: Send + Sync {
    /// Keys that match, in pages of about `page` keys (a hint, at least 1). A key that is there from start to end is
    /// listed at least once; it may be listed twice; keys that come or go meanwhile may be missed. O(size of the
    /// store), without blocking it. Dropping the stream ends the scan.
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>>;
}

/// What a stored value must be for a conditional change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expected {
    /// The stored value must begin with these bytes.
    pub prefix: Bytes,
    /// The stored value must have this length, where one is given.
    pub length: Option<usize>,
}

impl Expected {
    /// The value begins with these bytes: how a fill token is compared, which stands at an entry's front.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self { prefix: prefix.into(), length: None }
    }

    /// The value is exactly this.
    #[must_use]
    pub fn exactly(value: impl Into<Bytes>) -> Self {
        let prefix = value.into();
        Self { length: Some(prefix.len()), prefix }
    }

    /// The value begins so and has this length.
    #[must_use]
    pub fn with_length(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// Whether a stored value is as expected.
    #[must_use]
    pub fn holds(&self, value: &[u8]) -> bool {
        value.starts_with(&self.prefix) && self.length.is_none_or(|length| length == value.len())
    }
}

/// Changes that depend on what is stored, each in one atomic step.
#[async_trait]
pub trait Atomic: Send + Sync {
    /// Stores `value` if the key is absent, and answers what stood there before: `None` means that `value` is now
    /// stored. This is how a fill token is placed (`SET NX GET PX`).
    ///
    /// # Errors
    /// [`KindMismatch`](crate::ErrorKind::KindMismatch) if the key holds something other than a string of bytes.
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>>;

    /// Stores `value` if the key holds what is expected; an absent key never does. Only the TTL of the options counts.
    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome>;

    /// Removes the key if it holds what is expected; answers whether it did.
    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool>;
}

/// Integer counters, in the range of `i64`.
#[async_trait]
pub trait Counter: Send + Sync {
    /// Adds `amount` (which may be negative) and answers the new count. An absent counter starts at 0 and gets `ttl`;
    /// one that is there keeps its life. Never retried: after a time-out the outcome is unknown.
    ///
    /// # Errors
    /// [`Overflow`](crate::ErrorKind::Overflow) beyond `i64`, [`KindMismatch`](crate::ErrorKind::KindMismatch) on a value
    /// that is no integer; both leave it unchanged.
    async fn increment(&self, key: &Key, amount: i64, ttl: Option<Duration>) -> Result<i64>;

    /// The count, `None` if there is no such counter.
    ///
    /// # Errors
    /// [`KindMismatch`](crate::ErrorKind::KindMismatch) on a value that is no integer.
    async fn count(&self, key: &Key) -> Result<Option<i64>>;
}

/// Locks: a key with a random token that expires.
#[async_trait]
pub trait Lock: Send + Sync {
    /// Takes the lock for `lease` if nobody holds it; `token` must be unique to this attempt. Taking it again with
    /// the same token succeeds, so that an attempt whose answer was lost can be asked for again.
    async fn acquire(&self, key: &Key, token: &str, lease: Duration) -> Result<bool>;

    /// Extends the lease if `token` still holds the lock.
    async fn extend(&self, key: &Key, token: &str, lease: Duration) -> Result<bool>;

    /// Gives the lock back if `token` still holds it.
    async fn release(&self, key: &Key, token: &str) -> Result<bool>;
}

/// A store that can carry messages between its clients.
#[async_trait]
pub trait BusSource: Send + Sync {
    /// Opens a bus on a channel; every process that uses the same channel hears the others.
    async fn open_bus(&self, channel: &str) -> Result<Box<dyn Bus>>;

    /// Removes keys and tells the channel of it, in one step for all keys that lie together: whoever crashes in between
    /// leaves no key removed that nobody was told of. Answers for each key whether it was there. Where keys do not
    /// lie together (those of a cluster seldom do), or are many, there are several steps: `message` is asked for each of them,
    /// with its keys, and once more if a step has to be made up of others, since it could not be taken. Without keys nothing is
    /// sent. Dropping the future leaves open which of them were removed.
    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool>;
}

/// What a store must not answer before it has proved to be the one that it was: set once for each namespace.
#[derive(Clone)]
pub struct Guard {
    /// Where the run of the server is recorded. Where there are several servers, each has a record of its own, whose key
    /// begins with this one.
    pub record: Key,
    /// Removed when a server is not the one that was recorded: the marker that every entry of the namespace carries.
    pub generation: Key,
    /// Called after that, and before anything is read from the new connection; also where another process has seen to
    /// the removal, but this one knew the server that was there before. Not at the first start of a namespace. May be called
    /// more often than something changed. Runs within the runtime's task that opens the connection, and holds up whatever
    /// waits for it: it must be short, and not wait for the store.
    pub changed: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("record", &self.record).finish_non_exhaustive()
    }
}

/// A store whose server may be replaced, or come back from an old dump, and has a clock of its own.
pub trait Lineage: Send + Sync {
    /// Guards a namespace, for as long as the store lives: before anything is read or written over a connection, the run of
    /// its server is compared with the recorded one; connections that are open already are compared or replaced before they
    /// carry anything else. Where that fails, calls about keys fail. Does not touch the network. To be called once for each
    /// cache, before its first call.
    fn guard(&self, guard: Guard);

    /// What the clock of the server that holds this key says now, as far as it was measured: `None` before the first
    /// connection, and while what was measured is not to be believed, as after the machine slept. Does not touch the network.
    fn server_time(&self, key: &Key) -> Option<crate::UnixMillis>;

    /// Whether one server holds all keys: they share its clock, and a read of several keys is one step, in which no key keeps
    /// the others waiting. Does not touch the network.
    fn has_one_server(&self) -> bool;
}

/// A store that tells of changes by whomever: writers that do not know Larder, expiry, eviction, an emptied database.
pub trait Tracking: Send + Sync {
    /// What changes under keys that begin with `prefix`, from the stream's first poll on. Keys are told of after they
    /// changed; several changes of one key may be told as one. Writes of values through this backend are not told of while
    /// they are what is stored, so that whoever wrote them keeps what it knows; its own removals are told. The stream
    /// reconnects by itself and does not end; dropping it ends the tracking.
    fn track(&self, prefix: &str) -> BoxStream<'static, TrackingEvent>;
}

impl dyn Backend {
    /// The scan power, or an error that says that this backend has none.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    pub fn scan_power(&self, operation: &'static str) -> Result<&dyn Scan> {
        self.as_scan().ok_or_else(|| Error::unsupported(operation, self.name()))
    }

    /// The counter power, or an error that says that this backend has none.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    pub fn counter_power(&self, operation: &'static str) -> Result<&dyn Counter> {
        self.as_counter().ok_or_else(|| Error::unsupported(operation, self.name()))
    }
}
