//! How Larder turns values into bytes and back.
//!
//! Three codecs ([`Json`], [`MessagePack`], [`Postcard`]), two compressions above a threshold, and the entry as it is
//! stored: the envelope's header (in `larder-core`), its tags, the payload. A codec is a type where it is known when the
//! program is compiled, and an [`AnyCodec`] where it is chosen at run time.
//!
//! # Guarantees
//! - A round trip never changes a value. What a format cannot express (`Some(None)` in JSON and MessagePack, NaN in JSON, a
//!   skipped field in postcard, say) is refused when it is written.
//! - No input makes a decoder panic, overflow the stack, run on without consuming bytes, or allocate more than the header
//!   announces within its bounds. Values nest at most 127 levels, Options and newtypes included.
//! - Trailing bytes are an error.
//!
//! # Costs
//! Before a value is encoded it is walked once to find what would be lost; for plain data that is a small part of the
//! encoding. The default threshold of compression is 1 KiB.
//!
//! # Cargo features
//! `json`, `msgpack` (both on by default), `postcard`, `lz4`, `zstd`.

mod any;
#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
mod bounded;
mod codec;
mod compression;
mod entry;
#[cfg(any(feature = "json", feature = "msgpack", feature = "postcard"))]
mod probe;
#[cfg(feature = "msgpack")]
mod structure;

pub use any::AnyCodec;
pub use codec::Codec;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use compression::{Compression, DEFAULT_THRESHOLD, decompress};
pub use entry::{
    Entry, Payload, ReadFailure, decode_entry, decode_payload, decode_raw, encode_entry, encode_payload, raw_payload,
    read_header,
};
