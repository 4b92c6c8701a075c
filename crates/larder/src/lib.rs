//! A cache for Rust services: a typed near tier in the process, Redis behind it, and one attribute to use both.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! use larder::Cache;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::builder().namespace("shop").build().await?;
//!
//! cache.set("greeting", "hello".to_owned()).ttl(Duration::from_secs(300)).tag("user:7").await;
//! let greeting: Option<Arc<String>> = cache.get("greeting").await;
//! assert_eq!(*greeting.unwrap(), "hello");
//!
//! let length = cache
//!     .get_or_load("length", || async { Ok::<_, std::io::Error>("hello".len()) })
//!     .await?;
//! assert_eq!(*length, 5);
//!
//! cache.invalidate().tag("user:7").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//! - A **near hit** costs about as much as a look into a concurrent map: no allocation, no serialization, no lock that
//!   outlives it.
//! - A **miss** loads once per key, in a task of its own, however many callers wait and whatever becomes of them.
//! - What was **invalidated or written** while a load was under way is not overwritten by it, in either tier.
//! - When the **remote tier fails**, reads go on without it; the fault is counted and logged, and only `try_` methods,
//!   invalidations and counters tell it.
//!
//! # Cargo features
//! `macros`, `msgpack` and `json` are on by default; `redis`, `postcard`, `lz4`, `zstd`, `metrics` and `tracing` are not.

// The attribute's expansion names this crate, also when it is used in here.
#[expect(unused_extern_crates, reason = "only expansions name it")]
extern crate self as larder;

#[doc(hidden)]
#[path = "private/mod.rs"]
pub mod __private;
mod batch;
mod builder;
mod cache;
mod call;
mod coherence;
mod engine;
mod events;
mod explain;
mod global;
mod health;
mod invalidate;
mod load_error;
mod loaded;
mod near;
mod outcome;
mod raw;
mod region;
#[doc(hidden)]
pub mod specialise;
mod stats;
mod tags;
mod value;

pub(crate) use __private as private;
pub use builder::CacheBuilder;
pub use cache::{Cache, LoadedFuture};
pub use call::{
    BatchFuture, BatchOf, Get, GetFuture, Load, LoadFuture, LoadMany, LoadOutcome, ManyAnswer, Set, TryGet, TrySet,
    Update, Updated,
};
pub use explain::{Explanation, NearExplanation, RemoteExplanation};
pub use global::{current, with_cache};
pub use health::{Health, HealthCheck, HealthStatus, RemoteHealth};
pub use larder_codec as codec;
pub use larder_core::{
    Backend, Clock, Error, ErrorKind, Invalidated, InvalidationSink, Key, KeyBuf, KeyPart, ManualClock, Pattern,
    Remaining, Result, SetOutcome, Status, SystemClock, Tag, Tick, Timer, ToKey, UnixMillis,
};
pub use larder_fallback::{BreakerSettings, BreakerState, FallbackBackend, FallbackBuilder, FallbackStats, Fsync};
pub use larder_invalidation as invalidation;
#[cfg(feature = "macros")]
pub use larder_macros::{KeyPart, cached, key, test};
pub use larder_strategy::Strategy;
pub use load_error::{ErrorSlot, LoadError, LoadFault, SharedError};
pub use loaded::{Loaded, Previous};
pub use near::Near;
pub use outcome::{Outcome, Source};
pub use raw::Raw;
pub use region::{Region, RegionBuilder};
pub use stats::{CacheInfo, Stats};
pub use value::Cacheable;

/// Policies: the presets, the guide's TTL recommendations, and what a [`Strategy`] is made of.
pub mod strategy {
    pub use larder_strategy::{presets::*, *};
}
