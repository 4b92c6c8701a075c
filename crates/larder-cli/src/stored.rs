//! What stands under a key, as the server keeps it.

use anyhow::Result;
use larder::{RemoteExplanation, codec};
use larder_core::{
    Backend, BackendExt, Bytes, Clock, ErrorKind, GetOptions, Key, Remaining, SystemClock,
    envelope::{CodecId, Header, Kind, MAX_PAYLOAD_BYTES, Unreadable},
};
use serde_json::{Value, json};

use crate::{
    decoded::{Decoded, hex},
    session::Session,
    span::millis,
};

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Value,
    /// The loader found nothing, and that is remembered.
    Absent,
    /// A process is loading the value.
    Loading,
    /// A writer is updating the source.
    Held,
    Counter(i64),
    /// Another program's text or bytes.
    Foreign,
    /// An entry that this release cannot use.
    Unusable(Unreadable),
    /// No string of bytes: a list, a hash and so on.
    OtherType,
}

/// What stands under a key.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) key: Key,
    pub(crate) content: Content,
    pub(crate) explanation: RemoteExplanation,
    pub(crate) tags: Vec<TagState>,
    header: Option<Header>,
    bytes: Bytes,
}

/// What a tag is called.
fn name(tag: &larder_core::Tag) -> String {
    match tag.as_prefix() {
        Some(prefix) => format!("(region {})", prefix.trim_end_matches(':')),
        None if tag.is_own() => "(namespace)".to_owned(),
        None => tag.to_string(),
    }
}

/// A tag of an entry, and whether the entry is older than the tag's last invalidation.
#[derive(Debug)]
pub(crate) struct TagState {
    pub(crate) name: String,
    pub(crate) holds: bool,
}

/// A value fit to be shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// `json`, `text` or `hex`.
    pub(crate) encoding: &'static str,
    pub(crate) value: Value,
    /// Why the payload could not be decoded, where it should have been.
    pub(crate) undecodable: Option<String>,
}

impl Content {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Absent => "absent",
            Self::Loading => "loading",
            Self::Held => "held",
            Self::Counter(_) => "counter",
            Self::Foreign => "foreign",
            Self::Unusable(reason) => reason.as_str(),
            Self::OtherType => "other_type",
        }
    }
}

impl Stored {
    /// Reads a key: one round trip, and one more for an entry with tags.
    pub(crate) async fn read(session: &Session, key: &Key) -> Result<Option<Self>> {
        let found = match session.redis.get_with_ttl(key).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::KindMismatch => return Self::of_other_type(session, key).await,
            Err(error) => return Err(session.failed(&error)),
        };
        let Some(found) = found else { return Ok(None) };
        let expires_in = found.remaining.and_then(Remaining::duration);
        let mut stored = Self::of(key, found.value, expires_in);
        stored.tags = stored.tag_states(session).await?;
        Ok(Some(stored))
    }

    async fn of_other_type(session: &Session, key: &Key) -> Result<Option<Self>> {
        let remaining = session.redis.ttl(key).await.map_err(|error| session.failed(&error))?;
        Ok(remaining.map(|remaining| {
            let stored = Self::of(key, Bytes::new(), remaining.duration());
            Self { content: Content::OtherType, ..stored }
        }))
    }

    fn of(key: &Key, bytes: Bytes, expires_in: Option<std::time::Duration>) -> Self {
        let explanation = RemoteExplanation::of(&bytes, SystemClock::new().wall(), expires_in);
        let (content, header) = match Header::decode(&bytes) {
            Ok((header, _)) => (content_of(header.kind), Some(header)),
            Err(Unreadable::Foreign) => (counter(&bytes).map_or(Content::Foreign, Content::Counter), None),
            Err(reason) => (Content::Unusable(reason), None),
        };
        Self { key: key.clone(), content, explanation, tags: Vec::new(), header, bytes }
    }

    async fn tag_states(&self, session: &Session) -> Result<Vec<TagState>> {
        let Some(header) = self.header.as_ref().filter(|header| !header.tags.is_empty()) else {
            return Ok(Vec::new());
        };
        let markers: Vec<Key> = header.tags.iter().map(|tag| tag.tag.marker(&session.names.prefix)).collect();
        let mut states = Vec::with_capacity(markers.len());
        for (tag, marker) in header.tags.iter().zip(session.redis.get_many(&markers, GetOptions::new()).await) {
            let marker = marker.map_err(|error| session.failed(&error))?;
            let holds = marker.is_some_and(|marker| marker.value[..] == tag.version.to_le_bytes());
            // What every entry carries is of interest only if it makes this one dead.
            if !holds || !tag.tag.is_own() {
                states.push(TagState { name: name(&tag.tag), holds });
            }
        }
        Ok(states)
    }

    /// `fresh`, `stale`, `dead`, `loading` or `held`; for what is no entry the name of its kind.
    pub(crate) fn state(&self) -> &'static str {
        match self.content {
            Content::Value | Content::Absent if self.tags.iter().any(|tag| !tag.holds) => "dead",
            Content::Value | Content::Absent => self.explanation.state,
            other => other.name(),
        }
    }

    /// What can be read with `--raw`: the payload without compression, or the bytes of what is no entry.
    pub(crate) fn payload(&self) -> Result<Vec<u8>> {
        let Some(header) = &self.header else { return Ok(self.bytes.to_vec()) };
        let plain = codec::decompress(header.compression, self.stored_payload(), header.plain_len, MAX_PAYLOAD_BYTES)?;
        Ok(plain.into_owned())
    }

    /// Behind header and tags.
    fn stored_payload(&self) -> &[u8] {
        Header::decode(&self.bytes).map_or(&self.bytes[..], |(_, payload)| payload)
    }

    /// The value, decoded as far as its codec says what it is.
    pub(crate) fn shown(&self) -> Option<Shown> {
        match self.content {
            Content::Counter(count) => Some(Shown { encoding: "json", value: count.into(), undecodable: None }),
            Content::Foreign => Some(text_or_hex(&self.bytes)),
            Content::Unusable(_) => Some(in_hex(&self.bytes, None)),
            Content::Value => self.header.as_ref().map(|header| self.decoded(header)),
            Content::Absent | Content::Loading | Content::Held | Content::OtherType => None,
        }
    }

    fn decoded(&self, header: &Header) -> Shown {
        let describes_itself = matches!(header.codec, CodecId::JSON | CodecId::MSGPACK);
        let decoded = if describes_itself {
            codec::decode_payload(header, self.stored_payload()).map(|Decoded(value)| Some(value))
        } else {
            Ok(None)
        };
        match decoded {
            Ok(Some(value)) => Shown { encoding: "json", value, undecodable: None },
            Ok(None) => match self.payload() {
                Ok(plain) => in_hex(&plain, None),
                Err(error) => in_hex(self.stored_payload(), Some(error.to_string())),
            },
            Err(error) => in_hex(self.stored_payload(), Some(error.to_string())),
        }
    }

    /// The fields that all documents about a stored key share.
    pub(crate) fn json(&self) -> Value {
        let entry = self.header.as_ref().filter(|_| matches!(self.content, Content::Value | Content::Absent));
        let explanation = &self.explanation;
        let tags: Vec<Value> = self.tags.iter().map(|tag| json!({"tag": tag.name, "holds": tag.holds})).collect();
        json!({
            "key": self.key.as_str(),
            "found": true,
            "kind": self.content.name(),
            "state": self.state(),
            "codec": entry.map(|_| explanation.codec),
            "compression": entry.map(|_| explanation.compression),
            "bytes": self.bytes.len(),
            "payload_bytes": entry.map(|header| header.plain_len),
            "ttl_ms": explanation.expires_in.and_then(millis),
            "fresh_ms": entry.and_then(|_| millis(explanation.fresh_for)),
            "stale_ms": entry.and_then(|_| millis(explanation.stale_for)),
            "load_cost_us": entry.map(|header| header.load_cost_us),
            "schema": entry.map(|header| header.schema),
            "tags": tags,
        })
    }

    /// Plain size and codec, for people.
    pub(crate) fn encoding(&self) -> String {
        match &self.header {
            Some(_) if self.explanation.compression == "none" => self.explanation.codec.to_owned(),
            Some(_) => format!("{}, {}", self.explanation.codec, self.explanation.compression),
            None => "-".to_owned(),
        }
    }

    /// Bytes on the server, header included.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn content_of(kind: Kind) -> Content {
    match kind {
        Kind::Value => Content::Value,
        Kind::Negative => Content::Absent,
        Kind::Placeholder => Content::Loading,
        Kind::Hold => Content::Held,
        _ => Content::Unusable(Unreadable::UnknownKind),
    }
}

/// The decimal text of an integer, as the server itself writes counters.
fn counter(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let count: i64 = text.parse().ok()?;
    (count.to_string() == text).then_some(count)
}

fn text_or_hex(bytes: &[u8]) -> Shown {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|it| it.is_control() && !matches!(it, '\n' | '\r' | '\t')) => {
            Shown { encoding: "text", value: text.into(), undecodable: None }
        }
        _ => in_hex(bytes, None),
    }
}

fn in_hex(bytes: &[u8], undecodable: Option<String>) -> Shown {
    Shown { encoding: "hex", value: hex(bytes).into(), undecodable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_text_that_the_server_writes() {
        assert_eq!(counter(b"-42"), Some(-42));
        for text in ["+1", "01", " 1", "1.0", "", "9223372036854775808"] {
            assert_eq!(counter(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn text_that_could_steer_a_terminal_is_shown_in_hex() {
        assert_eq!(text_or_hex(b"two\nlines").encoding, "text");
        assert_eq!(text_or_hex(b"\x1b[2J").value, "1b5b324a");
        assert_eq!(text_or_hex(&[0xff]).encoding, "hex");
    }
}
