//! Keeps a cache working while its remote backend is away.
//!
//! [`FallbackBackend`] stands before two backends: the *primary* (Redis) and the *secondary* (memory). Every call to the
//! primary has a deadline, and there is a bound on how many are under way; a [`Breaker`] counts faults and slow answers and,
//! once there are too many, the primary is not asked at all. From then on the secondary answers, until the primary answers a
//! PING again.
//!
//! # Guarantees
//! - **What was removed does not come back.** Removals that the primary did not confirm, and writes that it may or may not
//!   have carried out, are remembered in a journal. While a key is remembered, the primary is not asked for it, whatever the
//!   state of the breaker; before the breaker closes, the remembered keys are removed from the primary, and other processes
//!   are told ([`FallbackBuilder::announce`]). Those that found no room, and those that an earlier process took with it, are
//!   covered by removing the generation ([`FallbackBuilder::generation`]) before any key is read.
//! - **An outage leaves nothing behind.** What the secondary took in counts only as long as its key has been away without
//!   a break. It is dropped, not copied, unless [`FallbackBuilder::copy_back`] asks for it, and lives for at most `outage_ttl`
//!   anyway.
//! - **One probe.** It is a PING of ours in a task of its own, never a user's call, so nobody can drop it half-way.
//! - **Nothing multiplies.** Calls beyond [`FallbackBuilder::max_calls`] are not sent, and the journal, its file and the
//!   secondary are bounded.
//! - Counters, locks and conditional writes answer [`Unavailable`](larder_core::ErrorKind::Unavailable) while the primary
//!   is away, since two processes would each get an answer of their own; `local_counters` chooses otherwise. Listings and
//!   figures have no second source and answer `Unavailable` too.
//!
//! # What counts as a fault
//! Time-outs, broken and refused connections, `LOADING`, a wrong password, a lost primary, and answers that make no sense
//! count. A miss, a wrong type, a refused argument, an overload here and a caller that goes away do not. A server that is *out
//! of memory* refuses writes alone, and so does not open the breaker: it is still read, and removals are carried out on it.
//! A *read-only* one opens it at once, since it is not the primary any more. [`FallbackStats::faults`] tells them apart.
//!
//! # Not covered
//! The journal holds keys: a removal by pattern fails while the primary is away, before it has done anything. Without a file
//! ([`FallbackBuilder::journal_file`]) it ends with the process; without a generation, removals beyond its bounds are lost,
//! which is counted ([`FallbackStats::lost`]) and said ([`Deferred::lost`]). The generation covers entries, and not what
//! does not carry it, such as counters. A write that timed out here and still waits in a connection of the primary may be
//! carried out after the removal that was remembered for it: to give up such connections is the primary's part.
//!
//! # Costs
//! While nothing is wrong: three loads and four additions of atomics, two looks at the coarse clock and a timer for each call. Reads of
//! single keys that callers make at about the same time can share one ([`FallbackBackend::get_combined`]). Open: no network at
//! all.

mod backend;
mod breaker;
mod builder;
mod bus;
mod call;
mod copy_back;
mod deferred;
mod journal;
mod journal_file;
mod journal_format;
mod local;
mod log;
mod powers;
mod reads;
mod recovery;
mod shared;
mod stats;
mod terms;
mod verdict;
mod window;

pub use backend::FallbackBackend;
pub use breaker::{Breaker, BreakerSettings, BreakerState, Ticket};
pub use builder::FallbackBuilder;
pub use deferred::Deferred;
pub use journal_file::Fsync;
pub use stats::{FallbackStats, FaultCounts, FileState};
