//! Fill tokens and leases: what a load must still find to be stored, and how other processes learn that it is under way.
//!
//! A load of a key that is absent or dead puts a placeholder in the key itself. One that replaces an entry that may still
//! be served leaves it there: its token is that entry's write id, and others learn of the load by a key of its own, the
//! lease. Both live for [`TOKEN_LIFE`] and are renewed by comparison, so that a process that dies frees them. Only the
//! token matters for correctness.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join;
use larder_core::{
    Backend, Expected, Key, Result, SetOptions, Tag,
    envelope::{CodecId, Header, Kind},
};

use super::{
    RegionState,
    remote::{Encoded, Life, Remote, ttl},
    versions::Versions,
};

/// How long a fill token or a lease lives unless its load renews it.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(3);

/// How long a marker lives from when it was last used: longer than entries usually do. One that goes earlier makes its
/// entries misses.
pub(super) const MARKER_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a load needs to store its result in the remote tier.
#[derive(Debug)]
pub(crate) struct Fill {
    /// `None`: a writer holds the key or one of its tags, and the load stores nothing in any tier.
    token: Option<Expected>,
    versions: Versions,
    /// What this process has put somewhere for the time of the load.
    placed: Option<Placed>,
    /// Whether the token is that of an entry which the load is to replace.
    replaces: bool,
}

impl Fill {
    /// That of a load which must store nothing.
    pub(crate) fn barred() -> Self {
        Self { token: None, versions: Versions::default(), placed: None, replaces: false }
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
#[derive(Debug, Clone)]
struct Placed {
    key: Key,
    value: Bytes,
    token: Expected,
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
    placed: Option<Placing>,
    replaces: bool,
}

impl Claimed {
    /// By a placeholder.
    fn by(placing: Placing) -> Self {
        Self { token: placing.placed.token.clone(), placed: Some(placing), replaces: false }
    }
}

impl Remote {
    /// Prepares a load: claims the key, and captures the versions of its tags at the same time.
    pub(crate) async fn begin_fill(
        &self,
        key: &Key,
        ground: Ground,
        region: &RegionState,
        tags: &[Tag],
    ) -> Result<Claim<Fill>> {
        let (claim, versions) = join(self.claim(key, ground), self.versions(region, tags)).await;
        Self::complete(claim?, versions)
    }

    /// A claim with the versions of its tags; one whose versions are not known is taken back.
    pub(crate) fn complete(claim: Claim<Claimed>, versions: Result<Versions>) -> Result<Claim<Fill>> {
        Ok(match (claim, versions) {
            (Claim::Ours(Claimed { token, placed, replaces }), versions) => {
                let versions = versions?;
                if versions.held {
                    // What was placed is taken back as it is dropped.
                    return Ok(Claim::Ours(Fill::barred()));
                }
                Claim::Ours(Fill { token: Some(token), versions, placed: placed.map(Placing::settled), replaces })
            }
            (Claim::Found(bytes), _) => Claim::Found(bytes),
            (Claim::Changed, _) => Claim::Changed,
            (Claim::Leased(token), _) => Claim::Leased(token),
        })
    }

    /// Claims a key for a load: one command, none where a token is shared.
    pub(crate) async fn claim(&self, key: &Key, ground: Ground) -> Result<Claim<Claimed>> {
        match ground {
            Ground::Shared(token) => Ok(Claim::Ours(Claimed { token, placed: None, replaces: false })),
            Ground::Living(token, Announce::No) => Ok(Claim::Ours(Claimed { token, placed: None, replaces: true })),
            Ground::Nothing => {
                let placing = self.placing(key)?;
                Ok(match self.place(&placing).await? {
                    None => Claim::Ours(Claimed::by(placing)),
                    Some(found) => {
                        placing.settled();
                        Claim::Found(found)
                    }
                })
            }
            Ground::Dead(token) => {
                let placing = self.placing(key)?;
                let options = SetOptions::new().ttl(TOKEN_LIFE);
                let outcome =
                    self.atomic()?.compare_and_set(key, &token, placing.placed.value.clone(), options).await?;
                Ok(if outcome.is_stored() {
                    Claim::Ours(Claimed::by(placing))
                } else {
                    placing.settled();
                    Claim::Changed
                })
            }
            Ground::Living(token, Announce::Yes) => {
                let placing = self.placing(&self.lease_key(key))?;
                Ok(match self.place(&placing).await? {
                    None => Claim::Ours(Claimed { token, placed: Some(placing), replaces: true }),
                    Some(_) => {
                        placing.settled();
                        Claim::Leased(token)
                    }
                })
            }
        }
    }

    /// Puts a placeholder or a lease where nothing stands; answers what stands there else.
    async fn place(&self, placing: &Placing) -> Result<Option<Bytes>> {
        let Placed { key, value, .. } = &placing.placed;
        self.atomic()?.get_or_set(key, value.clone(), TOKEN_LIFE).await
    }

    /// Renews what this process has placed, while its load goes on; answers whether it was still there.
    pub(crate) async fn renew(&self, fill: &Fill) -> Result<bool> {
        let Some(placed) = &fill.placed else { return Ok(true) };
        let options = SetOptions::new().ttl(TOKEN_LIFE);
        let renewed =
            self.for_renewals()?.compare_and_set(&placed.key, &placed.token, placed.value.clone(), options).await?;
        Ok(renewed.is_stored())
    }

    /// Takes back what was placed, so that nobody waits for it.
    pub(crate) async fn release(&self, fill: &Fill) -> Result<()> {
        if let Some(placed) = &fill.placed {
            self.atomic()?.compare_and_delete(&placed.key, &placed.token).await?;
        }
        Ok(())
    }

    /// Removes the entry that a load was to replace, if it stands there still.
    pub(crate) async fn remove_replaced(&self, key: &Key, fill: &Fill) -> Result<()> {
        if let Some(token) = fill.token.as_ref().filter(|_| fill.replaces) {
            self.atomic()?.compare_and_delete(key, token).await?;
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
            let late = self.late_versions(late).await?;
            if late.held || late.any != fill.versions.any {
                return Ok(false);
            }
            tags.extend(late.tags);
        }
        let value = self.entry(key, entry, tags, life)?;
        let options = SetOptions::new().ttl(ttl(life.plan));
        let stored = self.atomic()?.compare_and_set(key, token, value, options).await?.is_stored();
        if stored {
            self.prolong(&fill.versions).await;
        }
        Ok(stored)
    }

    fn placing(&self, key: &Key) -> Result<Placing> {
        let mut header = Header::new(Kind::Placeholder, CodecId::RAW);
        header.stale_until = self.server_now(key) + TOKEN_LIFE;
        let token = Expected::prefix(Bytes::copy_from_slice(&header.token()));
        let placed = Placed { key: key.clone(), value: Bytes::from(header.encode(&[])?), token };
        Ok(Placing { backend: Arc::clone(&self.backend), placed, is_open: true })
    }

    /// Where the load of an entry that stays in its place is announced. On its own in its slot group: nothing is done to
    /// it together with the key.
    fn lease_key(&self, key: &Key) -> Key {
        let rest = key.as_str().strip_prefix(self.namespace_prefix.as_str()).unwrap_or(key.as_str());
        Key::from_canonical(format!("{}%lease:{rest}", self.namespace_prefix))
    }
}

/// What is being placed, until a load has it. Dropped before that (there was no answer, or nobody wanted it any more), it may
/// stand there, and is taken back so that others do not wait for it.
#[derive(Debug)]
struct Placing {
    backend: Arc<dyn Backend>,
    placed: Placed,
    is_open: bool,
}

impl Placing {
    /// A load has it, or it was not placed.
    fn settled(mut self) -> Placed {
        self.is_open = false;
        self.placed.clone()
    }
}

impl Drop for Placing {
    fn drop(&mut self) {
        // Without a runtime it stays until its life ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_open {
            return;
        }
        let (backend, Placed { key, token, .. }) = (Arc::clone(&self.backend), self.placed.clone());
        runtime.spawn(async move {
            if let Some(atomic) = backend.as_atomic()
                && let Err(error) = atomic.compare_and_delete(&key, &token).await
            {
                crate::events::remote_fault(Some(&key), &error);
            }
        });
    }
}
