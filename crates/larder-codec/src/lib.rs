//! How Larder turns values into bytes and back.
//!
//! Three codecs ([`Json`], [`MessagePack`], [`Postcard`]), two compressions above a threshold, and the entry as it is
//! stored: the envelope's header (in `larder-core`), its tags, the payload. A codec is a type where it is known when the
//! program is compiled, and an [`AnyCodec`] where it is chosen at run time.
//!
//! # Guarantees
//! - A round trip never changes a value. What a format cannot express (`Some(None)` in JSON and MessagePack, say) is
//!   refused when it is written.
//! - No input makes a decoder panic, overflow the stack or allocate more than the input's header announces within its
//!   bounds. Nesting is counted before anything is decoded.
//! - Trailing bytes are an error.
//!
//! # Cargo features
//! `json`, `msgpack` (both on by default), `postcard`, `lz4`, `zstd`.

mod any;
mod codec;
mod compression;
#[cfg(feature = "msgpack")]
mod depth;
mod entry;

pub use any::AnyCodec;
pub use codec::Codec;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use compression::{Compression, DEFAULT_THRESHOLD};
pub use entry::{Payload, ReadFailure, decode_payload, decode_raw, encode_payload, raw_payload, read_header};
