//! Larder's remote tier in Redis or Valkey (7.0 or later), one server.
//!
//! [`RedisBackend`] implements [`Backend`](larder_core::Backend) and all of its optional powers: scans, comparisons,
//! counters, locks, the bus and figures about the server. No type of the Redis client library is part of this interface.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use larder_core::{BackendExt, Key, SetOptions};
//! use larder_redis::{RedisBackend, RedisConfig};
//!
//! # async fn example() -> larder_core::Result<()> {
//! let config = RedisConfig::builder().url("redis://127.0.0.1:6379/2").command_deadline(Duration::from_millis(200)).build()?;
//! let redis = RedisBackend::connect(config).await?;
//!
//! let key = Key::new("ticker:BTCUSDT");
//! redis.set(&key, "64000".into(), SetOptions::new().ttl(Duration::from_secs(30))).await?;
//! assert_eq!(redis.get(&key).await?.as_deref(), Some(&b"64000"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # What it guarantees
//! - **A server need not be there.** [`RedisBackend::new`] does not connect. Calls without a server fail with
//!   [`Unavailable`](larder_core::ErrorKind::Unavailable) or [`Timeout`](larder_core::ErrorKind::Timeout), and succeed
//!   again by themselves once it is back.
//! - **Nothing hangs.** A call takes at most the connect deadline (1 s), if it has to connect, and the command deadline
//!   (500 ms) for each round trip.
//! - **Nothing is written twice.** Commands that change something are sent once; after a time-out or a broken connection
//!   it is unknown whether they took place. Reads are asked again once if their connection breaks.
//! - **A dead link is replaced.** A socket is given up when it breaks, when it answers `READONLY`, when three calls in a
//!   row got no answer on it, or when a PING after idleness is not answered.
//! - **Bounded.** Requests beyond [`RedisConfigBuilder::max_in_flight`] fail with
//!   [`Overloaded`](larder_core::ErrorKind::Overloaded), values above [`RedisConfigBuilder::max_value_bytes`] with
//!   [`TooLarge`](larder_core::ErrorKind::TooLarge), both before anything is sent.
//!
//! # What a dropped future means
//! The sockets stay usable. A read is forgotten. A write, a removal, an increment or a lock may or may not have taken
//! place: what was handed to a socket is carried out by the server even if nobody waits for the answer.
//!
//! # What it costs
//! One round trip for each part of a batch ([`RedisConfigBuilder::batch_keys`], [`RedisConfigBuilder::batch_bytes`]):
//! MGET without TTLs, a pipeline of GET and PTTL with them, a pipeline for everything else. Comparisons, counters and
//! locks are scripts, called by their digest.

mod answer;
mod atomic;
mod backend;
mod batch;
mod config;
mod counter;
mod error;
mod failure;
mod inspect;
mod lock;
mod manager;
mod read;
mod scan;
mod script;
mod sockets;
mod write;

pub use backend::RedisBackend;
pub use config::{RedisConfig, RedisConfigBuilder};
