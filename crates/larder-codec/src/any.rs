//! A codec that is chosen at run time.

use larder_core::{Error, ErrorKind, Result, envelope::CodecId};
use serde::{Serialize, de::DeserializeOwned};

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
use crate::Codec;

/// One of the codecs that were compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnyCodec {
    /// JSON text.
    #[cfg(feature = "json")]
    Json,
    /// MessagePack with named fields.
    #[cfg(feature = "msgpack")]
    MessagePack,
    /// postcard.
    #[cfg(feature = "postcard")]
    Postcard,
}

macro_rules! with_codec {
    ($self:expr, $codec:ident => $action:expr) => {
        match $self {
            #[cfg(feature = "json")]
            Self::Json => {
                let $codec = crate::Json;
                $action
            }
            #[cfg(feature = "msgpack")]
            Self::MessagePack => {
                let $codec = crate::MessagePack;
                $action
            }
            #[cfg(feature = "postcard")]
            Self::Postcard => {
                let $codec = crate::Postcard;
                $action
            }
        }
    };
}

#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
fn id_of<C: Codec>(_codec: C) -> CodecId {
    C::ID
}

#[cfg_attr(
    not(any(feature = "json", feature = "msgpack", feature = "postcard")),
    expect(unused_variables, clippy::ptr_arg, reason = "without a codec there is no value of this type")
)]
impl AnyCodec {
    /// The codec of an entry.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], which names the cargo feature that is missing.
    pub fn from_id(id: CodecId) -> Result<Self> {
        match id {
            #[cfg(feature = "json")]
            CodecId::JSON => Ok(Self::Json),
            #[cfg(feature = "msgpack")]
            CodecId::MSGPACK => Ok(Self::MessagePack),
            #[cfg(feature = "postcard")]
            CodecId::POSTCARD => Ok(Self::Postcard),
            other => {
                let message = match other.name() {
                    "unknown" => format!("codec {} is of a newer release", other.0),
                    "raw" => "raw bytes have no codec; read them with `raw().get(key)`".to_owned(),
                    name => format!("codec {name} is not compiled in; turn on the cargo feature `{name}`"),
                };
                Err(Error::new(ErrorKind::Unsupported, "codec", message))
            }
        }
    }

    /// The codec of a name: `json`, `msgpack` or `postcard`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], which names the cargo feature that is missing, or the names there are.
    pub fn by_name(name: &str) -> Result<Self> {
        let known = [CodecId::JSON, CodecId::MSGPACK, CodecId::POSTCARD];
        known.into_iter().find(|id| id.name() == name).map_or_else(
            || {
                let message = format!("`codec` is {name:?}; there are json, msgpack and postcard");
                Err(Error::new(ErrorKind::Unsupported, "codec", message))
            },
            Self::from_id,
        )
    }

    /// What entries say about their payload.
    #[must_use]
    pub fn id(self) -> CodecId {
        with_codec!(self, codec => id_of(codec))
    }

    /// Appends the value's bytes.
    ///
    /// # Errors
    /// As [`Codec::encode`](crate::Codec::encode).
    pub fn encode<V: Serialize + ?Sized>(self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        with_codec!(self, codec => codec.encode(value, out))
    }

    /// Reads a value that takes up all of the bytes.
    ///
    /// # Errors
    /// As [`Codec::decode`](crate::Codec::decode).
    pub fn decode<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V> {
        with_codec!(self, codec => codec.decode(bytes))
    }
}

macro_rules! from_type {
    ($($feature:literal $codec:ident),*) => {$(
        #[cfg(feature = $feature)]
        impl From<crate::$codec> for AnyCodec {
            fn from(_codec: crate::$codec) -> Self {
                Self::$codec
            }
        }
    )*};
}

from_type!("json" Json, "msgpack" MessagePack, "postcard" Postcard);
