//! What came of a stampede, and whether the bounds hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use super::{Answers, Options, Scenario};

/// One scenario.
#[derive(Debug, Clone, Serialize)]
pub struct ScenarioReport {
    /// Which one.
    pub scenario: Scenario,
    /// Runs of the loader in all processes, one that was killed included.
    pub loads: u64,
    /// Callers that got a value.
    pub answered: u64,
    /// Callers that got an error, by its kind.
    pub errors: BTreeMap<String, u64>,
    /// The different values that callers got.
    pub values: BTreeSet<String>,
    /// From the signal to the last answer in the slowest process, in milliseconds.
    pub wall_ms: f64,
    /// From the signal until half of the callers had their answers, in the slowest process, in milliseconds.
    pub wait_p50_ms: f64,
    /// From the signal until 99 of 100 callers had their answers, in the slowest process, in milliseconds.
    pub wait_p99_ms: f64,
    /// GETs and MGETs that the server answered, those of heartbeats included. A process that waits for another one reads every 5 to 50 ms.
    pub reads: u64,
    /// Callers that came before the value was there, and waited for another caller's load in their process.
    pub coalesced: u64,
    /// Calls of the remote tier that failed.
    pub remote_faults: u64,
    /// Which bounds do not hold; nothing if all do.
    pub problems: Vec<String>,
    /// The processes that were not killed, one by one.
    pub processes: Vec<Answers>,
}

impl ScenarioReport {
    pub(super) fn new(scenario: Scenario, options: &Options, loads: u64, reads: u64, processes: Vec<Answers>) -> Self {
        let slowest = |figure: fn(&Answers) -> f64| processes.iter().map(figure).fold(0.0, f64::max);
        let mut report = Self {
            scenario,
            loads,
            answered: processes.iter().map(|process| process.answered).sum(),
            errors: BTreeMap::new(),
            values: processes.iter().flat_map(|process| process.values.clone()).collect(),
            wall_ms: slowest(|process| process.wall_ms),
            wait_p50_ms: slowest(|process| process.wait_p50_ms),
            wait_p99_ms: slowest(|process| process.wait_p99_ms),
            reads,
            coalesced: processes.iter().map(|process| process.coalesced).sum(),
            remote_faults: processes.iter().map(|process| process.remote_faults).sum(),
            problems: Vec::new(),
            processes,
        };
        for (kind, count) in report.processes.iter().flat_map(|process| &process.errors) {
            *report.errors.entry(kind.clone()).or_default() += count;
        }
        report.problems = report.check(options);
        report
    }

    /// The most loads that there may be, and the fewest.
    fn allowed_loads(&self, options: &Options) -> (u64, u64) {
        match self.scenario {
            Scenario::WithLeases => (1, 1),
            Scenario::WithoutLeases => (1, options.processes.into()),
            Scenario::LeaderKilled => (2, 2),
        }
    }

    fn check(&self, options: &Options) -> Vec<String> {
        let mut problems = Vec::new();
        let (fewest, most) = self.allowed_loads(options);
        if !(fewest..=most).contains(&self.loads) {
            problems.push(format!("{} loads, where {fewest} to {most} are right", self.loads));
        }
        let survivors = options.processes - u32::from(self.scenario == Scenario::LeaderKilled);
        let callers = u64::from(survivors) * u64::from(options.callers);
        if self.answered != callers {
            problems.push(format!("{} of {callers} callers answered", self.answered));
        }
        let most_values = if self.scenario == Scenario::WithoutLeases { survivors as usize } else { 1 };
        if self.values.len() > most_values {
            problems.push(format!("{} different values, where at most {most_values} are right", self.values.len()));
        }
        // Without leases a process that loaded too late to store its value has answered with it those who waited for the load;
        // who comes after the load gets what another process stored.
        let most_values = if self.scenario == Scenario::WithoutLeases { 2 } else { 1 };
        for process in self.processes.iter().filter(|process| process.values.len() > most_values) {
            problems.push(format!("callers of process {} got {} values", process.process, process.values.len()));
        }
        problems
    }
}

/// All scenarios of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How large it was.
    pub options: Options,
    /// Whether the program was built with optimizations.
    pub optimized: bool,
    /// Whether all bounds hold.
    pub holds: bool,
    /// The scenarios, in the order in which they ran.
    pub scenarios: Vec<ScenarioReport>,
}

impl Report {
    /// Puts the scenarios together.
    #[must_use]
    pub fn new(options: Options, scenarios: Vec<ScenarioReport>) -> Self {
        let holds = scenarios.iter().all(|scenario| scenario.problems.is_empty());
        Self { options, optimized: !cfg!(debug_assertions), holds, scenarios }
    }
}

/// A table, and what does not hold.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            "", "loads", "allowed", "answered", "joined", "errors", "values", "wall ms", "p50 ms", "p99 ms", "GETs", "",
        ]);
        for scenario in &self.scenarios {
            let (fewest, most) = scenario.allowed_loads(&self.options);
            table.add_row([
                scenario.scenario.to_string(),
                scenario.loads.to_string(),
                if fewest == most { most.to_string() } else { format!("{fewest} to {most}") },
                scenario.answered.to_string(),
                scenario.coalesced.to_string(),
                scenario.errors.values().sum::<u64>().to_string(),
                scenario.values.len().to_string(),
                format!("{:.0}", scenario.wall_ms),
                format!("{:.0}", scenario.wait_p50_ms),
                format!("{:.0}", scenario.wait_p99_ms),
                scenario.reads.to_string(),
                if scenario.problems.is_empty() { "holds" } else { "DOES NOT HOLD" }.to_owned(),
            ]);
        }
        write!(f, "{table}")?;
        for scenario in &self.scenarios {
            for problem in &scenario.problems {
                write!(f, "\n{}: {problem}", scenario.scenario)?;
            }
            if !scenario.errors.is_empty() {
                write!(f, "\n{}: errors {:?}", scenario.scenario, scenario.errors)?;
            }
            if scenario.remote_faults > 0 {
                write!(f, "\n{}: {} calls of the remote tier failed", scenario.scenario, scenario.remote_faults)?;
            }
        }
        Ok(())
    }
}
