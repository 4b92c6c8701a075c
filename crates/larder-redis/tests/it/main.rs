//! The public interface of `larder-redis`, against real `redis-server` processes.

#![expect(clippy::unwrap_used, reason = "a test, and what it shares with others, fails by a panic")]

mod batches;
mod bus;
mod cluster;
mod conformance;
mod errors;
mod faults;
mod lifetime;
mod outage;
mod refusals;
mod scan;
mod scripts;
mod sentinel;
mod server;
#[cfg(feature = "tls")]
mod tls;
mod traps;
