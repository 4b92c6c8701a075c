//! The public interface of `larder-redis`, against real `redis-server` processes.

#![expect(clippy::unwrap_used, reason = "a test, and what it shares with others, fails by a panic")]

mod acl;
mod batches;
mod bus;
mod cluster;
mod combine;
mod conformance;
mod doubt;
mod errors;
mod faults;
mod inspect;
mod lifetime;
mod lineage;
mod outage;
mod refusals;
mod removal;
mod scan;
mod scripts;
mod sentinel;
mod server;
#[cfg(feature = "tls")]
mod tls;
mod tracking;
mod traps;
