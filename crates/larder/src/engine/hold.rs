//! Holds: what a writer puts into keys and tag markers while it changes their source, so that readers load and store
//! nothing.
//!
//! Several writers may hold the same key. The hold names them all, each with the time until which it counts; joining and
//! leaving are compare-and-set on the hold's write id, so that the first to finish takes only its own name out, and the
//! last one removes the key. A writer that dies drops out when its time has passed.

use std::time::Duration;

use bytes::Bytes;
use larder_core::{
    BackendExt, Error, ErrorKind, Expected, Key, Result, SetOptions, UnixMillis,
    envelope::{CodecId, Header, Kind},
};

use super::Remote;

/// How long a hold lives unless its writer renews it: how long the keys of one that died are loaded and not stored.
pub(crate) const HOLD_LIFE: Duration = Duration::from_secs(10);

/// Writers that one hold names at most. Of more, the one that renewed it longest ago drops out.
const MOST_WRITERS: usize = 64;

/// How often a change is tried that others are quicker with.
const ATTEMPTS: usize = 16;

/// One writer's hold on one key.
#[derive(Debug)]
pub(crate) struct Hold {
    key: Key,
    writer: u64,
    /// What this process has last written, if it stands there still.
    written: Option<Bytes>,
    /// Whether it took the place of something.
    pub(crate) replaced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Writer {
    id: u64,
    until: UnixMillis,
}

impl Hold {
    pub(crate) fn new(key: Key, writer: u64) -> Self {
        Self { key, writer, written: None, replaced: false }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The other writers that still count.
    fn others(&self, standing: Option<&[Writer]>, now: UnixMillis) -> Vec<Writer> {
        let counts = |writer: &&Writer| writer.id != self.writer && writer.until > now;
        standing.unwrap_or_default().iter().filter(counts).copied().collect()
    }
}

impl Remote {
    /// Puts the hold into its key, or renews it: one command, two where something stands there.
    pub(crate) async fn hold(&self, hold: &mut Hold) -> Result<()> {
        let atomic = if hold.written.is_some() { self.for_renewals()? } else { self.atomic()? };
        let mut standing = hold.written.take();
        for _ in 0..ATTEMPTS {
            let now = self.server_now(&hold.key);
            let named = standing.as_deref().and_then(writers);
            let mut all = hold.others(named.as_deref(), now);
            if all.len() >= MOST_WRITERS {
                all.remove(0);
            }
            // The last to renew stands last.
            all.push(Writer { id: hold.writer, until: now + HOLD_LIFE });
            let next = encode(&all)?;
            standing = match standing {
                None => match atomic.get_or_set(&hold.key, next.clone(), HOLD_LIFE).await? {
                    None => {
                        hold.written = Some(next);
                        return Ok(());
                    }
                    found => found,
                },
                Some(found) => {
                    let options = SetOptions::new().ttl(HOLD_LIFE);
                    let expected = identity(&found);
                    if atomic.compare_and_set(&hold.key, &expected, next.clone(), options).await?.is_stored() {
                        hold.replaced |= replaces(&found);
                        hold.written = Some(next);
                        return Ok(());
                    }
                    self.backend.get(&hold.key).await?
                }
            };
        }
        Err(contended(&hold.key))
    }

    /// Takes the writer's name out of the hold; the last one removes the key. Answers whether it is certain that nothing
    /// but holds stood there: else the key is to be removed.
    pub(crate) async fn leave(&self, hold: &mut Hold) -> Result<bool> {
        let atomic = self.atomic()?;
        let mut standing = hold.written.take();
        if standing.is_none() {
            standing = self.backend.get(&hold.key).await?;
        }
        for _ in 0..ATTEMPTS {
            let Some(found) = standing else { return Ok(false) };
            let Some(named) = writers(&found) else { return Ok(false) };
            let now = self.server_now(&hold.key);
            let others = hold.others(Some(&named), now);
            let left = if others.is_empty() {
                atomic.compare_and_delete(&hold.key, &identity(&found)).await?
            } else if named.iter().all(|writer| writer.id != hold.writer) {
                true
            } else {
                let life = others.iter().map(|writer| writer.until.remaining(now)).max().unwrap_or(HOLD_LIFE);
                let options = SetOptions::new().ttl(life);
                atomic.compare_and_set(&hold.key, &identity(&found), encode(&others)?, options).await?.is_stored()
            };
            if left {
                return Ok(true);
            }
            standing = self.backend.get(&hold.key).await?;
        }
        Err(contended(&hold.key))
    }
}

fn contended(key: &Key) -> Error {
    let message = format!("other writers changed the hold {ATTEMPTS} times in between");
    Error::new(ErrorKind::Unavailable, "update", message).with_key(key)
}

fn encode(writers: &[Writer]) -> Result<Bytes> {
    let payload: Vec<u8> =
        writers.iter().flat_map(|writer| [writer.id, writer.until.0]).flat_map(u64::to_le_bytes).collect();
    let mut header = Header::new(Kind::Hold, CodecId::RAW);
    header.plain_len = payload.len();
    if let Some(until) = writers.iter().map(|writer| writer.until).max() {
        header.stale_until = until;
    }
    Ok(Bytes::from(header.encode(&payload)?))
}

/// Who is named in a hold; `None` if these bytes are none.
fn writers(bytes: &[u8]) -> Option<Vec<Writer>> {
    let (_, payload) = Header::decode(bytes).ok().filter(|(header, _)| header.kind == Kind::Hold)?;
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let writer = |pair: &[u8]| Writer { id: number(&pair[..8]), until: UnixMillis(number(&pair[8..])) };
    Some(payload.chunks_exact(16).map(writer).collect())
}

/// Whether these bytes, of a key or of a tag's marker, are a hold.
pub(crate) fn is_hold(bytes: &[u8]) -> bool {
    Header::decode(bytes).is_ok_and(|(header, _)| header.kind == Kind::Hold)
}

/// What tells stored bytes from others: an entry's write id, all of a tag's marker.
fn identity(bytes: &Bytes) -> Expected {
    match Header::decode(bytes) {
        Ok((header, _)) => Expected::prefix(header.token().to_vec()),
        Err(_) => Expected::exactly(bytes.clone()),
    }
}

/// Whether it counts as an entry, or as the marker of a tag, that has been removed.
fn replaces(bytes: &[u8]) -> bool {
    Header::decode(bytes).map_or(true, |(header, _)| matches!(header.kind, Kind::Value | Kind::Negative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_names_its_writers_and_nothing_else_is_one() {
        let all = [Writer { id: 1, until: UnixMillis(10) }, Writer { id: 2, until: UnixMillis(20) }];
        let bytes = encode(&all).unwrap();
        assert_eq!(writers(&bytes).unwrap(), all);
        assert!(is_hold(&bytes));
        let placeholder = Header::new(Kind::Placeholder, CodecId::RAW).encode(&[]).unwrap();
        for other in [&b"12345678"[..], &placeholder[..], b""] {
            assert_eq!(writers(other), None);
            assert!(!is_hold(other));
        }
    }

    #[test]
    fn a_writer_counts_until_its_time_has_passed_and_never_as_another() {
        let all = [Writer { id: 1, until: UnixMillis(10) }, Writer { id: 2, until: UnixMillis(20) }];
        let hold = Hold::new(Key::new("k"), 2);
        assert_eq!(hold.others(Some(&all), UnixMillis(9)), &all[..1]);
        assert_eq!(hold.others(Some(&all), UnixMillis(10)), &[]);
    }
}
