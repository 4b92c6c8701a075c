//! Larder within one process: the near tier of typed values, and a backend that needs no server.
//!
//! - [`NearTier`] is what a hit of the cache is served from: values of any type behind `Arc`, no serialization, bounded
//!   by bytes, on `quick_cache`.
//! - [`MemoryBackend`] stores bytes as Redis would, behind the same [`Backend`](larder_core::Backend) trait: the stand-in
//!   of tests, the second choice while Redis is away, and the home of counters where there is no Redis. It stands on
//!   `moka`.
//!
//! Both measure time by a [`Clock`](larder_core::Clock) that the caller injects or reads, and neither starts a task or a
//! thread. An application can use either with `larder-core` alone:
//!
//! ```
//! use std::time::Duration;
//!
//! use futures_util::FutureExt;
//! use larder_core::{BackendExt, Bytes, Key, SetOptions};
//! use larder_memory::MemoryBackend;
//!
//! let backend = MemoryBackend::builder().max_bytes(16 << 20).build()?;
//! let key = Key::new("greeting");
//! let options = SetOptions::new().ttl(Duration::from_secs(30));
//! // The futures of this backend never wait, so that even a synchronous program can use it.
//! backend.set(&key, Bytes::from("hello"), options).now_or_never().expect("ready at once")?;
//! let found = backend.get(&key).now_or_never().expect("ready at once")?;
//! assert_eq!(found.as_deref(), Some(&b"hello"[..]));
//! # Ok::<(), larder_core::Error>(())
//! ```

mod backend;
mod deadlines;
mod near;

pub use backend::{MemoryBackend, MemoryBackendBuilder};
pub use near::{
    Admission, AnyValue, Beside, Displaced, ENTRY_OVERHEAD, NearConfig, NearEntry, NearStats, NearTier, Sought,
};
