//! Many callers in several processes that all miss one cold key at the same moment.
//!
//! Each process is the program `larder-tests-stampede` again, with a cache of its own on one Redis server. Three
//! [`Scenario`]s show what the fill token's holder is waited for, what it costs not to wait, and what happens when the
//! process that loads is killed in the middle. How often the loader ran is counted in Redis, outside the caches, so that
//! a process that was killed is counted too.

mod drive;
mod report;
mod worker;

pub use drive::Stampede;
pub use report::{Report, ScenarioReport};
pub use worker::{Answers, Job, work};

use std::fmt;

use serde::Serialize;

/// How large the stampede is.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct Options {
    /// Callers in each process, all at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub callers: u32,

    /// Processes on the one Redis server, at least two
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub processes: u32,

    /// How long a load takes, in milliseconds
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub load_ms: u64,

    /// How long a read waits for Redis, in milliseconds
    ///
    /// A process whose read takes longer loads by itself. The cache's own default, 50 ms, is enough where two cores are free;
    /// where the server itself has to wait for its turn, this would measure the machine and not the leases.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub remote_deadline_ms: u64,

    /// Decides the key and by how much each process begins later than the signal
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One run of the stampede on a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Processes wait for the one that holds the fill token.
    WithLeases,
    /// They do not: each loads, and the first commit wins.
    WithoutLeases,
    /// They wait, and the one that holds the token gets a SIGKILL in the middle of its load.
    LeaderKilled,
}

impl Scenario {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::WithLeases, Self::WithoutLeases, Self::LeaderKilled];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::WithLeases => "with leases",
            Self::WithoutLeases => "without leases",
            Self::LeaderKilled => "leader killed",
        })
    }
}
