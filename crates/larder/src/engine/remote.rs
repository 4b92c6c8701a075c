//! The remote tier: entries in envelopes and tag markers over a [`Backend`]. How loads fill it is in `fill.rs`, what
//! is made of what stands there in `judge.rs`.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use larder_codec::Payload;
use larder_core::{
    Atomic, Backend, BackendExt, Condition, Error, ErrorKind, Expected, Found, GetOptions, Key, Lineage, Result,
    SetOptions, SetOutcome, Tag, Tick, Timer, Ttl, UnixMillis,
    envelope::{Header, Kind, TOKEN_BYTES, TagVersion},
};
use larder_fallback::FallbackBackend;
use larder_memory::AnyValue;
use larder_strategy::Plan;

use super::{
    RegionState, Write,
    judge::Sink,
    versions::{Seen, version},
};
use crate::{
    coherence::Coherence,
    outcome::{Outcome, Source},
    stats::Event,
    tags::TagTable,
    value::{ValueOps, is_present},
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
    pub(super) timer: Arc<dyn Timer>,
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
    pub(super) token: [u8; TOKEN_BYTES],
}

impl RemoteEntry {
    /// What a caller gets.
    pub(crate) fn outcome(&self) -> Outcome<AnyValue> {
        Outcome { value: self.value.clone(), source: Source::Remote, age: self.age, stale: self.fresh_for.is_zero() }
    }

    /// What must still stand there when it is replaced.
    pub(crate) fn token(&self) -> Expected {
        expected(self.token)
    }
}

pub(super) fn expected(token: [u8; TOKEN_BYTES]) -> Expected {
    Expected::prefix(Bytes::copy_from_slice(&token))
}

/// How keys are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// Whose versions are read at the same time, where they are not known.
    pub(crate) tags: &'a [Tag],
    /// A key that could not be asked for is an error, and else nothing.
    pub(crate) tells: bool,
    /// How long it may take in all. Where that is less than others may take, a time-out is told in any case: the store may have
    /// the key.
    pub(crate) limit: Duration,
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
    /// Reads a key: one round trip, and one more for an entry whose markers' versions are not known and do not belong to
    /// its region or to the tags, which are read at the same time. Keys that are read at about the same time share what they
    /// can.
    ///
    /// Not an async function, which would take room for what it is given twice.
    pub(crate) fn read<'a>(
        &'a self,
        key: &'a Key,
        region: &'a RegionState,
        ops: &'a ValueOps,
        how: Reading<'a>,
    ) -> impl Future<Output = Result<Stored>> + use<'a> {
        let asked = self.asked();
        async move {
            if how.tells || how.limit < self.deadline() || !self.knows(self.marked(region, how.tags), asked) {
                // Boxed, so that other reads do not have its size.
                let (key, mut found) = (std::slice::from_ref(key), Ok(Stored::Nothing));
                Box::pin(self.read_many(key, region, ops, how, &mut |_, stored| found = stored)).await;
                return found;
            }
            let found = self.fallback.get_combined(key).await.unwrap_or_else(|_| {
                region.counters.count(Event::RemoteFault);
                None
            });
            let Some(found) = found else { return Ok(Stored::Nothing) };
            match self.judge_now(key, found.value, (region, ops), (asked.at(), how.limit)) {
                Ok(stored) => Ok(stored),
                Err(later) => later.await,
            }
        }
    }

    /// Reads keys: one round trip, and one more if there are entries with tags whose versions are not known. What stands there is
    /// handed over key by key, since it is large.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        region: &RegionState,
        ops: &ValueOps,
        Reading { tags, tells, limit }: Reading<'_>,
        each: &mut Sink<'_>,
    ) {
        let tells = tells || limit < self.deadline();
        let asked = self.asked();
        let unknown = self.unknown(self.marked(region, tags), asked);
        let all: Cow<'_, [Key]> =
            if unknown.is_empty() { Cow::Borrowed(keys) } else { Cow::Owned([keys, &self.markers(&unknown)].concat()) };
        let mut found = Box::pin(self.fallback.get_many_or_fault(&all, GetOptions::new(), limit)).await;
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
        let later = self.judge_all(keys, found, (region, ops), (asked.at(), &seen), each);
        if !later.is_empty() {
            // Boxed, so that reads which need none of it do not have its size.
            Box::pin(self.judge_later(later, seen, (asked.at(), limit), each)).await;
        }
    }

    /// How long it is waited for where the caller does not wait less.
    pub(crate) fn deadline(&self) -> Duration {
        self.fallback.deadline()
    }

    /// What stands under a key; a read that failed is an error.
    pub(crate) async fn get_or_fault(&self, key: &Key, options: GetOptions) -> Result<Option<Found>> {
        let found = self.fallback.get_many_or_fault(std::slice::from_ref(key), options, Duration::MAX).await.pop();
        Ok(found.transpose()?.flatten())
    }

    pub(super) fn has_one_server(&self) -> bool {
        self.primary.as_lineage().is_some_and(Lineage::has_one_server)
    }

    /// What time the server of a key has: its own clock as far as that was measured, else this machine's.
    pub(crate) fn server_now(&self, key: &Key) -> UnixMillis {
        let lineage = self.primary.as_lineage();
        lineage.and_then(|lineage| lineage.server_time(key)).unwrap_or_else(|| self.timer.wall())
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
            let how = Reading { tags, tells: if_present, limit: region.strategy.remote_deadline };
            let (present, token) = match self.read(key, region, ops, how).await? {
                Stored::Loading(token) | Stored::Dead(token) => (false, token),
                Stored::Entry(entry) => (is_present(&entry.value), entry.token()),
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
        header.tags = tags.into();
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

/// That of a call which took longer than it may.
pub(super) fn late(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "remote", format!("no answer from the remote tier within {limit:?}"))
}

pub(crate) fn ttl(plan: &Plan) -> Ttl {
    if plan.is_endless() || plan.stale_for == Duration::MAX { Ttl::Forever } else { Ttl::For(plan.stale_for) }
}

fn until(now: UnixMillis, duration: Duration) -> UnixMillis {
    if duration == Duration::MAX { UnixMillis::FOREVER } else { now + duration }
}
