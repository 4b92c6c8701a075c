//! One load per key, and a fence that keeps what was loaded before an invalidation from being stored after it.
//!
//! A **flight** is the set of callers that wait for one load of one key in one process. The first caller
//! [leads](Join::Lead), the others [follow](Join::Follow); what the leader [finishes](Leader::finish) with goes to all of
//! them. A leader that is dropped without finishing (its task was cancelled or panicked) wakes its followers, who join
//! again: none ever hangs.
//!
//! The **fence** orders loads against invalidations and writes of the same key. A [`Ticket`] is taken before the source
//! is asked; [raising](Flights::raise) the fence voids every ticket taken before, in the same atomic step that removes
//! the key from the store; a commit through a void ticket does nothing. Raising also *detaches* the flight: who waits
//! keeps waiting for it, who comes later starts a new one, and so reads its own invalidation. Committing something new does
//! the same to the other tickets and flights of the key, for one's own writes.
//!
//! Both live in one table, sharded by key, because they change together. It holds an entry only while a load, a write or
//! a promotion of the key is under way, so its size is bounded by concurrent work and not by the number of keys.
//!
//! Costs: joining and committing take one uncontended lock each and one hash-map operation; hits never come here.

mod fence;
mod flight;
mod signal;
mod sync;
mod table;

pub use fence::Ticket;
pub use flight::{FlightId, Follower, Join, Leader, LeaderTicket, Watch};
pub use signal::Unwatched;
pub use table::Flights;
