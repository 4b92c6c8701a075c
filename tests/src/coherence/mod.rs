//! A torture test of coherence: several processes read and invalidate the same keys while links, processes and the server
//! fail, and no read may return a value that it must not return any more.
//!
//! One process writes: it raises a counter of a key in a file (the source that all loaders read, with random delays), then
//! invalidates the key, its tag or its region, or writes or deletes the value. The others read. A [`Driver`] starts the server
//! and the processes, lets things fail at random from a seed, heals everything in the end and looks once more.
//!
//! # What is checked
//!
//! The promise of the protocol, after an invalidation or a write returned `Done`:
//!
//! - [`Rule::Own`]: no call in the writer's process that starts later gets an older value. It holds also if the answer was
//!   `Deferred`: that process never reads the old value again.
//! - [`Rule::Heard`]: no call in another process whose bus link is trusted, if it starts after the message was handled. That it
//!   was is established by a message that the writer sends after its answer was there: it removes an entry that the reader has
//!   put into its near tier for this. What a process has heard stays true for it, whatever happens to its links later. A
//!   process that starts has nothing of its own, and must not find anything older in Redis than what was answered until then.
//! - [`Rule::Elsewhere`]: no call in any process after [`ELSEWHERE`], heard or not.
//! - [`Rule::End`] and [`Rule::Redis`]: nothing older was kept anywhere. When all faults are over, every process and Redis
//!   itself have the latest value of every key, or none.
//!
//! A `Deferred` answer counts for the others from when its process has an empty journal and a closed breaker again.
//! [`Rule::Sane`] is about the harness as much as about the caches: no value is of another key, or newer than the source.
//!
//! Not promised, and not checked: what was invalidated but not answered; what a killed process had only deferred.

mod drive;
mod process;
mod promise;
mod report;
mod schedule;
mod source;
mod split;
mod worker;
mod writer;

pub use drive::{Driver, Progress};
pub use report::{Counts, Report, Violation};
pub use schedule::{Fault, Incident, schedule};
pub use split::{Sabotage, SplitBackend};
pub use worker::{Job, work};

use std::{fmt, io, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

/// How many keys there are, in regions of [`REGION_KEYS`], with a tag for four and another one for eight neighbours.
pub const KEYS: u32 = 64;

/// How many keys a region has.
pub const REGION_KEYS: u32 = 16;

/// How long a process serves what it cannot hear to be old, as its caches are configured: `blind_ttl` and `outage_ttl`.
pub const BLIND: Duration = Duration::from_secs(1);

/// After how long an older value is served nowhere: 3 s until a link that is dead without having been closed is
/// distrusted, [`BLIND`], and 1 s for a busy machine.
pub const ELSEWHERE: Duration = Duration::from_secs(5);

/// How long and how hard it is.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct Options {
    /// How long faults are injected, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,

    /// Decides the faults, and what readers and writers do
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Processes, the first of which writes too
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=16))]
    pub processes: u32,

    /// Injects only these kinds of faults; `none` for none
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub faults: Option<Vec<Choice>>,

    /// Breaks the caches, which has to be found
    #[arg(long, hide = true)]
    pub sabotage: Option<Sabotage>,
}

impl Options {
    /// How long Redis may take to answer, in milliseconds. Short where it does not answer now and then, so that breakers open;
    /// else so long that a busy machine is not taken for a fault.
    fn deadline_ms(&self) -> u64 {
        if self.kinds().into_iter().any(Fault::stalls_commands) { 200 } else { 5000 }
    }

    /// The kinds of faults that are injected.
    #[must_use]
    pub fn kinds(&self) -> Vec<Fault> {
        match &self.faults {
            None => Fault::ALL.to_vec(),
            Some(choices) => choices.iter().filter_map(|choice| choice.0).collect(),
        }
    }
}

/// A kind of fault by its name, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Choice(pub Option<Fault>);

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "none" {
            return Ok(Self(None));
        }
        let known = Fault::ALL.into_iter().find(|fault| fault.to_string() == name);
        known.map(|fault| Self(Some(fault))).ok_or_else(|| {
            let names: Vec<String> = Fault::ALL.iter().map(ToString::to_string).collect();
            format!("there are {} and none", names.join(", "))
        })
    }
}

/// Makes the files that so many processes share, in a folder.
///
/// # Errors
/// If they cannot be written.
pub fn prepare(folder: &Path, processes: u32) -> io::Result<()> {
    source::Shared::create(folder, processes)
}

/// What a read must not violate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The process that invalidated.
    Own,
    /// A process that has handled the message.
    Heard,
    /// Any process, some time later.
    Elsewhere,
    /// What a process holds when all is over.
    End,
    /// What Redis holds when all is over.
    Redis,
    /// Values are of their key, and not newer than the source.
    Sane,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Own => "own",
            Self::Heard => "heard",
            Self::Elsewhere => "elsewhere",
            Self::End => "end",
            Self::Redis => "redis",
            Self::Sane => "sane",
        })
    }
}

/// What was done to a key after its value had changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Invalidated by its key.
    Key,
    /// Invalidated by a tag that calls name.
    Tag,
    /// Invalidated by a tag that only loaders name, for some keys.
    LateTag,
    /// Invalidated with its region.
    Region,
    /// Written.
    Set,
    /// Deleted.
    Delete,
    /// Invalidated by its key because something else had failed, or a process had died.
    Again,
}

impl Deed {
    const ALL: [Self; 7] = [Self::Key, Self::Tag, Self::LateTag, Self::Region, Self::Set, Self::Delete, Self::Again];
}

/// The canonical names: everybody uses the same.
mod names {
    use super::REGION_KEYS;

    pub(super) fn region(region: u32) -> String {
        format!("region{region}")
    }

    pub(super) fn key(key: u32) -> String {
        format!("key{key}")
    }

    /// A key as the whole cache names it.
    pub(super) fn path(key: u32) -> String {
        format!("{}:{}", region(key / REGION_KEYS), self::key(key))
    }

    /// The tag of four neighbours, which calls name.
    pub(super) fn tag(key: u32) -> String {
        format!("four:{}", key / 4)
    }

    /// The tag of every other key of a region, which loaders name.
    pub(super) fn late_tag(key: u32) -> String {
        format!("half:{}:{}", key / REGION_KEYS, key % 2)
    }

    pub(super) fn beacon(process: u32) -> String {
        format!("beacon:{process}")
    }
}
