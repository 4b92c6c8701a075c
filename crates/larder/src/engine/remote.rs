//! The remote tier: entries in envelopes and tag markers over a [`Backend`]. How loads fill it is in `fill.rs`.

use std::{
    borrow::Cow,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use larder_codec::{Payload, ReadFailure};
use larder_core::{
    Atomic, Backend, BackendExt, Condition, Each, Error, ErrorKind, Expected, Found, GetOptions, Key, Result,
    SetOptions, SetOutcome, Tag, Tick, Timer, Ttl, UnixMillis,
    envelope::{Header, Kind, TOKEN_BYTES, TagVersion},
};
use larder_fallback::FallbackBackend;
use larder_memory::AnyValue;
use larder_strategy::Plan;

use super::{
    RegionState, Write,
    versions::{Seen, Verdict, version},
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
    token: [u8; TOKEN_BYTES],
}

impl RemoteEntry {
    /// What must still stand there when it is replaced.
    pub(crate) fn token(&self) -> Expected {
        expected(self.token)
    }
}

fn expected(token: [u8; TOKEN_BYTES]) -> Expected {
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

/// Where an entry was found, and before when it was asked for.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a Key,
    region: &'a RegionState,
    ops: &'a ValueOps,
    asked_at: Tick,
}

/// What is said of stored bytes.
enum Judged {
    As(Stored),
    /// Not without another round trip.
    Later(Why),
}

enum Why {
    /// The versions of these tags are not known.
    Ask(Vec<TagVersion>),
    /// It is to be removed.
    Broken,
    /// It has been judged meanwhile.
    Settled,
}

impl Why {
    fn asks(&self) -> &[TagVersion] {
        if let Self::Ask(tags) = self { tags } else { &[] }
    }
}

/// What is still to be judged, and where the answer belongs.
struct Later<'a> {
    index: usize,
    place: Place<'a>,
    bytes: Bytes,
    why: Why,
}

/// An entry ready to be written.
pub(crate) struct Encoded {
    pub(crate) kind: Kind,
    pub(crate) payload: Payload,
}

impl Remote {
    /// Reads a key: one round trip, and one more for an entry whose markers' versions are not known and do not belong to
    /// its region or to the tags, which are read at the same time.
    pub(crate) fn read<'a>(
        &'a self,
        key: &'a Key,
        region: &'a RegionState,
        ops: &'a ValueOps,
        how: Reading<'a>,
    ) -> impl Future<Output = Result<Stored>> + use<'a> {
        let found = self.read_many(std::slice::from_ref(key), region, ops, how);
        found.map(|mut found| found.pop().unwrap_or(Ok(Stored::Nothing)))
    }

    /// Reads keys: one round trip, and one more if there are entries with tags whose versions are not known.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        region: &RegionState,
        ops: &ValueOps,
        Reading { tags, tells, limit }: Reading<'_>,
    ) -> Each<Stored> {
        let tells = tells || limit < self.deadline();
        let asked = self.asked();
        let unknown = self.unknown(self.marked(region, tags), asked);
        let all: Cow<'_, [Key]> =
            if unknown.is_empty() { Cow::Borrowed(keys) } else { Cow::Owned([keys, &self.markers(&unknown)].concat()) };
        // In two boxes, since the allocator is slow with large ones.
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
        let (mut judged, later) = self.judge_all(keys, found, (region, ops), asked.at(), &seen);
        if !later.is_empty() {
            // Boxed, so that reads which need none of it do not have its size.
            Box::pin(self.judge_later(&mut judged, later, seen, (asked.at(), limit))).await;
        }
        judged
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

    /// Judges what stands under keys, as far as the versions of their tags are known and nothing is broken.
    fn judge_all<'a>(
        &self,
        keys: &'a [Key],
        found: Each<Option<Found>>,
        (region, ops): (&'a RegionState, &'a ValueOps),
        asked_at: Tick,
        seen: &Seen,
    ) -> (Each<Stored>, Vec<Later<'a>>) {
        let asked = self.asked();
        let (mut judged, mut later) = (Vec::with_capacity(keys.len()), Vec::new());
        for (key, found) in keys.iter().zip(found) {
            let bytes = match found {
                Ok(Some(found)) => found.value,
                Ok(None) => {
                    judged.push(Ok(Stored::Nothing));
                    continue;
                }
                Err(error) => {
                    judged.push(Err(error));
                    continue;
                }
            };
            let place = Place { key, region, ops, asked_at };
            judged.push(Ok(match self.judge_one(place, &bytes, |tags| seen.judge(tags, &self.tags.known(asked))) {
                Judged::As(stored) => stored,
                Judged::Later(why) => {
                    later.push(Later { index: judged.len(), place, bytes, why });
                    Stored::Nothing
                }
            }));
        }
        (judged, later)
    }

    /// Asks for the versions that are needed, for all in one round trip, and removes what is broken; within what is left of
    /// the limit.
    async fn judge_later(
        &self,
        judged: &mut Each<Stored>,
        mut later: Vec<Later<'_>>,
        mut seen: Seen,
        (asked_at, limit): (Tick, Duration),
    ) {
        let left = self.timer.left_of(limit, asked_at + limit);
        let judging = async {
            self.ask_for_versions(judged, &mut later, &mut seen).await;
            let broken = later.iter().filter(|later| matches!(later.why, Why::Broken));
            let removed = broken.map(|Later { index, place, bytes, .. }| {
                self.remove_broken(place.key, bytes).map(|removed| (*index, removed))
            });
            for (index, removed) in join_all(removed).await {
                judged[index] = removed.map(|()| Stored::Nothing);
            }
        };
        if self.timer.within(left, pin!(judging)).await.is_none() {
            let open = later.iter().filter(|later| !matches!(later.why, Why::Settled));
            open.for_each(|later| judged[later.index] = Err(late(limit)));
        }
    }

    async fn ask_for_versions(&self, judged: &mut Each<Stored>, later: &mut [Later<'_>], seen: &mut Seen) {
        let mut ask: Vec<Tag> = later.iter().flat_map(|later| later.why.asks()).map(|it| it.tag.clone()).collect();
        ask.sort_unstable();
        ask.dedup();
        self.see(&ask, seen).await;
        for Later { index, place, bytes, why } in later {
            let Why::Ask(tags) = why else { continue };
            let verdict = seen.confirms(tags).map(|holds| if holds { Verdict::Hold } else { Verdict::Differ });
            let judgement = match verdict.map(|verdict| self.judge_one(*place, bytes, |_| verdict)) {
                Ok(Judged::Later(broken)) => {
                    *why = broken;
                    continue;
                }
                Ok(Judged::As(stored)) => Ok(stored),
                Err(error) => Err(error),
            };
            (judged[*index], *why) = (judgement, Why::Settled);
        }
    }

    /// Judges what stands under a key, if `holds` knows whether its tags do.
    fn judge_one(&self, place: Place<'_>, bytes: &Bytes, holds: impl FnOnce(&[TagVersion]) -> Verdict) -> Judged {
        let (header, payload) = match larder_codec::read_header(bytes, place.region.schema) {
            Ok(read) => read,
            Err(failure) => return self.unusable(place, &failure),
        };
        let token = header.token();
        match header.kind {
            Kind::Placeholder => return Judged::As(Stored::Loading(expected(token))),
            Kind::Hold => return Judged::As(Stored::Held),
            Kind::Value | Kind::Negative => {}
            _ => return Judged::As(Stored::LeftAlone),
        }
        match holds(&header.tags) {
            Verdict::Hold => {}
            Verdict::Differ => return Judged::As(Stored::Dead(expected(token))),
            Verdict::Ask(tags) => return Judged::Later(Why::Ask(tags)),
        }
        self.judge_entry(place, bytes.len(), header, payload)
    }

    /// Judges an entry whose tags hold.
    fn judge_entry(&self, place: Place<'_>, bytes: usize, header: Header, payload: &[u8]) -> Judged {
        let Place { key, region, ops, asked_at } = place;
        let token = header.token();
        let life = if header.ttl_ms == u64::MAX { Duration::MAX } else { Duration::from_millis(header.ttl_ms) };
        let now = self.server_now(key);
        let left = header.stale_until.remaining(now).min(life);
        let age = if life == Duration::MAX { Duration::ZERO } else { life.saturating_sub(left) };
        let stale_for = left.min(self.left_of_outage(region, age));
        if stale_for.is_zero() {
            return Judged::As(Stored::Dead(expected(token)));
        }
        let Some(serde) = ops.serde else { return Judged::As(Stored::LeftAlone) };
        let value = if header.kind == Kind::Negative {
            Arc::new(Absent) as AnyValue
        } else {
            match (serde.decode)(&header, payload) {
                Ok(value) => value,
                Err(error) => return self.unusable(place, &ReadFailure::from(error)),
            }
        };
        Judged::As(Stored::Entry(Box::new(RemoteEntry {
            value,
            asked_at,
            fresh_for: header.fresh_until.remaining(now).min(stale_for),
            stale_for,
            ttl: life.saturating_sub(header.stale_until.remaining(header.fresh_until)),
            cost: Duration::from_micros(header.load_cost_us.into()),
            stale_by: now.remaining(header.fresh_until),
            age,
            bytes,
            token,
            tags: header.tags.into_iter().map(|carried| carried.tag).filter(|tag| !tag.is_own()).collect(),
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

    /// Counts what cannot be used; what is certainly broken is removed, all else left alone.
    fn unusable(&self, place: Place<'_>, failure: &ReadFailure) -> Judged {
        place.region.counters.count(Event::Undecodable);
        crate::events::undecodable(place.key, failure);
        let removes = failure.may_delete() && self.backend.as_atomic().is_some();
        if removes { Judged::Later(Why::Broken) } else { Judged::As(Stored::LeftAlone) }
    }

    async fn remove_broken(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        let head = bytes.len().min(larder_core::envelope::HEADER_BYTES);
        let broken = Expected::prefix(Bytes::copy_from_slice(&bytes[..head])).with_length(bytes.len());
        self.atomic()?.compare_and_delete(key, &broken).await?;
        Ok(())
    }

    /// Judges what stood under the key when the token was to be placed.
    pub(crate) async fn judge(&self, key: &Key, found: Bytes, region: &RegionState, ops: &ValueOps) -> Result<Stored> {
        // It was asked for within the deadline of this step, which is what limits this too.
        let (asked_at, seen) = (self.timer.now() - region.strategy.remote_deadline, Seen::default());
        let (keys, found) = (std::slice::from_ref(key), vec![Ok(Some(Found::new(found, None)))]);
        let (mut judged, later) = self.judge_all(keys, found, (region, ops), asked_at, &seen);
        if !later.is_empty() {
            self.judge_later(&mut judged, later, seen, (asked_at, Duration::MAX)).await;
        }
        judged.pop().unwrap_or(Ok(Stored::Nothing))
    }

    /// Whether the markers of a stored entry have the versions that it carries; what is no entry holds.
    pub(crate) async fn holds(&self, bytes: &[u8]) -> Result<bool> {
        let Ok((header, _)) = Header::decode(bytes) else { return Ok(true) };
        let (asked, mut seen) = (self.asked(), Seen::default());
        let verdict = seen.judge(&header.tags, &self.tags.known(asked));
        let Verdict::Ask(tags) = verdict else { return Ok(verdict == Verdict::Hold) };
        let ask: Vec<Tag> = tags.iter().map(|carried| carried.tag.clone()).collect();
        self.see(&ask, &mut seen).await;
        seen.confirms(&tags)
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
