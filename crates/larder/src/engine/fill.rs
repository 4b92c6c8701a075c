//! Fill tokens and leases: what a load must still find to be stored, and how other processes learn that it is under way.
//!
//! A load of a key that is absent or dead puts a placeholder in the key itself. One that replaces an entry that may still
//! be served leaves it there: its token is that entry's write id, and others learn of the load by a key of its own, the
//! lease. Both live for [`TOKEN_LIFE`] and are renewed by comparison, so that a process that dies frees them. Only the
//! token matters for correctness.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use larder_core::{
    Error, ErrorKind, Expected, GetOptions, Key, Result, SetOptions, Tag,
    envelope::{CodecId, Header, Kind, TagVersion},
};

use super::{
    hold::is_hold,
    remote::{Encoded, Life, Remote, ttl},
};

/// How long a fill token or a lease lives unless its load renews it.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(3);

/// How long a tag's marker lives: longer than entries usually do. One that goes earlier makes its entries misses.
const MARKER_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a load needs to store its result in the remote tier.
#[derive(Debug)]
pub(crate) struct Fill {
    /// `None`: a writer holds the key or one of its tags, and the load stores nothing in any tier.
    token: Option<Expected>,
    versions: Versions,
    /// What this process has put somewhere for the time of the load.
    placed: Option<Placed>,
}

impl Fill {
    /// That of a load which must store nothing.
    pub(crate) fn barred() -> Self {
        Self { token: None, versions: Versions::default(), placed: None }
    }

    pub(crate) fn is_barred(&self) -> bool {
        self.token.is_none()
    }

    /// Whether the load is announced beside the key and not in it.
    pub(crate) fn is_leased(&self) -> bool {
        self.placed.as_ref().is_some_and(|placed| Some(&placed.token) != self.token.as_ref())
    }
}

/// A placeholder or a lease, its place, and what it begins with.
#[derive(Debug)]
struct Placed {
    key: Key,
    value: Bytes,
    token: Expected,
}

/// The versions of a load's tags before the load.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    tags: Vec<TagVersion>,
    /// That of the namespace's tag-invalidation token: what tags that the loader names later are judged by.
    invalidations: u64,
    /// Whether a writer holds one of the tags: it has no version.
    held: bool,
}

/// What stands under a key that is to be filled.
#[derive(Debug)]
pub(crate) enum Ground {
    /// Nothing.
    Nothing,
    /// An entry that nobody may be served any more.
    Dead(Expected),
    /// An entry that may be served until the load ends. Where processes wait for one another its load is announced.
    Living(Expected, Announce),
    /// Another process's token; it is shared.
    Shared(Expected),
}

/// Whether a load that leaves the entry in its place takes the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announce {
    Yes,
    No,
}

/// What came of the attempt to claim a key.
#[derive(Debug)]
pub(crate) enum Claim<T> {
    /// The load may begin.
    Ours(T),
    /// These bytes stood there: somebody was quicker.
    Found(Bytes),
    /// What stood there has changed.
    Changed,
    /// Another process has the lease of the entry with this token.
    Leased(Expected),
}

/// A key that was claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    token: Expected,
    placed: Option<Placed>,
}

impl Remote {
    /// Prepares a load: claims the key, and captures the versions of its tags at the same time.
    pub(crate) async fn begin_fill(&self, key: &Key, ground: Ground, tags: &[Tag]) -> Result<Claim<Fill>> {
        let (claim, versions) = join(self.claim(key, ground), self.versions(tags)).await;
        self.complete(claim?, versions).await
    }

    /// A claim with the versions of its tags; one whose versions are not known is taken back.
    pub(crate) async fn complete(&self, claim: Claim<Claimed>, versions: Result<Versions>) -> Result<Claim<Fill>> {
        Ok(match (claim, versions) {
            (Claim::Ours(Claimed { token, placed }), Ok(versions)) if !versions.held => {
                Claim::Ours(Fill { token: Some(token), versions, placed })
            }
            (Claim::Ours(Claimed { placed, .. }), versions) => {
                self.release(&Fill { placed, ..Fill::barred() }).await?;
                versions?;
                Claim::Ours(Fill::barred())
            }
            (Claim::Found(bytes), _) => Claim::Found(bytes),
            (Claim::Changed, _) => Claim::Changed,
            (Claim::Leased(token), _) => Claim::Leased(token),
        })
    }

    /// Claims a key for a load: one command, none where a token is shared.
    pub(crate) async fn claim(&self, key: &Key, ground: Ground) -> Result<Claim<Claimed>> {
        let placed = |placed: Placed| Claim::Ours(Claimed { token: placed.token.clone(), placed: Some(placed) });
        match ground {
            Ground::Shared(token) | Ground::Living(token, Announce::No) => {
                Ok(Claim::Ours(Claimed { token, placed: None }))
            }
            Ground::Nothing => {
                let placeholder = self.placeholder(key)?;
                Ok(match self.atomic()?.get_or_set(key, placeholder.value.clone(), TOKEN_LIFE).await? {
                    None => placed(placeholder),
                    Some(found) => Claim::Found(found),
                })
            }
            Ground::Dead(token) => {
                let placeholder = self.placeholder(key)?;
                let options = SetOptions::new().ttl(TOKEN_LIFE);
                let outcome = self.atomic()?.compare_and_set(key, &token, placeholder.value.clone(), options).await?;
                Ok(if outcome.is_stored() { placed(placeholder) } else { Claim::Changed })
            }
            Ground::Living(token, Announce::Yes) => {
                let lease = self.placeholder(&self.lease_key(key))?;
                Ok(match self.atomic()?.get_or_set(&lease.key, lease.value.clone(), TOKEN_LIFE).await? {
                    None => Claim::Ours(Claimed { token, placed: Some(lease) }),
                    Some(_) => Claim::Leased(token),
                })
            }
        }
    }

    /// Renews what this process has placed, while its load goes on; answers whether it was still there.
    pub(crate) async fn renew(&self, fill: &Fill) -> Result<bool> {
        let Some(placed) = &fill.placed else { return Ok(true) };
        let options = SetOptions::new().ttl(TOKEN_LIFE);
        let renewed = self.atomic()?.compare_and_set(&placed.key, &placed.token, placed.value.clone(), options).await?;
        Ok(renewed.is_stored())
    }

    /// Takes back what was placed, so that nobody waits for it.
    pub(crate) async fn release(&self, fill: &Fill) -> Result<()> {
        if let Some(placed) = &fill.placed {
            self.atomic()?.compare_and_delete(&placed.key, &placed.token).await?;
        }
        Ok(())
    }

    /// Stores a loaded value if the key still holds the fill token. `late` are tags that the loader named: they are only
    /// accepted if no tag of the namespace was invalidated since before the load. Answers whether it was stored.
    pub(crate) async fn commit(
        &self,
        key: &Key,
        fill: &Fill,
        late: &[Tag],
        entry: &Encoded,
        life: Life<'_>,
    ) -> Result<bool> {
        let Some(token) = &fill.token else { return Ok(false) };
        let mut tags = fill.versions.tags.clone();
        if !late.is_empty() {
            let late = self.versions(late).await?;
            if late.held || late.invalidations != fill.versions.invalidations {
                return Ok(false);
            }
            tags.extend(late.tags);
        }
        let value = self.entry(entry, tags, life)?;
        let options = SetOptions::new().ttl(ttl(life.plan));
        Ok(self.atomic()?.compare_and_set(key, token, value, options).await?.is_stored())
    }

    /// The versions of tags and of the namespace's tag-invalidation token, made where there are none.
    pub(crate) async fn versions(&self, tags: &[Tag]) -> Result<Versions> {
        let mut keys: Vec<Key> = tags.iter().map(|tag| tag.marker(&self.namespace_prefix)).collect();
        keys.push(self.invalidations_key());
        let mut versions = Vec::with_capacity(keys.len());
        let mut held = false;
        for (marker, found) in keys.iter().zip(self.backend.get_many(&keys, GetOptions::new()).await) {
            let marker = match found?.and_then(|found| Marker::of(&found.value)) {
                Some(known) => known,
                None => self.make_marker(marker).await?,
            };
            versions.push(match marker {
                Marker::Version(version) => version,
                Marker::Held => {
                    held = true;
                    0
                }
            });
        }
        let invalidations = versions.pop().unwrap_or(0);
        let tags = tags.iter().cloned().zip(versions).map(|(tag, version)| TagVersion { tag, version }).collect();
        Ok(Versions { tags, invalidations, held })
    }

    /// The same for an entry that is not the result of a load; `None` while a writer holds one of the tags.
    pub(crate) async fn tag_versions(&self, tags: &[Tag]) -> Result<Option<Vec<TagVersion>>> {
        if tags.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let versions = self.versions(tags).await?;
        Ok((!versions.held).then_some(versions.tags))
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

    fn placeholder(&self, key: &Key) -> Result<Placed> {
        let mut header = Header::new(Kind::Placeholder, CodecId::RAW);
        header.stale_until = self.clock.wall() + TOKEN_LIFE;
        let token = Expected::prefix(Bytes::copy_from_slice(&header.token()));
        Ok(Placed { key: key.clone(), value: Bytes::from(header.encode(&[])?), token })
    }

    /// Where the load of an entry that stays in its place is announced. On its own in its slot group: nothing is done to
    /// it together with the key.
    fn lease_key(&self, key: &Key) -> Key {
        let rest = key.as_str().strip_prefix(self.namespace_prefix.as_str()).unwrap_or(key.as_str());
        Key::from_canonical(format!("{}%lease:{rest}", self.namespace_prefix))
    }
}

/// What stands in a tag's marker.
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
}

/// The version that a marker holds.
pub(crate) fn version(marker: &[u8]) -> Option<u64> {
    marker.try_into().ok().map(u64::from_le_bytes)
}
