//! What came of a run, and whether what must hold does.

use std::{collections::BTreeMap, fmt, sync::atomic::Ordering, time::Duration};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use super::{
    FullDisk, Latencies, Quantiles, Sample, Scenario, WrongValue,
    audit::Lost,
    fault::Times,
    watch::Peaks,
    world::{FALLBACK_BYTES, JOURNAL_BYTES, World, lock, near_bytes},
};

/// How long the breaker may take to open where a server is gone at one stroke, and how long it may take until Redis is used
/// again.
pub(super) const DETECTED: Duration = Duration::from_millis(200);
pub(super) const RECOVERED: Duration = Duration::from_secs(1);

/// By how much a read of an absent key may exceed its loader while the breaker is open.
pub(super) const LOAD_RATIO: f64 = 1.1;

/// What a program may need beside what its caches may hold and the notes about the calls: tasks, buffers of sockets, what an
/// allocator does not give back.
const SLACK: u64 = 64 << 20;

/// How many lost invalidations are described.
const MOST_DESCRIBED: usize = 20;

/// What was seen in the course of a run.
pub(super) struct Course {
    pub(super) times: Times,
    pub(super) recovered: Option<Duration>,
    pub(super) open: Vec<(Duration, Duration)>,
    pub(super) settled: bool,
    pub(super) lost: Vec<Lost>,
    pub(super) disk: Option<FullDisk>,
    pub(super) resident_before: u64,
    pub(super) machine: [u64; 3],
}

/// The most that was needed in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// In the near tier.
    pub near_bytes: u64,
    /// What that may hold.
    pub near_bound: u64,
    /// In the fallback.
    pub fallback_bytes: u64,
    /// What that may hold.
    pub fallback_bound: u64,
    /// In the journal.
    pub journal_bytes: u64,
    /// What that may hold.
    pub journal_bound: u64,
    /// Resident memory of the whole program when its caches were warm, its own notes about the calls included.
    pub resident_before: u64,
    /// The most that it was while Redis was away.
    pub resident_in_fault: u64,
    /// The most that it was in the whole run.
    pub resident_peak: u64,
    /// What it may be: what it was before, what caches may hold, what is noted of the calls, and 64 MiB.
    pub resident_bound: u64,
}

impl Memory {
    fn new(world: &World, peaks: Peaks, course: &Course) -> Self {
        let (near_bound, journal_bound) = (near_bytes(world.scenario), JOURNAL_BYTES as u64);
        let [resident_peak, resident_in_fault, _] = course.machine;
        let caches = world.processes.len() as u64 * (near_bound + FALLBACK_BYTES + journal_bound);
        // The notes of each caller have room for twice as many at most.
        let notes = world.tally.calls.load(Ordering::Relaxed) * 2 * size_of::<Sample>() as u64;
        Self {
            near_bytes: peaks.near_bytes,
            near_bound,
            fallback_bytes: peaks.fallback_bytes,
            fallback_bound: FALLBACK_BYTES,
            journal_bytes: peaks.journal_bytes,
            journal_bound,
            resident_before: course.resident_before,
            resident_in_fault,
            resident_peak,
            resident_bound: course.resident_before + caches + notes + SLACK,
        }
    }

    fn holds(&self, is_alone: bool) -> bool {
        self.near_bytes <= self.near_bound
            && self.fallback_bytes <= self.fallback_bound
            && self.journal_bytes <= self.journal_bound
            && (!is_alone || self.resident_peak <= self.resident_bound)
    }
}

/// What does not hold though it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Callers saw errors.
    Errors,
    /// Callers were told wrong values.
    WrongValues,
    /// Redis holds values at the end that were invalidated.
    LostInvalidations,
    /// The remote tier was not used again within 30 s.
    NotRecovered,
    /// A breaker was not closed, a journal not empty or a bus not trusted within 30 s of the end.
    NotSettled,
    /// The near tier, the fallback, the journal or the whole program held more than it may.
    Memory,
    /// A full disk under the journal's file was not said in health, figures and log, or a successor took the file for complete.
    FullDisk,
}

/// What came of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct ScenarioReport {
    /// Which one.
    pub scenario: Scenario,
    /// How long the fault took, in milliseconds.
    pub fault_ms: u64,
    /// Calls of all callers in all processes.
    pub calls: u64,
    /// Errors of calls and of invalidations, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Calls that were told a wrong value.
    pub wrong: u64,
    /// Some of them.
    pub wrong_values: Vec<WrongValue>,
    /// Changes that were invalidated.
    pub changes: u64,
    /// Of these, deferred.
    pub deferred: u64,
    /// Values in Redis, at the end, that are older than the truth.
    pub lost: u64,
    /// Some of them.
    pub lost_values: Vec<Lost>,
    /// Calls that were over before the fault.
    pub before: Option<Quantiles>,
    /// Calls between the beginning of the fault and the recovery.
    pub during: Option<Quantiles>,
    /// Calls after the recovery.
    pub after: Option<Quantiles>,
    /// From the beginning of the fault until the breaker was open, in milliseconds; nothing if it stayed closed.
    pub detect_ms: Option<u64>,
    /// From the end of the fault until a value came from Redis again, in milliseconds.
    pub recover_ms: Option<u64>,
    /// How often the breaker left its closed state.
    pub opened: usize,
    /// How long a call that loads takes beside its loader alone while the breaker is open, as a ratio of medians.
    pub load_ratio: Option<f64>,
    /// The most that was needed in memory.
    pub memory: Memory,
    /// The most removals in a journal.
    pub journal_peak: usize,
    /// What was seen of a full disk under the journal's file, in the scenario that has one.
    pub disk: Option<FullDisk>,
    /// The most tasks of the runtime.
    pub tasks_peak: u64,
    /// When the fault began, it was detected, it ended and Redis was used again, in milliseconds since the start.
    pub marks_ms: [Option<u64>; 4],
    /// What does not hold; nothing if all does.
    pub problems: Vec<Problem>,
    /// What took longer than it should; no failure, since machines differ.
    pub slow: Vec<String>,
}

impl ScenarioReport {
    pub(super) fn new(world: &World, latencies: &Latencies, course: &Course) -> Self {
        let Times { began, ended } = course.times;
        let recovered = course.recovered.unwrap_or(ended);
        let detected = course.detected();
        let peaks = world.processes.iter().map(|process| process.watched.peaks()).fold(Peaks::default(), Peaks::max);
        let tasks_peak = course.machine[2];
        let mut report = Self {
            scenario: world.scenario,
            fault_ms: millis(ended - began),
            calls: world.tally.calls.load(Ordering::Relaxed),
            errors: world.tally.errors(),
            wrong: world.tally.wrong.load(Ordering::Relaxed),
            wrong_values: lock(&world.tally.described).clone(),
            changes: world.tally.changes.load(Ordering::Relaxed),
            deferred: world.tally.deferred.load(Ordering::Relaxed),
            lost: course.lost.len() as u64,
            lost_values: course.lost.iter().take(MOST_DESCRIBED).copied().collect(),
            before: latencies.before(began),
            during: latencies.during(began, recovered),
            after: latencies.after(recovered),
            detect_ms: detected.map(millis),
            recover_ms: course.recovered.map(|at| millis(at.saturating_sub(ended))),
            opened: course.open.len(),
            load_ratio: latencies.load_ratio(&course.open),
            memory: Memory::new(world, peaks, course),
            journal_peak: peaks.journal,
            disk: course.disk,
            tasks_peak,
            marks_ms: [Some(began), detected.map(|after| began + after), Some(ended), course.recovered]
                .map(|mark| mark.map(millis)),
            problems: Vec::new(),
            slow: Vec::new(),
        };
        report.problems = report.check(course, world.settings.is_alone);
        report.slow = report.check_speed(course);
        report
    }

    fn check(&self, course: &Course, is_alone: bool) -> Vec<Problem> {
        let checks = [
            (!self.errors.is_empty(), Problem::Errors),
            (self.wrong > 0, Problem::WrongValues),
            (self.lost > 0, Problem::LostInvalidations),
            (course.recovered.is_none(), Problem::NotRecovered),
            (!course.settled, Problem::NotSettled),
            (!self.memory.holds(is_alone), Problem::Memory),
            (self.disk.is_some_and(|disk| !disk.holds()), Problem::FullDisk),
        ];
        checks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, problem)| problem).collect()
    }

    fn check_speed(&self, course: &Course) -> Vec<String> {
        let mut slow = Vec::new();
        if course.was_open_already() {
            slow.push("the breaker was open already when the fault began: this machine is too busy".to_owned());
        } else if self.scenario.has_budgets() {
            match self.detect_ms {
                Some(took) if took <= millis(DETECTED) => {}
                Some(took) => slow.push(format!("detected after {took} ms, not within {DETECTED:?}")),
                None => slow.push("not detected".to_owned()),
            }
            if let Some(took) = self.recover_ms.filter(|took| *took > millis(RECOVERED)) {
                slow.push(format!("used again after {took} ms, not within {RECOVERED:?}"));
            }
        }
        if let Some(ratio) = self.load_ratio.filter(|ratio| *ratio > LOAD_RATIO) {
            slow.push(format!(
                "with the breaker open a load costs {ratio:.2} times its loader, not at most {LOAD_RATIO}"
            ));
        }
        slow
    }

    /// Its cells, in the order of [`HEADER`].
    pub(super) fn cells(&self) -> Vec<String> {
        let quantiles = |figures: Option<Quantiles>| {
            figures.map_or_else(|| "-".to_owned(), |at| format!("{} / {}", ms(at.p50_us), ms(at.p99_us)))
        };
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        vec![
            self.scenario.to_string(),
            self.calls.to_string(),
            self.errors.values().sum::<u64>().to_string(),
            self.wrong.to_string(),
            self.lost.to_string(),
            quantiles(self.before),
            quantiles(self.during),
            quantiles(self.after),
            time(self.detect_ms),
            time(self.recover_ms),
            self.opened.to_string(),
            self.load_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            format!("{} / {}", kib(self.memory.near_bytes), kib(self.memory.near_bound)),
            format!("{} / {}", kib(self.memory.fallback_bytes), kib(self.memory.fallback_bound)),
            format!("{} / {}", kib(self.memory.journal_bytes), kib(self.memory.journal_bound)),
            [self.memory.resident_before, self.memory.resident_in_fault, self.memory.resident_bound]
                .map(|bytes| bytes.div_ceil(1 << 20).to_string())
                .join(" / "),
        ]
    }
}

/// The heads of the table's columns.
pub(super) const HEADER: [&str; 16] = [
    "scenario",
    "calls",
    "errors",
    "wrong",
    "lost",
    "before, ms",
    "during, ms",
    "after, ms",
    "detect, ms",
    "recover, ms",
    "opened",
    "load x",
    "near, KiB",
    "fallback, KiB",
    "journal, KiB",
    "resident, MiB",
];

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn ms(micros: u32) -> String {
    let ms = f64::from(micros) / 1000.0;
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

/// All scenarios of one command.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How long callers asked, in seconds, in all scenarios together.
    pub seconds: u64,
    /// Whether the program was built with optimizations.
    pub optimized: bool,
    /// Whether everything that must hold does.
    pub holds: bool,
    /// The scenarios, in the order in which they ran.
    pub scenarios: Vec<ScenarioReport>,
}

impl Report {
    /// Puts the scenarios together.
    #[must_use]
    pub fn new(seed: u64, seconds: u64, scenarios: Vec<ScenarioReport>) -> Self {
        let holds = scenarios.iter().all(|scenario| scenario.problems.is_empty());
        Self { seed, seconds, optimized: !cfg!(debug_assertions), holds, scenarios }
    }
}

/// A table, what does not hold, and what took longer than it should.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(HEADER);
        for scenario in &self.scenarios {
            table.add_row(scenario.cells());
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")?;
        for scenario in &self.scenarios {
            for slow in &scenario.slow {
                write!(f, "\n{}: slow: {slow}", scenario.scenario)?;
            }
        }
        for scenario in self.scenarios.iter().filter(|scenario| !scenario.problems.is_empty()) {
            write!(f, "\n{}", Broken(scenario))?;
        }
        Ok(())
    }
}

/// What does not hold in a scenario, with examples.
struct Broken<'a>(&'a ScenarioReport);

impl fmt::Display for Broken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScenarioReport { scenario, problems, errors, wrong_values, lost_values, disk, .. } = self.0;
        write!(f, "{scenario}: DOES NOT HOLD: {problems:?}")?;
        if let Some(disk) = disk {
            write!(f, "\n  {disk:?}")?;
        }
        if !errors.is_empty() {
            write!(f, "\n  errors: {errors:?}")?;
        }
        for wrong in wrong_values.iter().take(3) {
            let WrongValue { process, item, got, floor, at_ms, source } = wrong;
            write!(
                f,
                "\n  wrong: process {process}, item {item} at {at_ms} ms: version {got} from {source}, not {floor}"
            )?;
        }
        for Lost { item, stored, truth } in lost_values.iter().take(3) {
            write!(f, "\n  lost: item {item} is {stored} in Redis, not {truth}")?;
        }
        Ok(())
    }
}
