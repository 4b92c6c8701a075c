//! The header that stands before every stored value: wire format version 1.
//!
//! All integers are little-endian. The layout is described in `docs/wire-format.md`; golden files in `larder-codec` keep
//! it from changing unnoticed. The first [`TOKEN_BYTES`] bytes identify one write (magic, version, kind, codec,
//! compression and the random write id): they are what a compare-and-set compares.
//!
//! ```text
//!  0 magic  C1 4C 52 44     4 version   5 kind   6 codec   7 compression
//!  8 write id (u64)        16 schema (u32)      20 load cost, microseconds (u32)
//! 24 fresh until (u64)     32 stale until (u64) 40 TTL length, ms (u64)
//! 48 tags (u16)            50 flags (u16)       52 stored payload bytes (u32)
//! 56 plain payload bytes (u32)                  60 bytes of the tag table (u32)
//! 64 checksum (xxh3, u64)
//! 72 tag table: per tag, name length (u16), name, version (u64); then the payload
//! ```
//!
//! The three deadlines (24 to 48) lie outside the checksum, so that touching an entry patches them in place.

use std::time::Duration;

use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Error, ErrorKind, MAX_OWN_TAGS, MAX_TAGS, Result, Tag, UnixMillis};

/// `C1` begins no MessagePack value, no JSON text and no integer.
pub const MAGIC: [u8; 4] = [0xC1, b'L', b'R', b'D'];

/// The version that this release writes.
pub const VERSION: u8 = 1;

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 72;

/// Bytes at the front that identify one write.
pub const TOKEN_BYTES: usize = 16;

/// The largest payload that a header may announce, 512 MiB (Redis's own limit for a value).
pub const MAX_PAYLOAD_BYTES: usize = 512 << 20;

/// The largest tag table that a header may announce.
pub const MAX_TAG_TABLE_BYTES: usize = MAX_TAG_VERSIONS * (2 + crate::MAX_KEY_BYTES + 8);

/// The most tag versions that an entry holds: those of its own tags, of its region and of its namespace.
pub const MAX_TAG_VERSIONS: usize = MAX_TAGS + MAX_OWN_TAGS;

const DEADLINES: std::ops::Range<usize> = 24..48;
const CHECKSUM: std::ops::Range<usize> = 64..72;

/// How a payload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodecId(pub u8);

impl CodecId {
    /// Bytes as the caller gave them.
    pub const RAW: Self = Self(0);
    /// JSON text.
    pub const JSON: Self = Self(1);
    /// MessagePack with named fields.
    pub const MSGPACK: Self = Self(2);
    /// postcard.
    pub const POSTCARD: Self = Self(3);

    /// The codec's name; `"unknown"` for one of a newer release.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RAW => "raw",
            Self::JSON => "json",
            Self::MSGPACK => "msgpack",
            Self::POSTCARD => "postcard",
            _ => "unknown",
        }
    }
}

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompressionId(pub u8);

impl CompressionId {
    /// Not at all.
    pub const NONE: Self = Self(0);
    /// An LZ4 block.
    pub const LZ4: Self = Self(1);
    /// A Zstandard frame.
    pub const ZSTD: Self = Self(2);

    /// The compression's name; `"unknown"` for one of a newer release.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NONE => "none",
            Self::LZ4 => "lz4",
            Self::ZSTD => "zstd",
            _ => "unknown",
        }
    }
}

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A value.
    Value,
    /// A fill token: somebody is loading.
    Placeholder,
    /// A writer is updating the source: load, and store nothing.
    Hold,
    /// The loader found nothing (`None`), or failed in a way that is remembered for a while.
    Negative,
}

impl Kind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Value => 0,
            Self::Placeholder => 1,
            Self::Hold => 2,
            Self::Negative => 3,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Value),
            1 => Some(Self::Placeholder),
            2 => Some(Self::Hold),
            3 => Some(Self::Negative),
            _ => None,
        }
    }
}

/// A tag and the version that its marker had when the load began.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagVersion {
    /// The tag.
    pub tag: Tag,
    /// The marker's random value.
    pub version: u64,
}

/// The tags of an entry with their versions; those that most entries carry, of the namespace and a region, need no allocation.
pub type TagVersions = SmallVec<[TagVersion; 2]>;

/// Everything that an entry says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// What stands here.
    pub kind: Kind,
    /// How the payload is encoded.
    pub codec: CodecId,
    /// How it is compressed.
    pub compression: CompressionId,
    /// Random, new with every write.
    pub write_id: u64,
    /// Fingerprint of the value's type, from region and version; 0 where none is kept.
    pub schema: u32,
    /// What the load cost, in microseconds, saturating.
    pub load_cost_us: u32,
    /// Fresh before this time (server time).
    pub fresh_until: UnixMillis,
    /// Stale from then until this time; dead after.
    pub stale_until: UnixMillis,
    /// How long the entry was to live when it was written, stale window included, in milliseconds; `u64::MAX` for ever.
    pub ttl_ms: u64,
    /// The tags with their versions.
    pub tags: TagVersions,
    /// Bytes of the payload before compression.
    pub plain_len: usize,
}

/// Why stored bytes are not an entry that can be used. Only [`Corrupt`](Self::Corrupt) may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unreadable {
    /// No magic: a counter, or another program's value.
    Foreign,
    /// A version of the format that this release does not know.
    UnknownVersion,
    /// A kind of entry that this release does not know.
    UnknownKind,
    /// Ours, but the length or the checksum is wrong.
    Corrupt,
}

impl Unreadable {
    /// A short lower-case name, for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownKind => "unknown_kind",
            Self::Corrupt => "corrupt",
        }
    }
}

impl Header {
    /// A header for a value, with a fresh random write id, that lives for ever and has no tags.
    #[must_use]
    pub fn new(kind: Kind, codec: CodecId) -> Self {
        Self {
            kind,
            codec,
            compression: CompressionId::NONE,
            write_id: fastrand::u64(..),
            schema: 0,
            load_cost_us: 0,
            fresh_until: UnixMillis::FOREVER,
            stale_until: UnixMillis::FOREVER,
            ttl_ms: u64::MAX,
            tags: TagVersions::new(),
            plain_len: 0,
        }
    }

    /// Writes header, tags and payload (compressed already, if the header says so).
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for a payload over [`MAX_PAYLOAD_BYTES`], [`ErrorKind::InvalidArgument`] for too many or too
    /// long tags.
    pub fn encode(&self, payload: &[u8]) -> Result<Vec<u8>> {
        if self.tags.len() > MAX_TAG_VERSIONS {
            let message = format!("an entry holds {} tags, at most {MAX_TAG_VERSIONS} are allowed", self.tags.len());
            return Err(Error::new(ErrorKind::InvalidArgument, "encode", message));
        }
        let too_large = || {
            let message = format!("an entry holds at most {MAX_PAYLOAD_BYTES} bytes");
            Error::new(ErrorKind::TooLarge, "encode", message)
        };
        if payload.len() > MAX_PAYLOAD_BYTES || self.plain_len > MAX_PAYLOAD_BYTES {
            return Err(too_large());
        }
        let table: usize = self.tags.iter().map(|tag| 10 + tag.tag.as_str().len()).sum();
        let mut out = Vec::with_capacity(HEADER_BYTES + table + payload.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, self.kind.to_byte(), self.codec.0, self.compression.0]);
        out.extend_from_slice(&self.write_id.to_le_bytes());
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.load_cost_us.to_le_bytes());
        out.extend_from_slice(&self.fresh_until.0.to_le_bytes());
        out.extend_from_slice(&self.stale_until.0.to_le_bytes());
        out.extend_from_slice(&self.ttl_ms.to_le_bytes());
        out.extend_from_slice(&u16::try_from(self.tags.len()).map_err(|_| too_large())?.to_le_bytes());
        out.extend_from_slice(&0_u16.to_le_bytes());
        for length in [payload.len(), self.plain_len, table] {
            out.extend_from_slice(&u32::try_from(length).map_err(|_| too_large())?.to_le_bytes());
        }
        out.extend_from_slice(&[0; 8]);
        for tag in &self.tags {
            let name = tag.tag.as_str().as_bytes();
            let length = u16::try_from(name.len()).ok().filter(|length| usize::from(*length) <= crate::MAX_KEY_BYTES);
            let length = length.ok_or_else(|| {
                let message = format!("a tag has {} bytes, at most {} are allowed", name.len(), crate::MAX_KEY_BYTES);
                Error::new(ErrorKind::InvalidArgument, "encode", message)
            })?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(&tag.version.to_le_bytes());
        }
        out.extend_from_slice(payload);
        let checksum = checksum(&out);
        out[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        Ok(out)
    }

    /// Reads an entry: its header and where its payload lies. Never allocates more than the input could hold.
    ///
    /// # Errors
    /// [`Unreadable`], which says whether the bytes are ours at all.
    pub fn decode(bytes: &[u8]) -> std::result::Result<(Self, &[u8]), Unreadable> {
        Self::decode_sharing(bytes, &[])
    }

    /// The same for a reader that has some of the tags already: the header shares them with it instead of copying their names.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_sharing<'b>(bytes: &'b [u8], known: &[Tag]) -> std::result::Result<(Self, &'b [u8]), Unreadable> {
        if bytes.len() < MAGIC.len() || bytes[..MAGIC.len()] != MAGIC {
            return Err(Unreadable::Foreign);
        }
        if bytes.get(4).is_some_and(|version| *version != VERSION) {
            return Err(Unreadable::UnknownVersion);
        }
        let (fixed, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(Unreadable::Corrupt)?;
        let (payload_len, plain_len, table_len) = (length_at(fixed, 52), length_at(fixed, 56), length_at(fixed, 60));
        let sane =
            payload_len <= MAX_PAYLOAD_BYTES && plain_len <= MAX_PAYLOAD_BYTES && table_len <= MAX_TAG_TABLE_BYTES;
        if !sane || rest.len() != payload_len + table_len || checksum(bytes) != u64_at(fixed, CHECKSUM.start) {
            return Err(Unreadable::Corrupt);
        }
        let kind = Kind::from_byte(fixed[5]).ok_or(Unreadable::UnknownKind)?;
        let (table, payload) = rest.split_at(table_len);
        let header = Self {
            kind,
            codec: CodecId(fixed[6]),
            compression: CompressionId(fixed[7]),
            write_id: u64_at(fixed, 8),
            schema: u32_at(fixed, 16),
            load_cost_us: u32_at(fixed, 20),
            fresh_until: UnixMillis(u64_at(fixed, DEADLINES.start)),
            stale_until: UnixMillis(u64_at(fixed, DEADLINES.start + 8)),
            ttl_ms: u64_at(fixed, DEADLINES.start + 16),
            tags: decode_tags(table, u16_at(fixed, 48), known)?,
            plain_len,
        };
        Ok((header, payload))
    }

    /// The bytes that identify this write: what a fill compares.
    #[must_use]
    pub fn token(&self) -> [u8; TOKEN_BYTES] {
        let mut token = [0; TOKEN_BYTES];
        token[..4].copy_from_slice(&MAGIC);
        token[4..8].copy_from_slice(&[VERSION, self.kind.to_byte(), self.codec.0, self.compression.0]);
        token[8..].copy_from_slice(&self.write_id.to_le_bytes());
        token
    }
}

/// How long what begins with these bytes was to live, if it is a value or a remembered absence; no more is checked of it.
#[must_use]
pub fn life_of_value(bytes: &[u8]) -> Option<Duration> {
    let (fixed, _) = bytes.split_at_checked(HEADER_BYTES)?;
    let is_known = fixed.starts_with(&MAGIC) && fixed[MAGIC.len()] == VERSION;
    if !is_known || !matches!(Kind::from_byte(fixed[5]), Some(Kind::Value | Kind::Negative)) {
        return None;
    }
    let millis = u64_at(fixed, DEADLINES.start + 16);
    Some(if millis == u64::MAX { Duration::MAX } else { Duration::from_millis(millis) })
}

/// The new deadlines of an entry, written over the old ones; the checksum does not cover them.
///
/// # Errors
/// [`Unreadable`] if the bytes are no entry of this version.
pub fn patch_deadlines(
    bytes: &mut [u8],
    fresh_until: UnixMillis,
    stale_until: UnixMillis,
    ttl_ms: u64,
) -> std::result::Result<(), Unreadable> {
    Header::decode(bytes)?;
    for (index, value) in [fresh_until.0, stale_until.0, ttl_ms].into_iter().enumerate() {
        let at = DEADLINES.start + 8 * index;
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}

fn decode_tags(mut table: &[u8], count: u16, known: &[Tag]) -> std::result::Result<TagVersions, Unreadable> {
    if usize::from(count) > MAX_TAG_VERSIONS {
        return Err(Unreadable::Corrupt);
    }
    let mut tags = TagVersions::with_capacity(usize::from(count));
    for _ in 0..count {
        let (length, rest) = table.split_at_checked(2).ok_or(Unreadable::Corrupt)?;
        let (name, rest) = rest.split_at_checked(usize::from(u16_at(length, 0))).ok_or(Unreadable::Corrupt)?;
        let (version, rest) = rest.split_at_checked(8).ok_or(Unreadable::Corrupt)?;
        let name = std::str::from_utf8(name).map_err(|_| Unreadable::Corrupt)?;
        let tag = known.iter().find(|tag| tag.as_str() == name).cloned().unwrap_or_else(|| Tag::from_canonical(name));
        tags.push(TagVersion { tag, version: u64_at(version, 0) });
        table = rest;
    }
    if table.is_empty() { Ok(tags) } else { Err(Unreadable::Corrupt) }
}

/// Over the fixed header without deadlines and checksum, then tags and payload.
fn checksum(bytes: &[u8]) -> u64 {
    let mut fixed = [0; HEADER_BYTES];
    fixed.copy_from_slice(&bytes[..HEADER_BYTES]);
    fixed[DEADLINES].fill(0);
    fixed[CHECKSUM].fill(0);
    xxh3_64_with_seed(&bytes[HEADER_BYTES..], xxh3_64(&fixed))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

fn length_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32_at(bytes, at)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Header {
        let mut header = Header::new(Kind::Value, CodecId::JSON);
        header.fresh_until = UnixMillis(1000);
        header.stale_until = UnixMillis(2000);
        header.ttl_ms = 2000;
        header.plain_len = 5;
        header.tags.push(TagVersion { tag: Tag::from("symbol:BTC"), version: 7 });
        header
    }

    #[test]
    fn tags_that_the_reader_has_are_shared_with_it_and_the_others_read() {
        let mut header = sample();
        header.tags.push(TagVersion { tag: Tag::everything(), version: 9 });
        let bytes = header.encode(b"hello").unwrap();
        let known = [Tag::from("symbol:ETH"), Tag::everything()];
        let (read, payload) = Header::decode_sharing(&bytes, &known).unwrap();
        assert_eq!((&read, payload), (&header, &b"hello"[..]));
        assert!(std::ptr::eq(read.tags[1].tag.as_str(), known[1].as_str()));
    }

    #[test]
    fn the_life_of_a_value_is_read_from_its_first_bytes() {
        let mut header = sample();
        let life = |header: &Header| life_of_value(&header.encode(b"hello").unwrap());
        assert_eq!(life(&header), Some(Duration::from_secs(2)));
        header.ttl_ms = u64::MAX;
        assert_eq!(life(&header), Some(Duration::MAX));
        for kind in [Kind::Placeholder, Kind::Hold] {
            assert_eq!(life(&Header::new(kind, CodecId::RAW)), None);
        }
        assert_eq!(life_of_value(&MAGIC), None);
        assert_eq!(life_of_value(&[0; HEADER_BYTES]), None);
    }

    #[test]
    fn an_entry_survives_a_round_trip() {
        let bytes = sample().encode(b"hello").unwrap();
        let (header, payload) = Header::decode(&bytes).unwrap();
        assert_eq!(payload, b"hello");
        assert_eq!(header.token(), bytes[..TOKEN_BYTES]);
        assert_eq!(header.tags[0].version, 7);
    }

    #[test]
    fn every_single_flipped_bit_is_noticed_except_in_the_deadlines() {
        let bytes = sample().encode(b"hello").unwrap();
        for at in (0..bytes.len()).filter(|at| !DEADLINES.contains(at)) {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Header::decode(&broken).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_not_ours_is_told_apart_from_what_is_broken() {
        let bytes = sample().encode(b"hello").unwrap();
        assert_eq!(Header::decode(b"42"), Err(Unreadable::Foreign));
        assert_eq!(Header::decode(b""), Err(Unreadable::Foreign));
        let mut newer = bytes.clone();
        newer[4] = 9;
        assert_eq!(Header::decode(&newer), Err(Unreadable::UnknownVersion));
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Header::decode(&longer), Err(Unreadable::Corrupt));
        assert_eq!(Header::decode(&bytes[..40]), Err(Unreadable::Corrupt));
    }

    #[test]
    fn deadlines_are_patched_in_place() {
        let mut bytes = sample().encode(b"hello").unwrap();
        patch_deadlines(&mut bytes, UnixMillis(5), UnixMillis(6), 7).unwrap();
        let (header, _) = Header::decode(&bytes).unwrap();
        assert_eq!((header.fresh_until, header.stale_until, header.ttl_ms), (UnixMillis(5), UnixMillis(6), 7));
    }

    proptest! {
        #[test]
        fn no_input_makes_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut ours = MAGIC.to_vec();
            ours.push(VERSION);
            ours.extend_from_slice(&bytes);
            prop_assert!(Header::decode(&ours).is_err());
            prop_assert!(Header::decode(&bytes).is_err());
        }
    }
}
