//! The codecs, as types.

use std::fmt;

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
use larder_core::{Error, ErrorKind};
use larder_core::{Result, envelope::CodecId};
use serde::{Serialize, de::DeserializeOwned};

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
use crate::{
    bounded::Budget,
    probe::{Format, check},
};

/// Turns values into bytes and back.
pub trait Codec: Send + Sync + Copy + fmt::Debug + 'static {
    /// What entries say about their payload.
    const ID: CodecId;

    /// Appends the value's bytes. After an error `out` is what it was before.
    ///
    /// # Errors
    /// [`Encode`](larder_core::ErrorKind::Encode) for values that the format cannot express, or that would not come back as they were.
    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()>;

    /// Reads a value that takes up all of the bytes.
    ///
    /// # Errors
    /// [`Decode`](larder_core::ErrorKind::Decode); the message never holds any of the bytes.
    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V>;
}

/// JSON text: readable everywhere, the largest. Refuses `Some(None)`, `Some(())` and numbers that are not finite, all of which
/// JSON writes as `null`.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl Codec for Json {
    const ID: CodecId = CodecId::JSON;

    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        encode_checked(Format::JSON, value, out, |out| {
            serde_json::to_writer(out, value).map_err(|error| unencodable(Format::JSON, &error))
        })
    }

    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V> {
        let budget = Budget::of(bytes);
        let mut decoder = serde_json::Deserializer::from_slice(bytes);
        let value = V::deserialize(budget.guard(&mut decoder)).and_then(|value| decoder.end().map(|()| value));
        value.map_err(|error| {
            let reason = budget.exceeded().unwrap_or(match error.classify() {
                serde_json::error::Category::Io => "it cannot be read",
                serde_json::error::Category::Syntax => "it is not JSON",
                serde_json::error::Category::Data => "the value does not fit the type",
                serde_json::error::Category::Eof => "the text ends too early",
            });
            undecodable(Format::JSON, &format!("{reason} (line {}, column {})", error.line(), error.column()))
        })
    }
}

/// MessagePack with named fields: a reader tolerates fields that were added, removed or moved. Reads structs without names
/// too. Refuses `Some(None)` and `Some(())`, which MessagePack writes as nil.
#[cfg(feature = "msgpack")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessagePack;

#[cfg(feature = "msgpack")]
impl Codec for MessagePack {
    const ID: CodecId = CodecId::MSGPACK;

    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        encode_checked(Format::MSGPACK, value, out, |out| {
            let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
            value.serialize(&mut serializer).map_err(|error| unencodable(Format::MSGPACK, &error))
        })
    }

    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V> {
        crate::structure::check_msgpack(bytes)?;
        let budget = Budget::of(bytes);
        let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
        V::deserialize(budget.guard(&mut decoder))
            .map_err(|error| undecodable(Format::MSGPACK, &budget.exceeded().unwrap_or_else(|| msgpack_reason(&error))))
    }
}

/// The kind of a MessagePack error without the text that a type's own code may have put into it.
#[cfg(feature = "msgpack")]
fn msgpack_reason(error: &rmp_serde::decode::Error) -> &'static str {
    use rmp_serde::decode::Error;
    match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "the bytes end too early",
        Error::TypeMismatch(_) => "a value is of another type than expected",
        Error::OutOfRange => "a number is out of range",
        Error::LengthMismatch(_) => "an array or map has another length than expected",
        Error::Utf8Error(_) => "a string is not UTF-8",
        Error::DepthLimitExceeded => "it is nested too deeply",
        _ => "the value does not fit the type",
    }
}

/// postcard: the smallest and fastest; any change of the type makes older entries unreadable, or worse, readable as
/// something else, so that such a change needs a new schema. Refuses structs with a field that was skipped
/// (`skip_serializing_if`). A type whose `Serialize` and `Deserialize` differ in other ways (`skip_serializing` alone)
/// must not be used with it.
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl Codec for Postcard {
    const ID: CodecId = CodecId::POSTCARD;

    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        encode_checked(Format::POSTCARD, value, out, |out| {
            let bytes = postcard::to_stdvec(value).map_err(|error| unencodable(Format::POSTCARD, &error))?;
            out.extend_from_slice(&bytes);
            Ok(())
        })
    }

    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V> {
        let budget = Budget::of(bytes);
        let mut decoder = postcard::Deserializer::from_bytes(bytes);
        // postcard's errors say what kind they are of, and nothing else.
        let failed = |error: postcard::Error| match budget.exceeded() {
            Some(reason) => undecodable(Format::POSTCARD, &reason),
            None => undecodable(Format::POSTCARD, &error),
        };
        let value = V::deserialize(budget.guard(&mut decoder)).map_err(failed)?;
        let rest = decoder.finalize().map_err(failed)?;
        match rest.len() {
            0 => Ok(value),
            more => Err(undecodable(Format::POSTCARD, &format_args!("{more} bytes follow the value"))),
        }
    }
}

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
fn encode_checked<V: Serialize + ?Sized>(
    format: Format,
    value: &V,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let elements = check(format, value).map_err(|error| unencodable(format, &error))?;
    let before = out.len();
    let written = write(out).and_then(|()| {
        if elements <= (out.len() - before) as u64 {
            return Ok(());
        }
        Err(unencodable(format, &"it has more elements than bytes, which no reader accepts"))
    });
    if written.is_err() {
        out.truncate(before);
    }
    written
}

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
fn unencodable(format: Format, reason: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Encode, "encode", format!("{}: {reason}", format.name))
}

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
fn undecodable(format: Format, reason: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Decode, "decode", format!("{}: {reason}", format.name))
}
