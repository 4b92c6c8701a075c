//! Writing.

use std::{fmt, future::IntoFuture, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_codec::AnyCodec;
use larder_core::{Condition, ErrorKind, Result, SetOutcome, Tag, ToKey, Ttl};
use larder_memory::AnyValue;

use super::Place;
use crate::{Cache, Cacheable, engine::Write, stats::Event, value::ValueOps};

/// A write: options, then `.await` for whether the value was stored. A fault of the remote tier is logged and answers
/// `false`; [`Cache::try_set`] tells it.
///
/// When the future is dropped the value may or may not have been stored.
#[must_use = "a write does nothing until it is awaited"]
pub struct Set<'a, K> {
    place: Place<'a>,
    key: K,
    write: Parts,
}

#[derive(Debug)]
struct Parts {
    value: AnyValue,
    ops: &'static ValueOps,
    tags: Vec<Tag>,
    ttl: Option<Ttl>,
    condition: Condition,
    codec: Option<AnyCodec>,
    skip_near: bool,
    skip_remote: bool,
}

impl<'a, K: ToKey> Set<'a, K> {
    pub(crate) fn new(place: Place<'a>, key: K, value: AnyValue, ops: &'static ValueOps) -> Self {
        let write = Parts {
            value,
            ops,
            tags: Vec::new(),
            ttl: None,
            condition: Condition::Always,
            codec: None,
            skip_near: false,
            skip_remote: false,
        };
        Self { place, key, write }
    }

    /// How long the value lives, exactly: no jitter, no stale window. Zero removes what stood there. Without it the
    /// region's strategy counts.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.write.ttl = Some(Ttl::For(ttl));
        self
    }

    /// The value does not expire.
    pub fn forever(mut self) -> Self {
        self.write.ttl = Some(Ttl::Forever);
        self
    }

    /// The value lives as long as the one it replaces had left.
    pub fn keep_ttl(mut self) -> Self {
        self.write.ttl = Some(Ttl::Keep);
        self
    }

    /// Adds a tag, at most [`MAX_TAGS`](larder_core::MAX_TAGS).
    pub fn tag(mut self, tag: impl Into<Tag>) -> Self {
        self.write.tags.push(tag.into());
        self
    }

    /// Writes only if the key is absent.
    pub fn only_if_absent(mut self) -> Self {
        self.write.condition = Condition::IfAbsent;
        self
    }

    /// Writes only if the key is present.
    pub fn only_if_present(mut self) -> Self {
        self.write.condition = Condition::IfPresent;
        self
    }

    /// Encodes the value for the remote tier in another way than the region does.
    pub fn codec(mut self, codec: impl Into<AnyCodec>) -> Self {
        self.write.codec = Some(codec.into());
        self
    }

    /// Does not store it in the near tier.
    pub fn skip_near(mut self) -> Self {
        self.write.skip_near = true;
        self
    }

    /// Does not store it in the remote tier.
    pub fn skip_remote(mut self) -> Self {
        self.write.skip_remote = true;
        self
    }

    fn into_write(self) -> (Place<'a>, Write) {
        let key = self.place.key(&self.key);
        let Parts { value, ops, tags, ttl, condition, codec, skip_near, skip_remote } = self.write;
        (self.place, Write { key, value, ops, tags, ttl, condition, codec, skip_near, skip_remote })
    }
}

async fn run(place: Place<'_>, write: Write) -> Result<SetOutcome> {
    place.cache.engine.write(place.region, write).await
}

impl<'a, K: ToKey> IntoFuture for Set<'a, K> {
    type Output = bool;
    type IntoFuture = BoxFuture<'a, bool>;

    fn into_future(self) -> Self::IntoFuture {
        let (place, write) = self.into_write();
        Box::pin(async move {
            let key = write.key.clone();
            match run(place, write).await {
                Ok(outcome) => outcome.is_stored(),
                Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                    crate::events::refused_value(&key, &error);
                    false
                }
                Err(error) => {
                    place.region.counters.count(Event::RemoteFault);
                    crate::events::degraded("set", &error);
                    false
                }
            }
        })
    }
}

/// [`Set`] that tells a fault: `.await` for `Result<SetOutcome>`.
///
/// While the remote tier is away the answer is [`Unavailable`](ErrorKind::Unavailable), although this process keeps the value for
/// the outage, as [`Set`] says by `true`: other processes know nothing of it.
#[must_use = "a write does nothing until it is awaited"]
pub struct TrySet<'a, K>(Set<'a, K>);

macro_rules! same_options {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*);)*) => {
        impl<'a, K: ToKey> TrySet<'a, K> {
            $(
                $(#[$doc])*
                pub fn $name(self $(, $argument: $type)*) -> Self {
                    Self(self.0.$name($($argument),*))
                }
            )*
        }
    };
}

same_options! {
    /// As [`Set::ttl`].
    ttl(ttl: Duration);
    /// As [`Set::forever`].
    forever();
    /// As [`Set::keep_ttl`].
    keep_ttl();
    /// As [`Set::tag`].
    tag(tag: impl Into<Tag>);
    /// As [`Set::only_if_absent`].
    only_if_absent();
    /// As [`Set::only_if_present`].
    only_if_present();
    /// As [`Set::codec`].
    codec(codec: impl Into<AnyCodec>);
    /// As [`Set::skip_near`].
    skip_near();
    /// As [`Set::skip_remote`].
    skip_remote();
}

impl<'a, K: ToKey> TrySet<'a, K> {
    pub(crate) fn new(set: Set<'a, K>) -> Self {
        Self(set)
    }
}

impl<'a, K: ToKey> IntoFuture for TrySet<'a, K> {
    type Output = Result<SetOutcome>;
    type IntoFuture = BoxFuture<'a, Result<SetOutcome>>;

    fn into_future(self) -> Self::IntoFuture {
        let (place, write) = self.0.into_write();
        Box::pin(async move {
            match run(place, write).await? {
                SetOutcome::StoodIn => Err(place.cache.engine.away("set")),
                outcome => Ok(outcome),
            }
        })
    }
}

impl<K> fmt::Debug for Set<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("region", &self.place.region).field("write", &self.write).finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for TrySet<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Cache {
    /// Writes a value; `.await` answers whether it was stored.
    pub fn set<K: ToKey, V: Cacheable>(&self, key: K, value: V) -> Set<'_, K> {
        self.set_arc(key, Arc::new(value))
    }

    /// Writes a value that is shared already.
    pub fn set_arc<K: ToKey, V: Cacheable>(&self, key: K, value: Arc<V>) -> Set<'_, K> {
        Set::new(self.place(), key, value, ValueOps::of::<V>())
    }

    /// Writes a value; `.await` gives `Result<SetOutcome>`.
    pub fn try_set<K: ToKey, V: Cacheable>(&self, key: K, value: V) -> TrySet<'_, K> {
        TrySet::new(self.set(key, value))
    }

    /// Writes a value if the key is absent; `.await` gives `Result<SetOutcome>`.
    pub fn try_add<K: ToKey, V: Cacheable>(&self, key: K, value: V) -> TrySet<'_, K> {
        self.try_set(key, value).only_if_absent()
    }

    /// Writes a value if the key is absent; `.await` answers whether it was.
    pub fn add<K: ToKey, V: Cacheable>(&self, key: K, value: V) -> Set<'_, K> {
        self.set(key, value).only_if_absent()
    }
}
