//! What stands under a key, and why a read of it would be a hit or a miss.

use std::{fmt, time::Duration};

use larder_core::{
    GetOptions, Key, Result, UnixMillis,
    envelope::{Header, Kind},
};
use serde::Serialize;

use crate::{
    Cache,
    engine::{NearRead, NearState},
    value::{Absent, Failed},
};

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The canonical key.
    pub key: String,
    /// The near entry.
    pub near: Option<NearExplanation>,
    /// What stands in the remote tier.
    pub remote: Option<RemoteExplanation>,
    /// What a read would do, and why.
    pub verdict: String,
}

/// A near entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NearExplanation {
    /// `fresh`, `stale` or `dead`.
    pub state: &'static str,
    /// `value`, `absent` or `failed`.
    pub kind: &'static str,
    /// How old it is.
    pub age: Duration,
    /// How long it is still fresh.
    pub fresh_for: Duration,
    /// How long it may still be served.
    pub stale_for: Duration,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it weighs, with key and overhead, in bytes.
    pub bytes: Option<u64>,
}

/// What stands in the remote tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemoteExplanation {
    /// `fresh`, `stale`, `dead`, `loading`, `held`, or why the bytes are no entry.
    pub state: &'static str,
    /// How the payload is encoded.
    pub codec: &'static str,
    /// How it is compressed.
    pub compression: &'static str,
    /// Bytes stored, header included.
    pub bytes: usize,
    /// How long it is still fresh.
    pub fresh_for: Duration,
    /// How long it may still be served.
    pub stale_for: Duration,
    /// What its load cost.
    pub load_cost: Duration,
    /// Fingerprint of region and version.
    pub schema: u32,
    /// Its tags.
    pub tags: Vec<String>,
    /// How long the store keeps it; `None` for ever.
    pub expires_in: Option<Duration>,
}

impl RemoteExplanation {
    /// Explains stored bytes at a time of the server; needs no cache.
    #[must_use]
    pub fn of(bytes: &[u8], now: UnixMillis, expires_in: Option<Duration>) -> Self {
        let empty = Self {
            state: "foreign",
            codec: "-",
            compression: "-",
            bytes: bytes.len(),
            fresh_for: Duration::ZERO,
            stale_for: Duration::ZERO,
            load_cost: Duration::ZERO,
            schema: 0,
            tags: Vec::new(),
            expires_in,
        };
        let header = match Header::decode(bytes) {
            Ok((header, _)) => header,
            Err(reason) => return Self { state: reason.as_str(), ..empty },
        };
        let (fresh_for, stale_for) = (header.fresh_until.remaining(now), header.stale_until.remaining(now));
        let state = match header.kind {
            Kind::Placeholder => "loading",
            Kind::Hold => "held",
            _ if !fresh_for.is_zero() => "fresh",
            _ if !stale_for.is_zero() => "stale",
            _ => "dead",
        };
        Self {
            state,
            codec: header.codec.name(),
            compression: header.compression.name(),
            fresh_for,
            stale_for,
            load_cost: Duration::from_micros(u64::from(header.load_cost_us)),
            schema: header.schema,
            tags: header.tags.iter().map(|tag| tag.tag.to_string()).collect(),
            ..empty
        }
    }
}

impl Cache {
    /// Says what stands under a key in both tiers and what a read would do. Counts nothing, changes nothing.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn explain<K: larder_core::ToKey>(&self, key: K) -> Result<Explanation> {
        self.explain_key(&self.key(key)).await
    }

    /// The same for a canonical key.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn explain_key(&self, key: &Key) -> Result<Explanation> {
        let near = self.explain_near(key);
        let remote = self.explain_remote(key).await?;
        let verdict = verdict(self, near.as_ref(), remote.as_ref());
        Ok(Explanation { key: key.to_string(), near, remote, verdict })
    }

    fn explain_near(&self, key: &Key) -> Option<NearExplanation> {
        let engine = &self.engine;
        let now = engine.timer.now();
        let NearRead { entry, state } = engine.near_look(key.as_str(), now);
        let entry = entry?;
        let state = match state {
            NearState::Miss => "dead",
            _ if now < entry.fresh_until => "fresh",
            _ => "stale",
        };
        let kind = if entry.value.is::<Absent>() {
            "absent"
        } else if entry.value.is::<Failed>() {
            "failed"
        } else {
            "value"
        };
        let tags = entry.meta.tags().iter().flat_map(|tags| tags.iter()).map(|tag| tag.tag().to_string()).collect();
        Some(NearExplanation {
            state,
            kind,
            age: now.since(entry.meta.loaded_at),
            fresh_for: entry.fresh_until.since(now),
            stale_for: entry.stale_until.since(now),
            tags,
            bytes: engine.near.weight_of(key.as_str()),
        })
    }

    async fn explain_remote(&self, key: &Key) -> Result<Option<RemoteExplanation>> {
        let Some(remote) = &self.engine.remote else { return Ok(None) };
        let limit = self.engine.root.strategy.remote_deadline;
        let found = self.engine.within(limit, remote.get_or_fault(key, GetOptions::new().with_ttl())).await?;
        let Some(found) = found else { return Ok(None) };
        let expires_in = found.remaining.and_then(larder_core::Remaining::duration);
        let mut explanation = RemoteExplanation::of(&found.value, remote.server_now(key), expires_in);
        let holds = self.engine.within(limit, async { remote.holds(&found.value).await }).await?;
        if !holds && matches!(explanation.state, "fresh" | "stale") {
            explanation.state = "dead";
        }
        explanation.tags.retain(|tag| !larder_core::Tag::from_canonical(tag.as_str()).is_own());
        Ok(Some(explanation))
    }
}

fn verdict(cache: &Cache, near: Option<&NearExplanation>, remote: Option<&RemoteExplanation>) -> String {
    if !cache.is_enabled() {
        return "a miss: caching is turned off".to_owned();
    }
    match (near.map(|near| near.state), remote.map(|remote| remote.state)) {
        (Some("fresh"), _) => "a near hit".to_owned(),
        (Some("stale"), _) => "a stale near hit, refreshed in the background".to_owned(),
        (_, Some("fresh")) => "a remote hit".to_owned(),
        (_, Some("stale")) => "a stale remote hit, refreshed in the background".to_owned(),
        (_, Some("loading")) => "a miss: another process is loading it".to_owned(),
        (_, Some("held")) => "a miss: a writer is updating its source".to_owned(),
        (_, Some("dead")) => "a miss: the remote entry is past its life or was invalidated".to_owned(),
        (_, Some(reason)) => format!("a miss: what stands in the remote tier is {reason} and is left alone"),
        (Some(_), None) => "a miss: the near entry is past its life or was invalidated".to_owned(),
        (None, None) => "a miss: it is in neither tier".to_owned(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key)?;
        if let Some(near) = &self.near {
            writeln!(
                f,
                "  near    {} {}, age {:.1?}, fresh for {:.1?}, served for {:.1?}, tags {:?}",
                near.state, near.kind, near.age, near.fresh_for, near.stale_for, near.tags
            )?;
        }
        if let Some(remote) = &self.remote {
            writeln!(
                f,
                "  remote  {}, {} bytes, {} ({}), fresh for {:.1?}, served for {:.1?}, load cost {:.1?}, schema {:08x}, tags {:?}",
                remote.state,
                remote.bytes,
                remote.codec,
                remote.compression,
                remote.fresh_for,
                remote.stale_for,
                remote.load_cost,
                remote.schema,
                remote.tags
            )?;
        }
        write!(f, "  a read would be {}", self.verdict)
    }
}
