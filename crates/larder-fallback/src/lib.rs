//! Keeps a cache working while its remote backend is away.
//!
//! [`FallbackBackend`] stands before two backends: the *primary* (Redis) and the *secondary* (memory). Every call to the
//! primary has a deadline; a [`Breaker`] counts its faults and, once there are too many in a row, stops asking it at all.
//! From then on the secondary answers, until the primary answers a PING again.
//!
//! # Guarantees
//! - **What was removed does not come back.** Removals that the primary did not confirm, and writes that it may or may not
//!   have carried out, are remembered. While a key is remembered, the primary is not asked for it, whatever the state of
//!   the breaker; before the breaker closes, the remembered keys are removed from the primary.
//! - **An outage leaves nothing behind.** What the secondary took in counts only as long as its key has been away without
//!   a break. It is dropped, not copied, and lives for at most `outage_ttl` anyway.
//! - **One probe.** It is a PING of ours in a task of its own, never a user's call, so nobody can drop it half-way.
//! - Counters, locks and conditional writes answer [`Unavailable`](larder_core::ErrorKind::Unavailable) while the primary
//!   is away, since two processes would each get an answer of their own; `local_counters` chooses otherwise. Listings and
//!   figures have no second source and answer `Unavailable` too.
//!
//! # Not covered
//! The journal is in memory, holds keys, and is bounded: beyond the bound removals are lost, which is counted
//! ([`FallbackStats::lost`]) and said ([`Deferred::lost`]). A removal by pattern fails while the primary is away, before it
//! has done anything. A write that timed out here and still waits in a connection of the primary may be carried out after
//! the removal that was remembered for it: to give up such connections is the primary's part.
//!
//! # Costs
//! While nothing is wrong: one load of an atomic, a timer and two counters a call. Open: no network at all.

mod backend;
mod breaker;
mod builder;
mod call;
mod deferred;
mod journal;
mod local;
mod powers;
mod recovery;
mod shared;
mod stats;

pub use backend::FallbackBackend;
pub use breaker::{Breaker, BreakerSettings, BreakerState, Ticket};
pub use builder::FallbackBuilder;
pub use deferred::Deferred;
pub use stats::FallbackStats;
