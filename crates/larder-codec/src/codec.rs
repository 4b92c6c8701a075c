//! The codecs, as types.

use std::fmt;

use larder_core::{Error, ErrorKind, Result, envelope::CodecId};
use serde::{Serialize, de::DeserializeOwned};

/// Turns values into bytes and back.
pub trait Codec: Send + Sync + Copy + fmt::Debug + 'static {
    /// What entries say about their payload.
    const ID: CodecId;

    /// Appends the value's bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] for values that the format cannot express.
    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()>;

    /// Reads a value that takes up all of the bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`]; the message never holds any of the bytes.
    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V>;
}

/// JSON text: readable everywhere, the largest.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl Codec for Json {
    const ID: CodecId = CodecId::JSON;

    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        serde_json::to_writer(out, value).map_err(|error| failed(ErrorKind::Encode, "JSON", &error))
    }

    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V> {
        // serde_json itself stops at a depth of 128.
        serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let class = format!("{:?} error at line {line}, column {column}", error.classify());
            Error::new(ErrorKind::Decode, "decode", format!("JSON: {class}"))
        })
    }
}

/// MessagePack with named fields: a reader tolerates fields that were added, removed or moved.
#[cfg(feature = "msgpack")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessagePack;

#[cfg(feature = "msgpack")]
impl Codec for MessagePack {
    const ID: CodecId = CodecId::MSGPACK;

    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
        value.serialize(&mut serializer).map_err(|error| failed(ErrorKind::Encode, "MessagePack", &error))
    }

    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V> {
        crate::depth::check_msgpack(bytes)?;
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
        let value = V::deserialize(&mut deserializer).map_err(|error| {
            Error::new(ErrorKind::Decode, "decode", format!("MessagePack: {}", msgpack_reason(&error)))
        })?;
        Ok(value)
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

/// postcard: the smallest and fastest; any change of the type makes older entries unreadable.
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl Codec for Postcard {
    const ID: CodecId = CodecId::POSTCARD;

    fn encode<V: Serialize + ?Sized>(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        let bytes = postcard::to_stdvec(value).map_err(|error| failed(ErrorKind::Encode, "postcard", &error))?;
        out.extend_from_slice(&bytes);
        Ok(())
    }

    fn decode<V: DeserializeOwned>(&self, bytes: &[u8]) -> Result<V> {
        let (value, rest) =
            postcard::take_from_bytes(bytes).map_err(|error| failed(ErrorKind::Decode, "postcard", &error))?;
        no_rest("postcard", rest.len()).map(|()| value)
    }
}

#[cfg(feature = "postcard")]
fn no_rest(codec: &str, rest: usize) -> Result<()> {
    if rest == 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Decode, "decode", format!("{codec}: {rest} bytes follow the value")))
}

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
fn failed(kind: ErrorKind, codec: &str, error: &dyn fmt::Display) -> Error {
    let operation = if kind == ErrorKind::Encode { "encode" } else { "decode" };
    Error::new(kind, operation, format!("{codec}: {error}"))
}
