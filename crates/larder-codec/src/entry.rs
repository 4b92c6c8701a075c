//! Payloads in their envelope.

use std::fmt;

use larder_core::{
    Error, ErrorKind, Result, Tag,
    envelope::{CodecId, CompressionId, Header, Kind, MAX_PAYLOAD_BYTES, Unreadable},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{AnyCodec, Compression, compression::decompress};

/// An encoded value, ready for its header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Payload {
    /// How it is encoded.
    pub codec: CodecId,
    /// How it is compressed.
    pub compression: CompressionId,
    /// The bytes as they are stored.
    pub bytes: Vec<u8>,
    /// How many they were before compression.
    pub plain_len: usize,
}

impl Payload {
    /// Bytes without a codec.
    #[must_use]
    pub fn raw(bytes: Vec<u8>) -> Self {
        Self { codec: CodecId::RAW, compression: CompressionId::NONE, plain_len: bytes.len(), bytes }
    }
}

/// Encodes a value and compresses it.
///
/// # Errors
/// As [`Codec::encode`](crate::Codec::encode) and [`Compression::compress`].
pub fn encode_payload<V: Serialize + ?Sized>(codec: AnyCodec, compression: Compression, value: &V) -> Result<Payload> {
    let mut plain = Vec::with_capacity(128);
    codec.encode(value, &mut plain)?;
    packed(codec.id(), compression, plain)
}

/// Compresses bytes that have no codec.
///
/// # Errors
/// As [`Compression::compress`].
pub fn raw_payload(compression: Compression, bytes: &[u8]) -> Result<Payload> {
    packed(CodecId::RAW, compression, bytes.to_vec())
}

fn packed(codec: CodecId, compression: Compression, plain: Vec<u8>) -> Result<Payload> {
    let plain_len = plain.len();
    let (compression, bytes) = compression.compress(plain)?;
    Ok(Payload { codec, compression, bytes, plain_len })
}

/// Reads an entry's header, and finds its payload. Values of another schema are refused; 0 accepts any. Those of the entry's
/// tags that are `known` are shared instead of copied.
///
/// # Errors
/// Why the bytes cannot be used.
pub fn read_header<'b>(
    bytes: &'b [u8],
    schema: u32,
    known: &[Tag],
) -> std::result::Result<(Header, &'b [u8]), ReadFailure> {
    let (header, payload) = Header::decode_sharing(bytes, known).map_err(ReadFailure::Unreadable)?;
    let has_schema = matches!(header.kind, Kind::Value | Kind::Negative);
    if has_schema && schema != 0 && header.schema != schema {
        return Err(ReadFailure::Schema { expected: schema, found: header.schema });
    }
    Ok((header, payload))
}

/// Decodes a value.
///
/// # Errors
/// As [`Codec::decode`](crate::Codec::decode), and for a codec or a compression that is not compiled in.
pub fn decode_payload<V: DeserializeOwned>(header: &Header, payload: &[u8]) -> Result<V> {
    let codec = AnyCodec::from_id(header.codec)?;
    codec.decode(&decompress(header.compression, payload, header.plain_len, MAX_PAYLOAD_BYTES)?)
}

/// Decodes bytes that have no codec.
///
/// # Errors
/// [`ErrorKind::KindMismatch`] for an entry that has one, and as [`decode_payload`].
pub fn decode_raw(header: &Header, payload: &[u8]) -> Result<Vec<u8>> {
    if header.codec != CodecId::RAW {
        let message = format!("the entry is a {} value, not raw bytes", header.codec.name());
        return Err(Error::new(ErrorKind::KindMismatch, "decode", message));
    }
    Ok(decompress(header.compression, payload, header.plain_len, MAX_PAYLOAD_BYTES)?.into_owned())
}

/// A value that was read, with what its entry says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<V> {
    /// Deadlines, tags, codec and so on.
    pub header: Header,
    /// The value.
    pub value: V,
}

/// Encodes a value as an entry. Codec, compression and length are put into the header; the rest is the caller's.
///
/// # Errors
/// As [`encode_payload`] and [`Header::encode`].
pub fn encode_entry<V: Serialize + ?Sized>(
    mut header: Header,
    value: &V,
    codec: AnyCodec,
    compression: Compression,
) -> Result<Vec<u8>> {
    let payload = encode_payload(codec, compression, value)?;
    header.codec = payload.codec;
    header.compression = payload.compression;
    header.plain_len = payload.plain_len;
    header.encode(&payload.bytes)
}

/// Reads an entry that is a value. Whether it is still fresh, and whether its tags hold, is for the caller to judge.
///
/// # Errors
/// Why the bytes cannot be used.
pub fn decode_entry<V: DeserializeOwned>(bytes: &[u8], schema: u32) -> std::result::Result<Entry<V>, ReadFailure> {
    let (header, payload) = read_header(bytes, schema, &[])?;
    if header.kind != Kind::Value {
        return Err(ReadFailure::NoValue(header.kind));
    }
    let value = decode_payload(&header, payload)?;
    Ok(Entry { header, value })
}

/// Why stored bytes could not be used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReadFailure {
    /// They are no entry of this version.
    Unreadable(Unreadable),
    /// They are an entry of another schema.
    Schema {
        /// This program's.
        expected: u32,
        /// The entry's.
        found: u32,
    },
    /// They are an entry, but not one with a value.
    NoValue(Kind),
    /// The payload could not be decoded, or its codec or compression is not compiled in
    /// ([`Unsupported`](ErrorKind::Unsupported)).
    Payload(Error),
}

impl ReadFailure {
    /// Whether the bytes are certainly broken, so that they may be removed. Everything else may belong to a newer or older
    /// program, or to another one altogether.
    #[must_use]
    pub fn may_delete(&self) -> bool {
        matches!(self, Self::Unreadable(Unreadable::Corrupt))
    }

    /// A short lower-case name, for metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unreadable(reason) => reason.as_str(),
            Self::Schema { .. } => "schema",
            Self::NoValue(_) => "no_value",
            Self::Payload(error) if error.kind() == ErrorKind::Unsupported => match error.operation() {
                "compression" => "unknown_compression",
                _ => "unknown_codec",
            },
            Self::Payload(_) => "payload",
        }
    }
}

impl From<Error> for ReadFailure {
    fn from(error: Error) -> Self {
        Self::Payload(error)
    }
}

impl fmt::Display for ReadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => f.write_str(reason.as_str()),
            Self::Schema { expected, found } => write!(f, "schema {found:08x} instead of {expected:08x}"),
            Self::NoValue(kind) => write!(f, "the entry is a {kind:?}, not a value"),
            Self::Payload(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadFailure {}
