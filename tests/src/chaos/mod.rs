//! Caches under load while their Redis fails: what callers notice of it, and what is left of it afterwards.
//!
//! Each [`Scenario`] starts a `redis-server` of its own with the fault proxy before it, one or two caches, 64 callers for each
//! that read by Zipf's law, and a writer that changes the truth and invalidates. Loaders read the truth, an in-process store
//! of version numbers, so that an old value can be told from a new one. What is a wrong value is defined in [`Truth`]; what
//! a lost invalidation is, in [`ScenarioReport`].
//!
//! `cargo xtask chaos` runs all of them for minutes and prints how long things took. `it/` runs each for a few seconds and
//! looks at what must hold at any speed: no errors, no wrong values, no lost invalidations.
//!
//! The seed decides what callers ask for and when, and what the writer changes; how it falls together with the fault does
//! not repeat itself.

mod audit;
mod disk;
mod fault;
mod heir;
mod latency;
mod load;
mod log;
mod page;
mod promises;
mod report;
mod run;
mod scenario;
mod servers;
mod svg;
mod truth;
mod watch;
mod world;
mod writer;

use std::time::Duration;

pub use heir::FullDisk;
pub use latency::{Latencies, Quantiles, Sample};
pub use page::refresh;
pub use report::{Memory, Problem, Report, ScenarioReport};
pub use run::{Progress, run};
pub use scenario::{Plan, Scenario};
pub use svg::draw;
pub use truth::{Reading, Truth, Verdict, WrongValue};

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Decides what callers ask for, and what the writer changes.
    pub seed: u64,
    /// How long callers ask, in all.
    pub length: Duration,
    /// The mean pause of a caller between two calls; what it waits is drawn from zero to twice as much.
    pub think: Duration,
    /// The mean pause of a writer between two changes.
    pub change: Duration,
    /// How long a read waits for Redis. 50 ms is what an application gets that sets nothing.
    pub remote_deadline: Duration,
    /// Whether the resident memory of the program must stay within its bound: not where other tests run in it too.
    pub is_alone: bool,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
}

impl Settings {
    /// As `cargo xtask chaos` runs a scenario of this length.
    #[must_use]
    pub fn long(seed: u64, length: Duration, remote_deadline: Duration) -> Self {
        let (think, change) = (Duration::from_millis(10), Duration::from_millis(10));
        Self { seed, length, think, change, remote_deadline, is_alone: true, sabotage: Sabotage::Nothing }
    }

    /// A few seconds, with a load and a deadline that leave a busy machine room for other tests beside it: where every
    /// second answer is late anyway, nothing is seen of a fault.
    #[must_use]
    pub fn short(seed: u64) -> Self {
        let (think, change) = (Duration::from_millis(40), Duration::from_millis(20));
        let (length, remote_deadline) = (Duration::from_secs(4), Duration::from_millis(400));
        Self { seed, length, think, change, remote_deadline, is_alone: false, sabotage: Sabotage::Nothing }
    }
}

/// What is broken on purpose, to show that the suite would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    Nothing,
    /// Every tenth change is not invalidated, but counts as if it were.
    InvalidationsForgotten,
    /// Every tenth load fails.
    LoadsFail,
    /// An older value is put into Redis at the end, as by a write that came late.
    LateWrite,
}
