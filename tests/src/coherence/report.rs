//! What the processes did, and which promises were broken.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{Deed, Fault, Options, Rule};

/// How many violations are shown outside JSON.
const SHOWN: usize = 10;

/// How often something happened, in one process or in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Reads that were answered.
    pub reads: u64,
    /// Of these, by where the value came from: `near`, `remote`, `stale`, `miss` (loaded), `absent`.
    pub sources: BTreeMap<String, u64>,
    /// Reads that failed, by kind: loads fail now and then on purpose.
    pub errors: BTreeMap<String, u64>,
    /// Reads that were given up by their caller on purpose.
    pub dropped: u64,
    /// Runs of a loader.
    pub loads: u64,
    /// By which rule reads were bound at least to the version that they were held against.
    pub bound_by: BTreeMap<Rule, u64>,
    /// What was done to keys.
    pub deeds: BTreeMap<Deed, u64>,
    /// Deeds that were answered `Done`, or were known to be done.
    pub done: u64,
    /// Deeds that were deferred first.
    pub deferred: u64,
    /// Deeds that failed and were followed by invalidations.
    pub failed: u64,
    /// How often a process established that it had handled all messages so far.
    pub heard: u64,
    /// How often it could not within its patience, since a link was away.
    pub unheard: u64,
    /// Broken promises.
    pub violations: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        fn merge<K: Clone + Ord>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            for (key, count) in from {
                *into.entry(key.clone()).or_default() += count;
            }
        }
        self.reads += other.reads;
        merge(&mut self.sources, &other.sources);
        merge(&mut self.errors, &other.errors);
        self.dropped += other.dropped;
        self.loads += other.loads;
        merge(&mut self.bound_by, &other.bound_by);
        merge(&mut self.deeds, &other.deeds);
        self.done += other.done;
        self.deferred += other.deferred;
        self.failed += other.failed;
        self.heard += other.heard;
        self.unheard += other.unheard;
        self.violations += other.violations;
    }

    /// Writes of values: `set` and `delete`.
    #[must_use]
    pub fn writes(&self) -> u64 {
        [Deed::Set, Deed::Delete].iter().filter_map(|deed| self.deeds.get(deed)).sum()
    }

    /// Invalidations by key, tag and region.
    #[must_use]
    pub fn invalidations(&self) -> u64 {
        self.deeds.values().sum::<u64>() - self.writes()
    }
}

/// A read that got what it must not get any more. Times are milliseconds after the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Violation {
    /// Which promise was broken.
    pub rule: Rule,
    /// The number of the key.
    pub key: u32,
    /// The version that was read.
    pub seen: u64,
    /// The version that it had to have at least.
    pub expected: u64,
    /// The process that read.
    pub process: u32,
    /// How often it had been started anew.
    pub incarnation: u32,
    /// When the read began.
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Where the value came from, as far as the cache says.
    pub source: String,
    /// The process whose loader, or whose write, the value is from, and when.
    pub made_by: u32,
    /// When the source was read for it.
    pub made_ms: u64,
    /// What had made the value old.
    pub deed: Option<Deed>,
    /// When that was answered.
    pub answered_ms: Option<u64>,
    /// Whether it had been deferred.
    pub deferred: bool,
    /// What failed around that time.
    pub faults: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, key, seen, expected, process, incarnation, at_ms, took_us, source, .. } = self;
        write!(f, "{rule}: at {at_ms} ms process {process}")?;
        if *incarnation > 0 {
            write!(f, " (start {})", incarnation + 1)?;
        }
        write!(f, " read key {key} ({source}, {took_us} us): version {seen}, where at least {expected} is right")?;
        write!(f, "; made by process {} at {} ms", self.made_by, self.made_ms)?;
        if let (Some(deed), Some(answered)) = (self.deed, self.answered_ms) {
            let deferred = if self.deferred { "deferred " } else { "" };
            write!(f, "; {deferred}{deed:?} answered at {answered} ms")?;
        }
        if !self.faults.is_empty() {
            write!(f, "; around then: {}", self.faults.join(", "))?;
        }
        Ok(())
    }
}

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How long and how hard it was, with the seed.
    pub options: Options,
    /// Whether the program was built with optimizations.
    pub optimized: bool,
    /// Whether no promise was broken and everything settled.
    pub holds: bool,
    /// How long it took in all, in milliseconds.
    pub took_ms: u64,
    /// Answered reads.
    pub reads: u64,
    /// `set` and `delete`.
    pub writes: u64,
    /// Invalidations by key, tag and region.
    pub invalidations: u64,
    /// Faults that were injected, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Broken promises in all.
    pub violations: u64,
    /// The same, by rule.
    pub violations_by_rule: BTreeMap<Rule, u64>,
    /// The first twenty of each process, in the order of their time.
    pub examples: Vec<Violation>,
    /// What kept the run from coming to its end as it should.
    pub problems: Vec<String>,
    /// All other figures of all processes together.
    pub counts: Counts,
}

/// The figures line by line, then what does not hold.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { deferred, failed, heard, .. } = self.counts;
        writeln!(f, "seed           {}", self.options.seed)?;
        writeln!(f, "reads          {} ({})", self.reads, listed(&self.counts.sources))?;
        writeln!(f, "bound by       {}", listed(&self.counts.bound_by))?;
        writeln!(f, "writes         {}", self.writes)?;
        writeln!(f, "invalidations  {}", self.invalidations)?;
        writeln!(f, "of both        {deferred} deferred, {failed} failed")?;
        writeln!(f, "rounds         {heard} over the bus, {} given up", self.counts.unheard)?;
        writeln!(f, "faults         {} ({})", self.faults.values().sum::<u64>(), listed(&self.faults))?;
        write!(f, "violations     {}", self.violations)?;
        if self.violations > 0 {
            write!(f, " ({})", listed(&self.violations_by_rule))?;
        }
        for violation in self.examples.iter().take(SHOWN) {
            write!(f, "\n  {violation}")?;
        }
        if self.examples.len() > SHOWN {
            write!(f, "\n  and more; `--json` has up to twenty of each process")?;
        }
        for problem in &self.problems {
            write!(f, "\nproblem: {problem}")?;
        }
        Ok(())
    }
}

fn listed<K: fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    counts.join(", ")
}
