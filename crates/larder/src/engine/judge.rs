//! What is made of bytes that stand in the remote tier: an entry that may be served, one that is dead, another process's
//! token, or nothing of ours. At once, as far as the versions of the tags are known and nothing is broken; the rest takes one
//! round trip more for all.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use larder_codec::ReadFailure;
use larder_core::{
    Each, Expected, Found, Key, Result, Tag, Tick, UnixMillis,
    envelope::{HEADER_BYTES, Header, Kind, TagVersion},
};
use larder_memory::AnyValue;

use super::{
    RegionState,
    remote::{Remote, RemoteEntry, Stored, expected, late},
    versions::{Seen, Verdict},
};
use crate::{
    stats::Event,
    value::{Absent, ValueOps},
};

/// Where an entry was found, before when it was asked for, and what time its server has.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a Key,
    region: &'a RegionState,
    ops: &'a ValueOps,
    asked_at: Tick,
    now: UnixMillis,
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
pub(super) struct Later<'a> {
    index: usize,
    place: Place<'a>,
    bytes: Bytes,
    why: Why,
}

/// Takes what stands under the key at each place of the input, each once, in any order.
pub(crate) type Sink<'s> = dyn FnMut(usize, Result<Stored>) + Send + 's;

impl Remote {
    /// Judges what stands under keys, as far as the versions of their tags are known and nothing is broken.
    pub(super) fn judge_all<'a>(
        &self,
        keys: &'a [Key],
        found: Each<Option<Found>>,
        (region, ops): (&'a RegionState, &'a ValueOps),
        (asked_at, seen): (Tick, &Seen),
        each: &mut Sink<'_>,
    ) -> Vec<Later<'a>> {
        let (asked, mut later) = (self.asked(), Vec::new());
        // That of the one server, if there is only one.
        let shared = (!keys.is_empty() && self.has_one_server()).then(|| self.server_now(&keys[0]));
        for (index, (key, found)) in keys.iter().zip(found).enumerate() {
            let bytes = match found {
                Ok(Some(found)) => found.value,
                absent => {
                    each(index, absent.map(|_| Stored::Nothing));
                    continue;
                }
            };
            let place = Place { key, region, ops, asked_at, now: shared.unwrap_or_else(|| self.server_now(key)) };
            match self.judge_one(place, &bytes, |tags| seen.judge(tags, &self.tags.known(asked))) {
                Judged::As(stored) => each(index, Ok(stored)),
                Judged::Later(why) => later.push(Later { index, place, bytes, why }),
            }
        }
        later
    }

    /// Judges what stands under one key that was asked for then, within what is left of the limit.
    ///
    /// # Errors
    /// What has to wait for another round trip. Boxed, so that reads which need none do not have its size.
    pub(super) fn judge_now<'a>(
        &'a self,
        key: &'a Key,
        bytes: Bytes,
        (region, ops): (&'a RegionState, &'a ValueOps),
        (asked_at, limit): (Tick, Duration),
    ) -> Result<Stored, BoxFuture<'a, Result<Stored>>> {
        let place = Place { key, region, ops, asked_at, now: self.server_now(key) };
        let (seen, asked) = (Seen::default(), self.asked());
        let why = match self.judge_one(place, &bytes, |tags| seen.judge(tags, &self.tags.known(asked))) {
            Judged::As(stored) => return Ok(stored),
            Judged::Later(why) => why,
        };
        Err(Box::pin(async move {
            let (mut judged, later) = (Ok(Stored::Nothing), vec![Later { index: 0, place, bytes, why }]);
            self.judge_later(later, seen, (asked_at, limit), &mut |_, stored| judged = stored).await;
            judged
        }))
    }

    /// Asks for the versions that are needed, for all in one round trip, and removes what is broken; within what is left of
    /// the limit.
    pub(super) async fn judge_later(
        &self,
        mut later: Vec<Later<'_>>,
        mut seen: Seen,
        (asked_at, limit): (Tick, Duration),
        each: &mut Sink<'_>,
    ) {
        let left = self.timer.left_of(limit, asked_at + limit);
        let in_time = {
            let judging = async {
                self.ask_for_versions(&mut later, &mut seen, each).await;
                let broken = later.iter().filter(|later| matches!(later.why, Why::Broken));
                let removals = broken.map(|Later { index, place, bytes, .. }| {
                    self.remove_broken(place.key, bytes).map(|removed| (*index, removed))
                });
                for (index, removed) in join_all(removals).await {
                    each(index, removed.map(|()| Stored::Nothing));
                }
            };
            self.timer.within(left, pin!(judging)).await.is_some()
        };
        if !in_time {
            let open = later.iter().filter(|later| !matches!(later.why, Why::Settled));
            open.for_each(|later| each(later.index, Err(late(limit))));
        }
    }

    async fn ask_for_versions(&self, later: &mut [Later<'_>], seen: &mut Seen, each: &mut Sink<'_>) {
        let mut ask: Vec<Tag> = later.iter().flat_map(|later| later.why.asks()).map(|it| it.tag.clone()).collect();
        ask.sort_unstable();
        ask.dedup();
        self.see(&ask, seen).await;
        for Later { index, place, bytes, why } in later {
            let Why::Ask(tags) = why else { continue };
            let verdict = seen.confirms(tags).map(|holds| if holds { Verdict::Hold } else { Verdict::Differ });
            place.now = self.server_now(place.key);
            let judgement = match verdict.map(|verdict| self.judge_one(*place, bytes, |_| verdict)) {
                Ok(Judged::Later(broken)) => {
                    *why = broken;
                    continue;
                }
                Ok(Judged::As(stored)) => Ok(stored),
                Err(error) => Err(error),
            };
            *why = Why::Settled;
            each(*index, judgement);
        }
    }

    /// Judges what stands under a key, if `holds` knows whether its tags do.
    fn judge_one(&self, place: Place<'_>, bytes: &Bytes, holds: impl FnOnce(&[TagVersion]) -> Verdict) -> Judged {
        let own = place.region.own_tags(&self.namespace_prefix);
        let (header, payload) = match larder_codec::read_header(bytes, place.region.schema, own) {
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
        let Place { region, ops, asked_at, now, .. } = place;
        let token = header.token();
        let life = if header.ttl_ms == u64::MAX { Duration::MAX } else { Duration::from_millis(header.ttl_ms) };
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
        let head = bytes.len().min(HEADER_BYTES);
        let broken = Expected::prefix(Bytes::copy_from_slice(&bytes[..head])).with_length(bytes.len());
        self.atomic()?.compare_and_delete(key, &broken).await?;
        Ok(())
    }

    /// Judges what stood under the key when the token was to be placed.
    pub(crate) async fn judge(&self, key: &Key, found: Bytes, region: &RegionState, ops: &ValueOps) -> Result<Stored> {
        // It was asked for within the deadline of this step, which is what limits this too.
        let asked_at = self.timer.now() - region.strategy.remote_deadline;
        match self.judge_now(key, found, (region, ops), (asked_at, Duration::MAX)) {
            Ok(stored) => Ok(stored),
            Err(later) => later.await,
        }
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
}
