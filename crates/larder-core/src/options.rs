//! Options of reads and writes, and what they answer.

use std::time::Duration;

use bytes::Bytes;

use crate::{Error, ErrorKind, Key, Result};

/// How long a written value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ttl {
    /// Until it is deleted or evicted.
    #[default]
    Forever,
    /// For this long, to the millisecond; anything above zero lives at least one millisecond. Zero means that the
    /// value is not stored and what stood there is removed.
    For(Duration),
    /// As long as the value it replaces had left; forever where there was none.
    Keep,
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self::For(duration)
    }
}

impl From<Option<Duration>> for Ttl {
    fn from(duration: Option<Duration>) -> Self {
        duration.map_or(Self::Forever, Self::For)
    }
}

/// When a write takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Condition {
    /// In any case.
    #[default]
    Always,
    /// Only if the key is absent.
    IfAbsent,
    /// Only if the key is present.
    IfPresent,
}

/// Options of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SetOptions {
    /// How long the value lives.
    pub ttl: Ttl,
    /// When the write takes place.
    pub condition: Condition,
}

impl SetOptions {
    /// Unconditional, without a TTL.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the TTL.
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Keeps what is left of the old value's TTL.
    #[must_use]
    pub fn keep_ttl(mut self) -> Self {
        self.ttl = Ttl::Keep;
        self
    }

    /// Writes only if the key is absent.
    #[must_use]
    pub fn only_if_absent(mut self) -> Self {
        self.condition = Condition::IfAbsent;
        self
    }

    /// Writes only if the key is present.
    #[must_use]
    pub fn only_if_present(mut self) -> Self {
        self.condition = Condition::IfPresent;
        self
    }
}

/// Options of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GetOptions {
    /// Also read how long each value has left, in the same round trip. Costs a remote backend 8 to 15 % of its
    /// throughput.
    pub with_ttl: bool,
    /// A replica may answer, which may not have heard of the latest writes and removals yet. What such a read finds
    /// belongs into no near tier. Backends without replicas take no notice.
    pub prefer_replica: bool,
    /// Each key has a caller of its own, whose read was [combined](crate::Lineage::has_one_server) with the others'.
    pub combined: bool,
}

impl GetOptions {
    /// Values only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a replica answer.
    #[must_use]
    pub fn prefer_replica(mut self) -> Self {
        self.prefer_replica = true;
        self
    }

    /// Says that each key has a caller of its own.
    #[must_use]
    pub fn combined(mut self) -> Self {
        self.combined = true;
        self
    }

    /// Asks for the remaining TTL too.
    #[must_use]
    pub fn with_ttl(mut self) -> Self {
        self.with_ttl = true;
        self
    }
}

/// One write of a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SetItem {
    /// Where to.
    pub key: Key,
    /// What.
    pub value: Bytes,
    /// How.
    pub options: SetOptions,
}

impl SetItem {
    /// One write.
    #[must_use]
    pub fn new(key: Key, value: impl Into<Bytes>, options: SetOptions) -> Self {
        Self { key, value: value.into(), options }
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetOutcome {
    /// The value is stored (or, with a TTL of zero, what stood there is gone).
    Stored,
    /// Stored only by what stands in for a store that is away: in this process, and for a while. The store may hold something
    /// older, and other processes know nothing of it.
    StoodIn,
    /// The condition did not hold; nothing was changed.
    Rejected,
}

impl SetOutcome {
    /// Whether the value was stored, if only by what stands in for a store that is away.
    #[must_use]
    pub fn is_stored(self) -> bool {
        matches!(self, Self::Stored | Self::StoodIn)
    }
}

/// How long a present key has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remaining {
    /// It does not expire.
    Forever,
    /// It expires after this time, to the millisecond.
    For(Duration),
}

impl Remaining {
    /// The duration, where there is one.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Forever => None,
            Self::For(duration) => Some(duration),
        }
    }
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The stored bytes.
    pub value: Bytes,
    /// How long they have left, if [`GetOptions::with_ttl`] asked for it.
    pub remaining: Option<Remaining>,
}

impl Found {
    /// A value and, where it was asked for, what it has left.
    #[must_use]
    pub fn new(value: impl Into<Bytes>, remaining: Option<Remaining>) -> Self {
        Self { value: value.into(), remaining }
    }
}

/// How a key's life is changed without writing its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// Expires after this time from now; zero removes the key.
    After(Duration),
    /// Expires at this wall-clock time of the server, in milliseconds since 1970; a past time removes the key.
    At(crate::UnixMillis),
    /// No longer expires.
    Never,
}

/// The longest TTL that is passed on, 100 years in milliseconds; longer ones mean "for ever".
const LONGEST_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a TTL comes to in whole milliseconds: `None` for "does not expire", `Some(0)` for "remove". A duration above
/// zero is rounded up, and one above 100 years does not expire.
#[must_use]
pub fn ttl_millis(duration: Duration) -> Option<u64> {
    if duration > LONGEST_TTL {
        return None;
    }
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).ok()
}

/// Refuses a value above the limit (bytes) before it is sent.
///
/// # Errors
/// [`ErrorKind::TooLarge`], naming the key, the size and the limit.
pub fn check_size(operation: &'static str, key: &Key, size: usize, limit: usize) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    let message = format!("the value has {size} bytes, `max_value_bytes` is {limit}; raise the limit or store less");
    Err(Error::new(ErrorKind::TooLarge, operation, message).with_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_ttl_is_a_millisecond_and_an_endless_one_does_not_expire() {
        assert_eq!(ttl_millis(Duration::from_nanos(1)), Some(1));
        assert_eq!(ttl_millis(Duration::ZERO), Some(0));
        assert_eq!(ttl_millis(Duration::from_millis(1500)), Some(1500));
        assert_eq!(ttl_millis(Duration::MAX), None);
    }
}
