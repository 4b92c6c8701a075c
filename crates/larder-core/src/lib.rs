//! The contract that the crates of Larder share: what a cache backend is, how keys and patterns are written, what stands
//! before every stored value, what is invalidated, and where time comes from.
//!
//! This crate does no I/O and needs no async runtime. An application that wants one backend by itself depends on this
//! crate and on the backend's:
//!
//! ```
//! use larder_core::{Key, Pattern};
//!
//! let key = Key::with_prefix("shop:users:", &("eu", 7));
//! assert_eq!(key.as_str(), "shop:users:eu:7");
//! assert!(Pattern::new("users:eu:*")?.within("shop:").matches(key.as_str()));
//! # Ok::<(), larder_core::Error>(())
//! ```
//!
//! # Cargo features
//! - `tokio`: [`SystemClock`] can be waited on ([`Timer`]) through tokio's timers, requests of callers that come at about the
//!   same time can be combined (`Combiner`), and there is a `ManualClock` for tests.

mod backend;
mod bus;
mod clock;
#[cfg(feature = "tokio")]
mod combiner;
pub mod envelope;
mod error;
mod ext;
mod inspect;
mod invalidation;
mod key;
#[cfg(feature = "tokio")]
mod manual_clock;
mod options;
mod pattern;
mod tag;

pub use backend::{Atomic, Backend, BusSource, Counter, Each, Expected, Guard, Lineage, Lock, Scan, Tracking};
pub use bus::{Announcement, Bus, BusEvent, TrackingEvent};
pub use bytes::Bytes;
pub use clock::{Clock, SystemClock, Tick, Timer, UnixMillis};
#[cfg(feature = "tokio")]
pub use combiner::{Combiner, Gathered, OnItsWay};
pub use error::{Error, ErrorKind, Result};
pub use ext::{BackendExt, SCAN_PAGE};
pub use inspect::{Inspect, SamplePage, SampledKey, ServerFigures, ServerSettings};
pub use invalidation::{Invalidated, InvalidationSink, Scanned, Status, Target};
pub use key::{Key, KeyBuf, KeyHash, KeyPart, KeyPrefix, MAX_KEY_BYTES, ToKey};
#[cfg(feature = "tokio")]
pub use manual_clock::ManualClock;
pub use options::{
    Condition, Expiry, Found, GetOptions, Remaining, SetItem, SetOptions, SetOutcome, Ttl, check_size, ttl_millis,
};
pub use pattern::{Pattern, escape_glob, glob_matches, literal_part};
pub use tag::{MANY_TAGS, MAX_OWN_TAGS, MAX_TAGS, Tag, check_tags};
