//! The remote tier: entries in envelopes and tag markers over a [`Backend`]. How loads fill it is in `fill.rs`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use larder_codec::{Payload, ReadFailure};
use larder_core::{
    Atomic, Backend, BackendExt, Clock, Condition, Each, Error, Expected, Found, GetOptions, Key, Result, SetOptions,
    SetOutcome, Tag, Ttl, UnixMillis,
    envelope::{Header, Kind, TagVersion},
};
use larder_fallback::FallbackBackend;
use larder_memory::AnyValue;
use larder_strategy::Plan;

use super::{RegionState, Write, fill::version};
use crate::{
    stats::Event,
    value::{Absent, ValueOps},
};

/// The remote tier of a cache.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) backend: Arc<dyn Backend>,
    /// The same, for those who want to be told of its faults.
    fallback: Arc<FallbackBackend>,
    pub(super) namespace_prefix: String,
    pub(super) clock: Arc<dyn Clock>,
}

/// An entry of the remote tier that may be served.
#[derive(Debug)]
pub(crate) struct RemoteEntry {
    pub(crate) value: AnyValue,
    pub(crate) fresh_for: Duration,
    pub(crate) stale_for: Duration,
    /// How long it was fresh in all when it was written.
    pub(crate) ttl: Duration,
    /// What its load cost.
    pub(crate) cost: Duration,
    pub(crate) age: Duration,
    /// How long ago it ceased to be fresh.
    pub(crate) stale_by: Duration,
    pub(crate) tags: Vec<Tag>,
    pub(crate) bytes: usize,
    pub(crate) token: Expected,
}

/// What stands under a key.
#[derive(Debug)]
pub(crate) enum Stored {
    /// A usable entry, fresh or stale.
    Entry(Box<RemoteEntry>),
    /// Nothing.
    Nothing,
    /// An entry past its life, or whose tags were invalidated: a load may replace it.
    Dead(Expected),
    /// Another process loads.
    Loading(Expected),
    /// A writer changes the source: load, and store nothing.
    Held,
    /// Something that must be left alone: another program's key, a newer release's entry.
    LeftAlone,
}

/// Under which policy an entry is written, for how long, and what its load cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life<'a> {
    pub(crate) region: &'a RegionState,
    pub(crate) plan: &'a Plan,
    pub(crate) cost: Duration,
}

/// An entry ready to be written.
pub(crate) struct Encoded {
    pub(crate) kind: Kind,
    pub(crate) payload: Payload,
}

impl Remote {
    pub(crate) fn new(fallback: Arc<FallbackBackend>, namespace_prefix: &str, clock: Arc<dyn Clock>) -> Self {
        let backend = Arc::clone(&fallback) as Arc<dyn Backend>;
        Self { backend, fallback, namespace_prefix: namespace_prefix.to_owned(), clock }
    }

    /// Reads a key: one round trip, and one more for an entry with tags.
    pub(crate) async fn read(&self, key: &Key, region: &RegionState, ops: &ValueOps) -> Result<Stored> {
        let Some(bytes) = self.backend.get(key).await? else { return Ok(Stored::Nothing) };
        self.interpret(key, bytes, region, ops).await
    }

    /// Reads keys: one round trip, and one more if there are entries with tags. `tells`: a key that could not be asked
    /// for is an error, and else nothing.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        region: &RegionState,
        ops: &ValueOps,
        tells: bool,
    ) -> Each<Stored> {
        let found: Each<Option<Found>> = if tells {
            self.fallback.get_many_or_fault(keys, GetOptions::new()).await
        } else {
            self.backend.get_many(keys, GetOptions::new()).await
        };
        let judged = keys.iter().zip(found).map(|(key, found)| async move {
            match found? {
                Some(found) => self.interpret(key, found.value, region, ops).await,
                None => Ok(Stored::Nothing),
            }
        });
        join_all(judged).await
    }

    async fn interpret(&self, key: &Key, bytes: Bytes, region: &RegionState, ops: &ValueOps) -> Result<Stored> {
        let (header, payload) = match larder_codec::read_header(&bytes, region.schema) {
            Ok(parts) => parts,
            Err(failure) => return self.unusable(key, &bytes, &failure, region).await,
        };
        let token = Expected::prefix(Bytes::copy_from_slice(&header.token()));
        match header.kind {
            Kind::Placeholder => return Ok(Stored::Loading(token)),
            Kind::Hold => return Ok(Stored::Held),
            Kind::Value | Kind::Negative => {}
            _ => return Ok(Stored::LeftAlone),
        }
        let life = if header.ttl_ms == u64::MAX { Duration::MAX } else { Duration::from_millis(header.ttl_ms) };
        if !self.tags_hold(&header.tags).await? {
            return Ok(Stored::Dead(token));
        }
        // Not before the tags were asked for: what is left of the entry counts from here.
        let now = self.clock.wall();
        let stale_for = header.stale_until.remaining(now).min(life);
        if stale_for.is_zero() {
            return Ok(Stored::Dead(token));
        }
        let Some(serde) = ops.serde else { return Ok(Stored::LeftAlone) };
        let value = if header.kind == Kind::Negative {
            Arc::new(Absent) as AnyValue
        } else {
            match (serde.decode)(&header, payload) {
                Ok(value) => value,
                Err(error) => {
                    let failure = ReadFailure::from(error);
                    return self.unusable(key, &bytes, &failure, region).await;
                }
            }
        };
        Ok(Stored::Entry(Box::new(RemoteEntry {
            value,
            fresh_for: header.fresh_until.remaining(now).min(life),
            stale_for,
            ttl: life.saturating_sub(header.stale_until.remaining(header.fresh_until)),
            cost: Duration::from_micros(header.load_cost_us.into()),
            stale_by: now.remaining(header.fresh_until),
            age: if life == Duration::MAX { Duration::ZERO } else { life.saturating_sub(stale_for) },
            bytes: bytes.len(),
            token,
            tags: header.tags.into_iter().map(|tag| tag.tag).collect(),
        })))
    }

    /// Counts what cannot be used, removes it if it is certainly broken, and leaves it alone otherwise.
    async fn unusable(&self, key: &Key, bytes: &[u8], failure: &ReadFailure, region: &RegionState) -> Result<Stored> {
        region.counters.count(Event::Undecodable);
        crate::events::undecodable(key, failure);
        if !failure.may_delete() {
            return Ok(Stored::LeftAlone);
        }
        let Some(atomic) = self.backend.as_atomic() else { return Ok(Stored::LeftAlone) };
        let head = bytes.len().min(larder_core::envelope::HEADER_BYTES);
        let broken = Expected::prefix(Bytes::copy_from_slice(&bytes[..head])).with_length(bytes.len());
        atomic.compare_and_delete(key, &broken).await?;
        Ok(Stored::Nothing)
    }

    /// Whether every tag still has the version that an entry was stored with.
    async fn tags_hold(&self, tags: &[TagVersion]) -> Result<bool> {
        if tags.is_empty() {
            return Ok(true);
        }
        let markers: Vec<Key> = tags.iter().map(|tag| tag.tag.marker(&self.namespace_prefix)).collect();
        let found = self.backend.get_many(&markers, GetOptions::new()).await;
        for (tag, marker) in tags.iter().zip(found) {
            if marker?.and_then(|found| version(&found.value)) != Some(tag.version) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Judges what stood under the key when the token was to be placed.
    pub(crate) async fn judge(&self, key: &Key, found: Bytes, region: &RegionState, ops: &ValueOps) -> Result<Stored> {
        self.interpret(key, found, region, ops).await
    }

    /// Writes a value whatever stands there, as a caller's `set` does. Fill tokens and dead entries are nothing that a
    /// write on condition of absence would have to leave alone.
    pub(crate) async fn write(
        &self,
        write: &Write,
        entry: &Encoded,
        life: Life<'_>,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        let Write { key, tags, ops, .. } = write;
        // While a writer holds one of the tags there is no version to store the value with.
        let Some(versions) = self.tag_versions(tags).await? else { return Ok(SetOutcome::Rejected) };
        let value = self.entry(entry, versions, life)?;
        let options = options.ttl(ttl(life.plan));
        let outcome = self.backend.set(key, value.clone(), options).await?;
        if outcome.is_stored() || options.condition != Condition::IfAbsent {
            return Ok(outcome);
        }
        match self.read(key, life.region, ops).await? {
            Stored::Loading(token) | Stored::Dead(token) => {
                let options = SetOptions::new().ttl(options.ttl);
                self.atomic()?.compare_and_set(key, &token, value, options).await
            }
            _ => Ok(outcome),
        }
    }

    /// The bytes of an entry that begins its life now.
    pub(crate) fn entry(&self, entry: &Encoded, tags: Vec<TagVersion>, life: Life<'_>) -> Result<Bytes> {
        let Life { region, plan, cost } = life;
        let mut header = Header::new(entry.kind, entry.payload.codec);
        header.compression = entry.payload.compression;
        header.plain_len = entry.payload.plain_len;
        header.schema = region.schema;
        header.load_cost_us = u32::try_from(cost.as_micros()).unwrap_or(u32::MAX);
        header.tags = tags;
        if !plan.is_endless() {
            let now = self.clock.wall();
            header.fresh_until = now + plan.fresh_for;
            header.stale_until = until(now, plan.stale_for);
            header.ttl_ms = larder_core::ttl_millis(plan.stale_for).unwrap_or(u64::MAX);
        }
        Ok(Bytes::from(header.encode(&entry.payload.bytes)?))
    }

    /// Removes the markers of tags, and the namespace's tag-invalidation token.
    pub(crate) async fn invalidate_tags(&self, tags: &[Tag]) -> Each<bool> {
        // The token first: where the removals are not one step, a load that makes a tag's marker anew must find that the
        // token has changed.
        let mut markers = vec![self.invalidations_key()];
        markers.extend(tags.iter().map(|tag| tag.marker(&self.namespace_prefix)));
        self.backend.delete_many(&markers).await
    }

    pub(super) fn invalidations_key(&self) -> Key {
        Key::from_canonical(format!("{}%tags", self.namespace_prefix))
    }

    pub(super) fn atomic(&self) -> Result<&dyn Atomic> {
        self.backend.as_atomic().ok_or_else(|| Error::unsupported("fill", self.backend.name()))
    }
}

pub(crate) fn ttl(plan: &Plan) -> Ttl {
    if plan.is_endless() || plan.stale_for == Duration::MAX { Ttl::Forever } else { Ttl::For(plan.stale_for) }
}

fn until(now: UnixMillis, duration: Duration) -> UnixMillis {
    if duration == Duration::MAX { UnixMillis::FOREVER } else { now + duration }
}
