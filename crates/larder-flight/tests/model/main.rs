//! The model check: the crate's own source files, compiled with loom's primitives in place of the real ones, and run
//! through every interleaving of two or three callers. It needs no flag and no feature: the files are included by path.
//!
//! [`sync`] stands for `src/sync.rs`. [`world`] holds a source, a store and the rules by which a cache uses the crate;
//! `scenarios` says what must hold, and `mutants` breaks one rule at a time, which the scenarios must notice.

#![expect(dead_code, unreachable_pub, reason = "the included files are a library's, of which this uses what it needs")]
#![expect(clippy::unwrap_used, reason = "the scenarios are tests, outside of functions that are marked so")]

#[path = "../../src/fence.rs"]
mod fence;
#[path = "../../src/flight.rs"]
mod flight;
mod mutants;
mod scenarios;
#[path = "../../src/signal.rs"]
mod signal;
mod sync;
#[path = "../../src/table.rs"]
mod table;
mod world;

use fence::Ticket;
use flight::{FlightId, Follower, Join, Leader, Watch};
use table::Flights;
