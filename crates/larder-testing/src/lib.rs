//! Test tools of the Larder cache, for its own crates and for whoever writes a backend or a decorator.
//!
//! - [`ManualClock`] stands still until a test moves it, and wakes those who wait on it.
//! - [`RedisServer`] is a real `redis-server` of one test, on a free port, that can be paused, killed and restarted.
//! - [`RedisCluster`] and [`RedisSentinels`] are several of them, with failovers and moving slots.
//! - [`Watchdog`] ends a child process when the test process is killed.
//! - `TlsCertificates` (feature `tls`) are what servers with TLS need.
//! - [`FaultProxy`] stands between a client and a server and fails in the ways in which networks do.
//! - [`FaultyBackend`] lets a backend fail, hang or lose its answers, and counts what it is asked.
//! - [`ModelBackend`] is the backends' contract in its plainest form.
//! - [`conformance`] is the suite that every [`Backend`](larder_core::Backend) passes;
//!   [`conformance_tests!`] makes one test of each of its cases.
//!
//! ```
//! use std::time::Duration;
//!
//! use larder_core::{Clock, Timer};
//! use larder_testing::ManualClock;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let clock = ManualClock::new();
//! let nap = tokio::spawn(clock.sleep(Duration::from_secs(3600)));
//! clock.advance_and_settle(Duration::from_secs(3599)).await;
//! assert!(!nap.is_finished());
//! clock.advance_and_settle(Duration::from_secs(1)).await;
//! assert!(nap.is_finished());
//! # });
//! ```

pub mod conformance;
mod faulty;
mod model;
mod proxy;
#[cfg(unix)]
mod redis_cluster;
#[cfg(unix)]
mod redis_command;
#[cfg(unix)]
mod redis_sentinels;
#[cfg(unix)]
mod redis_server;
mod tls;
#[cfg(unix)]
mod watchdog;

pub use faulty::{Fault, FaultyBackend, Operation};
pub use larder_core::ManualClock;
pub use model::ModelBackend;
pub use proxy::{FaultProxy, ProxyMode};
#[cfg(unix)]
pub use redis_cluster::{RedisCluster, RedisClusterBuilder};
#[cfg(unix)]
pub use redis_sentinels::{RedisSentinels, RedisSentinelsBuilder};
#[cfg(unix)]
pub use redis_server::{RedisServer, RedisServerBuilder};
#[cfg(feature = "tls")]
pub use tls::TlsCertificates;
pub use tls::TlsFiles;
#[cfg(unix)]
pub use watchdog::Watchdog;
