//! Bytes as they are, in the envelope but without a codec.

use std::{any::TypeId, mem::size_of, sync::Arc};

use bytes::Bytes;
use larder_codec::{AnyCodec, Compression, Payload};
use larder_core::{Result, ToKey, envelope::Header};
use larder_memory::AnyValue;

use crate::{
    Cache,
    call::Get,
    value::{SerdeOps, ValueOps},
};

/// Bytes of the caller's own making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawValue(pub(crate) Bytes);

impl RawValue {
    pub(crate) fn ops() -> &'static ValueOps {
        const {
            &ValueOps {
                type_id: TypeId::of::<RawValue>,
                type_name: std::any::type_name::<RawValue>,
                size: size_of::<RawValue>(),
                serde: Some(SerdeOps { encode, decode }),
            }
        }
    }
}

fn encode(value: &AnyValue, _codec: AnyCodec, compression: Compression) -> Result<Payload> {
    let bytes = value.downcast_ref::<RawValue>().map_or(&[][..], |value| &value.0);
    larder_codec::raw_payload(compression, bytes)
}

fn decode(header: &Header, payload: &[u8]) -> Result<AnyValue> {
    let bytes = larder_codec::decode_raw(header, payload)?;
    Ok(Arc::new(RawValue(Bytes::from(bytes))) as AnyValue)
}

/// Reads of bytes that were stored with [`Cache::set_raw`].
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    cache: &'a Cache,
}

impl<'a> Raw<'a> {
    pub(crate) fn new(cache: &'a Cache) -> Self {
        Self { cache }
    }

    /// The bytes under a key. A value that was stored with a codec is not found.
    pub async fn get<K: ToKey>(&self, key: K) -> Option<Bytes> {
        let get = Get::<K, RawValue>::new(self.cache.place(), key, RawValue::ops());
        get.await.map(|value| value.0.clone())
    }
}
