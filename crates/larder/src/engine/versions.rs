//! Versions of markers: what is known of them without asking, and what is asked for.
//!
//! Tags, regions and the namespace are one mechanism. Each has a marker, a random number that is only ever made by
//! SET NX GET and invalidated by removing it. An entry carries the numbers that its markers had before its load; a missing
//! or different one makes it dead. While the bus is trusted the process remembers the numbers, so that a read of a tagged
//! entry costs no round trip more than one without tags.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures_util::future::try_join_all;
use larder_core::{Error, ErrorKind, Expiry, GetOptions, Key, Result, Tag, envelope::TagVersion};

use super::{RegionState, fill::MARKER_TTL, hold::is_hold, remote::Remote};
use crate::tags::{Asked, KnownVersions};

/// The versions of a load's tags before the load.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    pub(super) tags: Vec<TagVersion>,
    /// That of the marker that goes with every tag's: what tags that the loader names later are judged by.
    pub(super) any: u64,
    /// Whether a writer holds one of the tags: it has no version.
    pub(super) held: bool,
}

/// What stands in a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Version(u64),
    /// A writer changes the source of what is under the tag.
    Held,
}

impl Marker {
    fn of(bytes: &[u8]) -> Option<Self> {
        version(bytes).map(Self::Version).or_else(|| is_hold(bytes).then_some(Self::Held))
    }

    fn version(self) -> Option<u64> {
        match self {
            Self::Version(version) => Some(version),
            Self::Held => None,
        }
    }
}

/// Versions that were read from the remote tier in the course of one call.
#[derive(Debug, Default)]
pub(super) struct Seen {
    versions: HashMap<Tag, Option<u64>>,
    fault: Option<Error>,
}

/// Whether an entry's tags have the versions that it was stored with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Hold,
    Differ,
    /// As far as is known; these must be asked for.
    Ask(Vec<TagVersion>),
}

impl Seen {
    pub(super) fn put(&mut self, tag: Tag, version: Option<u64>) {
        self.versions.insert(tag, version);
    }

    /// Judges by what was seen, and else by what is known. What is known counts against an entry only if it was read a
    /// moment ago.
    pub(super) fn judge(&self, tags: &[TagVersion], known: &KnownVersions<'_>) -> Verdict {
        let mut ask = Vec::new();
        for carried in tags {
            let TagVersion { tag, version } = carried;
            match (self.versions.get(tag), known.of(tag)) {
                (Some(seen), _) if *seen == Some(*version) => {}
                (Some(_), _) => return Verdict::Differ,
                (None, Some(known)) if known.value == *version => {}
                (None, Some(known)) if known.is_confirmed => return Verdict::Differ,
                (None, _) => ask.push(carried.clone()),
            }
        }
        if ask.is_empty() { Verdict::Hold } else { Verdict::Ask(ask) }
    }

    /// Whether those that had to be asked for are what the entry carries.
    ///
    /// # Errors
    /// The fault, if one of them was not answered.
    pub(super) fn confirms(&self, tags: &[TagVersion]) -> Result<bool> {
        let seen =
            || tags.iter().map(|carried| self.versions.get(&carried.tag).map(|seen| *seen == Some(carried.version)));
        if seen().any(|seen| seen == Some(false)) {
            return Ok(false);
        }
        if seen().all(|seen| seen == Some(true)) {
            return Ok(true);
        }
        Err(self.fault.clone().unwrap_or_else(|| {
            Error::new(ErrorKind::Protocol, "tags", "the remote tier did not answer for every marker")
        }))
    }
}

impl Remote {
    /// Taken before anything is sent.
    pub(crate) fn asked(&self) -> Asked {
        let now = self.timer.now();
        self.tags.asked(self.coherence.period(now), now)
    }

    fn marker(&self, tag: &Tag) -> Key {
        tag.marker(&self.namespace_prefix)
    }

    /// The markers that stand for an entry of a region: those of its tags, its region and its namespace.
    pub(super) fn marked<'t>(&'t self, region: &'t RegionState, tags: &'t [Tag]) -> impl Iterator<Item = &'t Tag> {
        region.own_tags(&self.namespace_prefix).iter().chain(tags)
    }

    /// Those whose versions must be asked for.
    pub(super) fn unknown<'t>(&self, tags: impl Iterator<Item = &'t Tag>, asked: Asked) -> Vec<Tag> {
        let known = self.tags.known(asked);
        tags.filter(|tag| known.of(tag).is_none()).cloned().collect()
    }

    /// Whether none of them must be asked for.
    pub(super) fn knows<'t>(&self, mut tags: impl Iterator<Item = &'t Tag>, asked: Asked) -> bool {
        let known = self.tags.known(asked);
        tags.all(|tag| known.of(tag).is_some())
    }

    pub(super) fn markers(&self, tags: &[Tag]) -> Vec<Key> {
        tags.iter().map(|tag| self.marker(tag)).collect()
    }

    /// Remembers what markers hold, if it was certainly the remote tier that said so, and the bus is trusted.
    pub(super) fn learn(&self, versions: &[(&Tag, Option<u64>)], asked: Asked) {
        if asked.period().is_none() || !self.fallback.is_calm() {
            return;
        }
        for (tag, version) in versions {
            self.tags.learn(tag, *version, asked);
        }
    }

    /// Reads the markers of tags; those that cannot be read are left out.
    pub(super) async fn see(&self, tags: &[Tag], seen: &mut Seen) {
        if tags.is_empty() {
            return;
        }
        let asked = self.asked();
        // A marker that could not be read is not one that is gone.
        let answers = self.fallback.get_many_or_fault(&self.markers(tags), GetOptions::new(), Duration::MAX).await;
        let mut learnt = Vec::with_capacity(tags.len());
        for (tag, answer) in tags.iter().zip(answers) {
            match answer {
                Ok(found) => {
                    let found = found.and_then(|found| version(&found.value));
                    seen.put(tag.clone(), found);
                    learnt.push((tag, found));
                }
                Err(error) => seen.fault = Some(error),
            }
        }
        self.learn(&learnt, asked);
    }

    /// The versions of an entry's markers before its load, made where there are none; at most one round trip, and one more
    /// for those that are made.
    pub(crate) async fn versions(&self, region: &RegionState, tags: &[Tag]) -> Result<Versions> {
        let any = Tag::any();
        let all: Vec<&Tag> = self.marked(region, tags).chain(std::iter::once(&any)).collect();
        let asked = self.asked();
        let known: Vec<Option<u64>> = {
            let known = self.tags.known(asked);
            all.iter().map(|tag| known.of(tag).map(|known| known.value)).collect()
        };
        let missing = all.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(tag, _)| (*tag).clone());
        let mut read = self.read_or_make(&missing.collect::<Vec<_>>()).await?.into_iter();
        let (mut versions, mut held) = (Vec::with_capacity(all.len()), false);
        for (tag, known) in all.into_iter().zip(known) {
            let marker = known.map(Marker::Version).or_else(|| read.next());
            let marker = marker.ok_or_else(|| Error::new(ErrorKind::Protocol, "tags", "a marker was not read"))?;
            held |= marker == Marker::Held;
            versions.push(TagVersion { tag: tag.clone(), version: marker.version().unwrap_or(0) });
        }
        let any = versions.pop().map_or(0, |any| any.version);
        Ok(Versions { tags: versions, any, held })
    }

    /// The versions of tags that a loader named, as they are now: what is remembered may be older than the load.
    pub(super) async fn late_versions(&self, tags: &[Tag]) -> Result<Versions> {
        let markers = self.read_or_make(tags).await?;
        let held = markers.contains(&Marker::Held);
        // Only when the markers stand: a tag whose marker was made just now may have been invalidated a moment before.
        let any = self.read_or_make(&[Tag::any()]).await?.pop().and_then(Marker::version).unwrap_or(0);
        let versions = markers.into_iter().map(|marker| marker.version().unwrap_or(0));
        let tags = tags.iter().cloned().zip(versions).map(|(tag, version)| TagVersion { tag, version }).collect();
        Ok(Versions { tags, any, held })
    }

    async fn read_or_make(&self, tags: &[Tag]) -> Result<Vec<Marker>> {
        if tags.is_empty() {
            return Ok(Vec::new());
        }
        let asked = self.asked();
        let found = self.backend.get_many(&self.markers(tags), GetOptions::new()).await;
        let versions = try_join_all(tags.iter().zip(found).map(|(tag, found)| async move {
            match found?.and_then(|found| Marker::of(&found.value)) {
                Some(marker) => Ok(marker),
                None => self.make_marker(&self.marker(tag)).await,
            }
        }));
        let markers: Vec<Marker> = versions.await?;
        let learnt: Vec<_> = tags.iter().zip(&markers).map(|(tag, marker)| (tag, marker.version())).collect();
        self.learn(&learnt, asked);
        Ok(markers)
    }

    async fn make_marker(&self, marker: &Key) -> Result<Marker> {
        let fresh = fastrand::u64(..);
        let value = Bytes::copy_from_slice(&fresh.to_le_bytes());
        match self.atomic()?.get_or_set(marker, value, MARKER_TTL).await? {
            None => Ok(Marker::Version(fresh)),
            Some(found) => Marker::of(&found).ok_or_else(|| {
                let message = "the tag's marker was overwritten by another program; delete it";
                Error::new(ErrorKind::KindMismatch, "tags", message).with_key(marker)
            }),
        }
    }

    /// Lets the markers of what was stored live on for as long as new ones do, once a day. Past the fallback: that would
    /// remember a removal if it failed, and here nothing is lost then.
    pub(super) async fn prolong(&self, versions: &Versions) {
        let due = self.tags.due_for_prolonging(versions.tags.iter().map(|tag| &tag.tag), self.timer.now());
        if due.is_empty() || !self.fallback.is_calm() {
            return;
        }
        for answer in self.primary.expire_many(&self.markers(&due), Expiry::After(MARKER_TTL)).await {
            if let Err(error) = answer {
                crate::events::degraded("prolong", &error);
            }
        }
    }
}

/// The version that a marker holds.
pub(crate) fn version(marker: &[u8]) -> Option<u64> {
    marker.try_into().ok().map(u64::from_le_bytes)
}
