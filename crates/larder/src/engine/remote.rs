//! The remote tier: entries in envelopes and tag markers over a [`Backend`]. How loads fill it is in `fill.rs`.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use larder_codec::{Payload, ReadFailure};
use larder_core::{
    Atomic, Backend, BackendExt, Clock, Condition, Each, Error, Expected, Found, GetOptions, Key, Result, SetOptions,
    SetOutcome, Tag, Tick, Ttl, UnixMillis,
    envelope::{Header, Kind, TagVersion},
};
use larder_fallback::FallbackBackend;
use larder_memory::AnyValue;
use larder_strategy::Plan;

use super::{
    RegionState, Write,
    versions::{Seen, version},
};
use crate::{
    coherence::Coherence,
    stats::Event,
    tags::TagTable,
    value::{Absent, ValueOps, is_present},
};

/// How often a write on condition of presence is tried that others are quicker with.
const ATTEMPTS: usize = 8;

/// The remote tier of a cache.
#[derive(Debug)]
pub(crate) struct Remote {
    /// With the fallback in its stead while it is away.
    pub(crate) backend: Arc<dyn Backend>,
    /// The same, for those who want to be told of its faults.
    pub(super) fallback: Arc<FallbackBackend>,
    /// Without the fallback: for what is only asked of the remote tier itself.
    pub(crate) primary: Arc<dyn Backend>,
    pub(super) namespace_prefix: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tags: Arc<TagTable>,
    pub(super) coherence: Arc<Coherence>,
}

/// An entry of the remote tier that may be served.
#[derive(Debug)]
pub(crate) struct RemoteEntry {
    pub(crate) value: AnyValue,
    /// Before it was asked for.
    pub(crate) asked_at: Tick,
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

/// Where an entry was found, and before when it was asked for.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a Key,
    region: &'a RegionState,
    ops: &'a ValueOps,
    asked_at: Tick,
}

/// An entry ready to be written.
pub(crate) struct Encoded {
    pub(crate) kind: Kind,
    pub(crate) payload: Payload,
}

impl Remote {
    /// Reads a key: one round trip, and one more for an entry whose markers' versions are not known and do not belong to
    /// its region or to `tags`, which are read at the same time.
    pub(crate) async fn read(&self, key: &Key, region: &RegionState, ops: &ValueOps, tags: &[Tag]) -> Result<Stored> {
        let found = self.read_many(std::slice::from_ref(key), region, ops, (tags, false)).await;
        found.into_iter().next().unwrap_or(Ok(Stored::Nothing))
    }

    /// Reads keys: one round trip, and one more if there are entries with tags whose versions are not known. `tells`: a
    /// key that could not be asked for is an error, and else nothing.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        region: &RegionState,
        ops: &ValueOps,
        (tags, tells): (&[Tag], bool),
    ) -> Each<Stored> {
        let asked = self.asked();
        let unknown = self.unknown(self.marked(region, tags), asked);
        let all: Cow<'_, [Key]> =
            if unknown.is_empty() { Cow::Borrowed(keys) } else { Cow::Owned([keys, &self.markers(&unknown)].concat()) };
        let mut found: Each<Option<Found>> = self.fallback.get_many_or_fault(&all, GetOptions::new()).await;
        let versions = found.split_off(keys.len().min(found.len()));
        if !tells && found.iter().any(Result::is_err) {
            region.counters.count(Event::RemoteFault);
            found.iter_mut().filter(|found| found.is_err()).for_each(|found| *found = Ok(None));
        }
        let mut seen = Seen::default();
        let mut learnt = Vec::with_capacity(unknown.len());
        for (tag, answer) in unknown.iter().zip(versions) {
            // One that could not be read is asked for again if an entry carries it.
            if let Ok(answer) = answer {
                let version = answer.and_then(|found| version(&found.value));
                seen.put(tag.clone(), version);
                learnt.push((tag, version));
            }
        }
        self.learn(&learnt, asked);
        let found = found.into_iter().map(|found| found.map(|found| found.map(|found| found.value))).collect();
        self.judge_all(keys, found, region, ops, (asked.at(), seen)).await
    }

    /// What stands under a key; a read that failed is an error.
    pub(crate) async fn get_or_fault(&self, key: &Key, options: GetOptions) -> Result<Option<Found>> {
        let found = self.fallback.get_many_or_fault(std::slice::from_ref(key), options).await.pop();
        Ok(found.transpose()?.flatten())
    }

    /// Judges what stands under keys.
    async fn judge_all(
        &self,
        keys: &[Key],
        found: Each<Option<Bytes>>,
        region: &RegionState,
        ops: &ValueOps,
        (asked_at, mut seen): (Tick, Seen),
    ) -> Each<Stored> {
        let headers: Vec<_> = found
            .iter()
            .map(|found| found.as_ref().ok()?.as_ref().map(|bytes| larder_codec::read_header(bytes, region.schema)))
            .collect();
        let tables: Vec<&[TagVersion]> = headers
            .iter()
            .map(|header| match header {
                Some(Ok((header, _))) if matches!(header.kind, Kind::Value | Kind::Negative) => header.tags.as_slice(),
                _ => &[],
            })
            .collect();
        let holds = self.versions_hold(&tables, &mut seen).await;
        let judged = keys.iter().zip(&found).zip(headers.iter().zip(holds)).map(|((key, found), (header, holds))| {
            let found = found.clone();
            async move {
                match (found?, header) {
                    (Some(bytes), Some(Ok((header, payload)))) => {
                        let place = Place { key, region, ops, asked_at };
                        self.judge_entry(place, &bytes, header, payload, holds).await
                    }
                    (Some(bytes), Some(Err(failure))) => self.unusable(key, &bytes, failure, region).await,
                    _ => Ok(Stored::Nothing),
                }
            }
        });
        join_all(judged).await
    }

    async fn judge_entry(
        &self,
        place: Place<'_>,
        bytes: &Bytes,
        header: &Header,
        payload: &[u8],
        holds: Result<bool>,
    ) -> Result<Stored> {
        let Place { key, region, ops, asked_at } = place;
        let token = Expected::prefix(Bytes::copy_from_slice(&header.token()));
        match header.kind {
            Kind::Placeholder => return Ok(Stored::Loading(token)),
            Kind::Hold => return Ok(Stored::Held),
            Kind::Value | Kind::Negative => {}
            _ => return Ok(Stored::LeftAlone),
        }
        let life = if header.ttl_ms == u64::MAX { Duration::MAX } else { Duration::from_millis(header.ttl_ms) };
        if !holds? {
            return Ok(Stored::Dead(token));
        }
        let now = self.server_now(key);
        let left = header.stale_until.remaining(now).min(life);
        let age = if life == Duration::MAX { Duration::ZERO } else { life.saturating_sub(left) };
        let stale_for = left.min(self.left_of_outage(region, age));
        if stale_for.is_zero() {
            return Ok(Stored::Dead(token));
        }
        let Some(serde) = ops.serde else { return Ok(Stored::LeftAlone) };
        let value = if header.kind == Kind::Negative {
            Arc::new(Absent) as AnyValue
        } else {
            match (serde.decode)(header, payload) {
                Ok(value) => value,
                Err(error) => {
                    let failure = ReadFailure::from(error);
                    return self.unusable(key, bytes, &failure, region).await;
                }
            }
        };
        Ok(Stored::Entry(Box::new(RemoteEntry {
            value,
            asked_at,
            fresh_for: header.fresh_until.remaining(now).min(stale_for),
            stale_for,
            ttl: life.saturating_sub(header.stale_until.remaining(header.fresh_until)),
            cost: Duration::from_micros(header.load_cost_us.into()),
            stale_by: now.remaining(header.fresh_until),
            age,
            bytes: bytes.len(),
            token,
            tags: header.tags.iter().filter(|tag| !tag.tag.is_own()).map(|tag| tag.tag.clone()).collect(),
        })))
    }

    /// How long an entry of this age may still be served: while the remote tier is away it was stored in its stead, and nobody
    /// hears whether others have invalidated it.
    fn left_of_outage(&self, region: &RegionState, age: Duration) -> Duration {
        if self.fallback.is_calm() || self.fallback.state().lets_calls_through() {
            return Duration::MAX;
        }
        region.strategy.outage_ttl.saturating_sub(age)
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

    /// Judges what stood under the key when the token was to be placed.
    pub(crate) async fn judge(&self, key: &Key, found: Bytes, region: &RegionState, ops: &ValueOps) -> Result<Stored> {
        // It was asked for within the deadline of this step.
        let seen = (self.clock.now() - region.strategy.remote_deadline, Seen::default());
        let judged = self.judge_all(std::slice::from_ref(key), vec![Ok(Some(found))], region, ops, seen).await;
        judged.into_iter().next().unwrap_or(Ok(Stored::Nothing))
    }

    /// Whether the markers of a stored entry have the versions that it carries; what is no entry holds.
    pub(crate) async fn holds(&self, bytes: &[u8]) -> Result<bool> {
        let Ok((header, _)) = Header::decode(bytes) else { return Ok(true) };
        self.versions_hold(&[&header.tags], &mut Seen::default()).await.pop().unwrap_or(Ok(true))
    }

    /// What time the server of a key has: its own clock as far as that was measured, else this machine's.
    pub(crate) fn server_now(&self, key: &Key) -> UnixMillis {
        let lineage = self.primary.as_lineage();
        lineage.and_then(|lineage| lineage.server_time(key)).unwrap_or_else(|| self.clock.wall())
    }

    /// Writes a value whatever stands there, as a caller's `set` does; `sent` tells whether it came so far.
    pub(crate) async fn write(
        &self,
        write: &Write,
        entry: &Encoded,
        life: Life<'_>,
        (options, sent): (SetOptions, &AtomicBool),
    ) -> Result<SetOutcome> {
        let Write { key, tags, .. } = write;
        let versions = self.versions(life.region, tags).await?;
        if versions.held {
            // While a writer holds one of the tags there is no version to store the value with.
            return Ok(SetOutcome::Rejected);
        }
        sent.store(true, Ordering::Relaxed);
        let value = self.entry(key, entry, versions.tags, life)?;
        let options = options.ttl(ttl(life.plan));
        // What stands in for the remote tier has no tokens of others.
        let compares = options.condition == Condition::IfPresent && self.fallback.state().lets_calls_through();
        if !compares {
            let outcome = self.backend.set(key, value.clone(), options).await?;
            if outcome.is_stored() || options.condition != Condition::IfAbsent {
                return Ok(outcome);
            }
        }
        self.replace(write, life.region, value, options).await
    }

    /// A write on a condition, by comparison with what stands there: of the fill tokens, dead entries and memories of absence
    /// a write on condition of absence takes the place, and one on condition of presence does not.
    async fn replace(
        &self,
        write: &Write,
        region: &RegionState,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        let Write { key, tags, ops, .. } = write;
        let if_present = options.condition == Condition::IfPresent;
        for _ in 0..ATTEMPTS {
            let found = self.read_many(std::slice::from_ref(key), region, ops, (tags, if_present)).await.pop();
            let (present, token) = match found.unwrap_or(Ok(Stored::Nothing))? {
                Stored::Loading(token) | Stored::Dead(token) => (false, token),
                Stored::Entry(entry) => (is_present(&entry.value), entry.token),
                // What it is only the store can tell.
                Stored::LeftAlone if if_present => return self.backend.set(key, value, options).await,
                _ => return Ok(SetOutcome::Rejected),
            };
            if present != if_present {
                return Ok(SetOutcome::Rejected);
            }
            let options = SetOptions::new().ttl(options.ttl);
            let outcome = self.atomic()?.compare_and_set(key, &token, value.clone(), options).await?;
            if outcome.is_stored() || !if_present {
                return Ok(outcome);
            }
        }
        Ok(SetOutcome::Rejected)
    }

    /// The bytes of an entry that begins its life now.
    pub(crate) fn entry(&self, key: &Key, entry: &Encoded, tags: Vec<TagVersion>, life: Life<'_>) -> Result<Bytes> {
        let Life { region, plan, cost } = life;
        let mut header = Header::new(entry.kind, entry.payload.codec);
        header.compression = entry.payload.compression;
        header.plain_len = entry.payload.plain_len;
        header.schema = region.schema;
        header.load_cost_us = u32::try_from(cost.as_micros()).unwrap_or(u32::MAX);
        header.tags = tags;
        if !plan.is_endless() {
            let now = self.server_now(key);
            header.fresh_until = now + plan.fresh_for;
            header.stale_until = until(now, plan.stale_for);
            header.ttl_ms = larder_core::ttl_millis(plan.stale_for).unwrap_or(u64::MAX);
        }
        Ok(Bytes::from(header.encode(&entry.payload.bytes)?))
    }

    /// Past the fallback: that would remember a removal if there was no answer, or nobody waited for it any more since what
    /// was renewed has ended, and so void it. Here nothing is lost then.
    pub(super) fn for_renewals(&self) -> Result<&dyn Atomic> {
        let backend = if self.fallback.state().lets_calls_through() { &self.primary } else { &self.backend };
        backend.as_atomic().ok_or_else(|| Error::unsupported("renew", backend.name()))
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
