//! Values as the engine sees them: shared and without a type, with a small table of functions per type.
//!
//! The engine is compiled once for all of an application's types. What it must do with a value (encode it, decode it)
//! it does through the type's [`ValueOps`].

use std::{
    any::{Any, TypeId},
    mem::size_of,
    sync::Arc,
};

use larder_codec::{AnyCodec, Compression, Payload};
use larder_core::{Result, envelope::Header};
use larder_memory::AnyValue;
use serde::{Serialize, de::DeserializeOwned};

/// What can be cached in both tiers: serde in both directions, shared between threads, without borrowed data.
/// Implemented for every such type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in the remote tier",
    label = "needs serde in both directions, and no borrowed data",
    note = "derive serde's `Serialize` and `Deserialize`, or use the near tier alone: `#[cached(near)]`, `cache.near()`"
)]
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for V {}

/// "There is no such value", as it stands in the near tier.
#[derive(Debug)]
pub(crate) struct Absent;

/// A load that failed, as it stands in the near tier; the error's type is known to whoever reads it.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) AnyError);

/// Whether it stands for a value, and not for the memory that there is none.
pub(crate) fn is_present(value: &AnyValue) -> bool {
    !value.is::<Absent>() && !value.is::<Failed>()
}

/// A loader's error without its type.
pub(crate) type AnyError = Arc<dyn Any + Send + Sync>;

/// What the engine can do with values of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueOps {
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) type_name: fn() -> &'static str,
    pub(crate) size: usize,
    /// `None` for types that only the near tier can hold.
    pub(crate) serde: Option<SerdeOps>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SerdeOps {
    pub(crate) encode: fn(&AnyValue, AnyCodec, Compression) -> Result<Payload>,
    pub(crate) decode: fn(&Header, &[u8]) -> Result<AnyValue>,
}

impl ValueOps {
    /// For a type that both tiers can hold.
    pub(crate) fn of<V: Cacheable>() -> &'static Self {
        const {
            &Self {
                type_id: TypeId::of::<V>,
                type_name: std::any::type_name::<V>,
                size: size_of::<V>(),
                serde: Some(SerdeOps { encode: encode::<V>, decode: decode::<V> }),
            }
        }
    }

    /// For a type that only the near tier can hold.
    pub(crate) fn near<V: Send + Sync + 'static>() -> &'static Self {
        const { &Self { type_id: TypeId::of::<V>, type_name: std::any::type_name::<V>, size: size_of::<V>(), serde: None } }
    }

    /// Whether this is a value of the type, or one of the two that stand for its absence.
    pub(crate) fn accepts(&self, value: &AnyValue) -> bool {
        let stored = value.as_ref().type_id();
        stored == (self.type_id)() || stored == TypeId::of::<Absent>() || stored == TypeId::of::<Failed>()
    }
}

fn encode<V: Cacheable>(value: &AnyValue, codec: AnyCodec, compression: Compression) -> Result<Payload> {
    let value = value.downcast_ref::<V>().ok_or_else(|| {
        let message = format!("the value is not a {}", std::any::type_name::<V>());
        larder_core::Error::new(larder_core::ErrorKind::KindMismatch, "encode", message)
    })?;
    larder_codec::encode_payload(codec, compression, value)
}

fn decode<V: Cacheable>(header: &Header, payload: &[u8]) -> Result<AnyValue> {
    larder_codec::decode_payload::<V>(header, payload).map(|value| Arc::new(value) as AnyValue)
}
