//! The suite that every backend and every decorator of one passes.
//!
//! A crate makes one test of each case with [`conformance_tests!`](crate::conformance_tests):
//!
//! ```
//! # use std::sync::Arc;
//! use larder_testing::{
//!     ManualClock, ModelBackend,
//!     conformance::{Fixture, Power},
//! };
//!
//! async fn fixture() -> Fixture {
//!     let clock = ManualClock::new();
//!     let backend = Arc::new(ModelBackend::new(Arc::new(clock.clone())));
//!     Fixture::new(backend)
//!         .powers([Power::Scan, Power::Atomic, Power::Counter, Power::Lock, Power::Bus, Power::Inspect])
//!         .manual_clock(clock)
//! }
//!
//! larder_testing::conformance_tests!(fixture);
//! # fn main() {}
//! ```
//!
//! Each case has a fixture and a prefix for its keys to itself, so cases may share a server. Where the backend goes by
//! a [`ManualClock`](crate::ManualClock) the cases check deadlines to the millisecond; else they give short lives and
//! wait until they see the key go. A power that the fixture does not declare must not be there, and the other way
//! round.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "every case is a test, and a test fails by a panic"
)]

pub mod atomic;
mod case;
pub mod concurrency;
pub mod conditions;
pub mod counters;
mod fixture;
mod glob;
pub mod locks;
mod macros;
pub mod many;
pub mod patterns;
pub mod powers;
pub mod timeouts;
pub mod ttl;
pub mod values;

pub use case::{Case, LONG, SHORT, run};
pub use fixture::{Fixture, Power};
pub use glob::{GlobCase, glob_cases};
