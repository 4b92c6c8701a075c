//! The policy of a region: one plain struct, with a setter for each field.

use std::{borrow::Cow, time::Duration};

use larder_core::envelope::CodecId;

use crate::{CompressionChoice, EarlyRefresh, FailSafe, Lease, Tiers};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The whole policy under which a region's entries live.
///
/// Start from a preset ([`Strategy::api_response`] and its siblings) or from [`Strategy::new`], change what differs with
/// the setters, which work in `const`, and check the result with [`validate`](Strategy::validate); the cache does so when
/// a region is made.
///
/// A TTL above 100 years (such as [`Duration::MAX`]) means that entries do not expire: no jitter, no early refresh. A
/// TTL of zero means that nothing is stored.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[must_use = "a strategy does nothing until a region uses it"]
pub struct Strategy {
    /// What logs, metrics and tables call it.
    pub name: Cow<'static, str>,
    /// The region of functions that use this strategy and name none themselves; a key path such as `api`.
    pub region: Cow<'static, str>,
    /// How long an entry is fresh. Above zero.
    pub ttl: Duration,
    /// The share of the TTL, 0 to 0.5, by which it is shortened at most, at random: entries that were filled together
    /// do not expire together.
    pub jitter: f64,
    /// How long after the TTL an entry is kept and served stale while it is refreshed. Zero: never served stale.
    pub stale_window: Duration,
    /// When an entry that is still fresh is refreshed.
    pub early_refresh: EarlyRefresh,
    /// What is served when a load fails; `None`: the error.
    pub fail_safe: Option<FailSafe>,
    /// How long a failed load is remembered; `None`: not at all.
    pub negative_ttl: Option<Duration>,
    /// How long an absent value (`None` of an `Option`) is cached; `None`: not at all.
    pub cache_none: Option<Duration>,
    /// Where entries are kept.
    pub tiers: Tiers,
    /// The longest that an entry stays in the near tier; `None`: as long as it lives.
    pub near_ttl: Option<Duration>,
    /// How values are encoded for the remote tier.
    pub codec: CodecId,
    /// How payloads are compressed there.
    pub compression: CompressionChoice,
    /// Payloads of fewer bytes than this are not compressed.
    pub compress_above_bytes: usize,
    /// How long a read waits for the remote tier in all, 50 ms by default.
    pub remote_deadline: Duration,
    /// How long a caller that finds a stale entry waits for a fresh one before it gets the stale one and the load goes
    /// on. `None`: not at all, the stale entry is served at once.
    pub soft_timeout: Option<Duration>,
    /// How long a caller waits for a load at all, 30 s by default.
    pub hard_timeout: Duration,
    /// What a caller does while another process loads the key.
    pub lease: Lease,
    /// The longest that a load may run and hold its fill token, 60 s by default; then it is aborted. At least
    /// [`hard_timeout`](Self::hard_timeout).
    pub max_load: Duration,
    /// How long entries are served while the remote tier is away, from the last moment it was trusted; 60 s by default.
    pub outage_ttl: Duration,
    /// Part of the schema of stored entries: a change makes all stored entries of the region misses.
    pub version: u32,
}

impl Strategy {
    /// A strategy with a TTL and otherwise the plainest policy: 10% jitter, nothing stale, early, negative or
    /// compressed, both tiers, MessagePack, and callers that wait up to 5 s for a load of another process.
    pub const fn new(name: &'static str, ttl: Duration) -> Self {
        Self::in_region(name, name, ttl)
    }

    /// [`new`](Self::new) with a region of another name: the setter cannot be `const`, since it drops the old one.
    pub(crate) const fn in_region(name: &'static str, region: &'static str, ttl: Duration) -> Self {
        Self {
            name: Cow::Borrowed(name),
            region: Cow::Borrowed(region),
            ttl,
            jitter: 0.1,
            stale_window: Duration::ZERO,
            early_refresh: EarlyRefresh::Off,
            fail_safe: None,
            negative_ttl: None,
            cache_none: None,
            tiers: Tiers::Both,
            near_ttl: None,
            codec: CodecId::MSGPACK,
            compression: CompressionChoice::None,
            compress_above_bytes: 1024,
            remote_deadline: Duration::from_millis(50),
            soft_timeout: None,
            hard_timeout: seconds(30),
            lease: Lease::Wait { bound: seconds(5) },
            max_load: seconds(60),
            outage_ttl: seconds(60),
            version: 0,
        }
    }

    /// Sets the [`name`](Self::name).
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the [`region`](Self::region) of functions that name none.
    pub fn region(mut self, region: impl Into<Cow<'static, str>>) -> Self {
        self.region = region.into();
        self
    }

    /// Sets the [`ttl`](Self::ttl).
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the [`jitter`](Self::jitter), 0 to 0.5.
    pub const fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Sets the [`stale_window`](Self::stale_window).
    pub const fn stale_window(mut self, window: Duration) -> Self {
        self.stale_window = window;
        self
    }

    /// Sets the [`early_refresh`](Self::early_refresh).
    pub const fn early_refresh(mut self, early: EarlyRefresh) -> Self {
        self.early_refresh = early;
        self
    }

    /// Sets the [`fail_safe`](Self::fail_safe).
    pub const fn fail_safe(mut self, fail_safe: Option<FailSafe>) -> Self {
        self.fail_safe = fail_safe;
        self
    }

    /// Sets the [`negative_ttl`](Self::negative_ttl).
    pub const fn negative_ttl(mut self, ttl: Option<Duration>) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// Sets [`cache_none`](Self::cache_none).
    pub const fn cache_none(mut self, ttl: Option<Duration>) -> Self {
        self.cache_none = ttl;
        self
    }

    /// Sets the [`tiers`](Self::tiers).
    pub const fn tiers(mut self, tiers: Tiers) -> Self {
        self.tiers = tiers;
        self
    }

    /// Sets the [`near_ttl`](Self::near_ttl).
    pub const fn near_ttl(mut self, cap: Option<Duration>) -> Self {
        self.near_ttl = cap;
        self
    }

    /// Sets the [`codec`](Self::codec).
    pub const fn codec(mut self, codec: CodecId) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the [`compression`](Self::compression).
    pub const fn compression(mut self, compression: CompressionChoice) -> Self {
        self.compression = compression;
        self
    }

    /// Sets [`compress_above_bytes`](Self::compress_above_bytes).
    pub const fn compress_above_bytes(mut self, bytes: usize) -> Self {
        self.compress_above_bytes = bytes;
        self
    }

    /// Sets the [`remote_deadline`](Self::remote_deadline).
    pub const fn remote_deadline(mut self, deadline: Duration) -> Self {
        self.remote_deadline = deadline;
        self
    }

    /// Sets the [`soft_timeout`](Self::soft_timeout).
    pub const fn soft_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.soft_timeout = timeout;
        self
    }

    /// Sets the [`hard_timeout`](Self::hard_timeout).
    pub const fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = timeout;
        self
    }

    /// Sets the [`lease`](Self::lease).
    pub const fn lease(mut self, lease: Lease) -> Self {
        self.lease = lease;
        self
    }

    /// Sets [`max_load`](Self::max_load).
    pub const fn max_load(mut self, longest: Duration) -> Self {
        self.max_load = longest;
        self
    }

    /// Sets the [`outage_ttl`](Self::outage_ttl).
    pub const fn outage_ttl(mut self, ttl: Duration) -> Self {
        self.outage_ttl = ttl;
        self
    }

    /// Sets the [`version`](Self::version).
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }
}

/// [`Strategy::new`] with the name `default` and a TTL of 5 minutes.
impl Default for Strategy {
    fn default() -> Self {
        Self::new("default", seconds(300))
    }
}
