//! What a smoke run has shown.

use std::{fmt, time::Duration};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};

use super::{NEEDED_HIT_RATE, drive::Driven};

/// One phase.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Phase {
    /// Requests that were answered.
    pub requests: usize,
    /// Requests a second.
    pub per_second: f64,
    /// Half of the requests were answered within this time.
    pub p50: Duration,
    /// 99 of 100 were.
    pub p99: Duration,
    /// Requests that the exchange served.
    pub exchange_calls: u64,
    /// Statements that the database ran.
    pub database_calls: u64,
}

impl Phase {
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    pub(super) fn new(driven: &Driven, (exchange_calls, database_calls): (u64, u64)) -> Self {
        let at = |percent: usize| {
            let last = driven.latencies.len().saturating_sub(1);
            driven.latencies.get(last * percent / 100).copied().unwrap_or_default()
        };
        Self {
            requests: driven.latencies.len(),
            per_second: driven.latencies.len() as f64 / driven.took.as_secs_f64().max(f64::EPSILON),
            p50: at(50),
            p99: at(99),
            exchange_calls,
            database_calls,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "requests": self.requests,
            "per_second": self.per_second,
            "p50_us": micros(self.p50),
            "p99_us": micros(self.p99),
            "exchange_calls": self.exchange_calls,
            "database_calls": self.database_calls,
        })
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The hit rate of one cached function.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FunctionRate {
    /// Its name.
    pub name: String,
    /// Calls, without those that warmed it.
    pub requests: u64,
    /// Hits per call.
    pub hit_rate: f64,
}

/// What a smoke run has shown.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The cache off.
    pub off: Phase,
    /// The cache on.
    pub on: Phase,
    /// Distinct requests whose answers were compared.
    pub compared: usize,
    /// Those whose answers differ.
    pub differing: Vec<String>,
    /// Of the phase with the cache on.
    pub hit_rate: f64,
    /// By cached function.
    pub functions: Vec<FunctionRate>,
    /// What warming did.
    pub warmed: larder_warming::Report,
    /// Whether a write was seen at once by everything that depends on it.
    pub new_value_seen: bool,
    /// What many callers of one cold key have shown.
    pub stampede: super::StampedeReport,
    /// What an outage of the remote tier has shown, if there was one.
    #[cfg(unix)]
    pub outage: Option<super::OutageReport>,
}

impl Report {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.failures().is_empty()
    }

    /// What is not.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if self.compared == 0 {
            failures.push("no answer was there in both phases".to_owned());
        }
        if let Some(first) = self.differing.first() {
            failures.push(format!("{} answers differ with the cache on, such as {first}", self.differing.len()));
        }
        // An outage takes what was warmed with it, from a server that starts again empty all of it.
        if self.hit_rate <= NEEDED_HIT_RATE && !self.had_outage() {
            failures.push(format!(
                "the hit rate is {:.1} %, not above {:.0} %",
                self.hit_rate * 100.0,
                NEEDED_HIT_RATE * 100.0
            ));
        }
        if !self.new_value_seen {
            failures.push("a write was not seen at once by what depends on it".to_owned());
        }
        if !self.warmed.is_complete() {
            failures.push(format!("{} requests could not be warmed", self.warmed.failed));
        }
        failures.extend(self.stampede.failure());
        #[cfg(unix)]
        failures.extend(self.outage.iter().filter_map(super::OutageReport::failure));
        failures
    }

    fn had_outage(&self) -> bool {
        #[cfg(unix)]
        let had = self.outage.is_some();
        #[cfg(not(unix))]
        let had = false;
        had
    }

    /// The report for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        #[cfg(unix)]
        let outage = self.outage.as_ref().map(super::OutageReport::to_json);
        #[cfg(not(unix))]
        let outage = Value::Null;
        json!({
            "outage": outage,
            "passed": self.is_passed(),
            "failures": self.failures(),
            "compared": self.compared,
            "differing": self.differing,
            "hit_rate": self.hit_rate,
            "functions": self.functions.iter().map(|function| json!({
                "name": function.name, "requests": function.requests, "hit_rate": function.hit_rate,
            })).collect::<Vec<_>>(),
            "warmed": { "loaded": self.warmed.loaded, "already_warm": self.warmed.already_warm, "failed": self.warmed.failed },
            "new_value_seen": self.new_value_seen,
            "stampede": self.stampede.to_json(),
            "off": self.off.to_json(),
            "on": self.on.to_json(),
            "exchange_calls_saved": self.saved(self.off.exchange_calls, self.on.exchange_calls),
            "database_calls_saved": self.saved(self.off.database_calls, self.on.database_calls),
        })
    }

    /// Calls that the requests of the second phase would have cost at the first phase's rate, less those they did cost.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn saved(&self, off: u64, on: u64) -> u64 {
        let per_request = off as f64 / (self.off.requests.max(1) as f64);
        ((per_request * self.on.requests as f64) as u64).saturating_sub(on)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut phases = Table::new();
        phases.load_style(UTF8_FULL_CONDENSED).set_header(["", "cache off", "cache on"]);
        let mut row = |name: &str, of: &dyn Fn(&Phase) -> String| {
            phases.add_row([name.to_owned(), of(&self.off), of(&self.on)]);
        };
        row("requests", &|phase| phase.requests.to_string());
        row("requests a second", &|phase| format!("{:.0}", phase.per_second));
        row("p50 latency", &|phase| format!("{:.2?}", phase.p50));
        row("p99 latency", &|phase| format!("{:.2?}", phase.p99));
        row("exchange calls", &|phase| phase.exchange_calls.to_string());
        row("database calls", &|phase| phase.database_calls.to_string());
        writeln!(f, "{phases}")?;
        let mut functions = Table::new();
        functions.load_style(UTF8_FULL_CONDENSED).set_header(["function", "calls", "hit rate"]);
        for function in &self.functions {
            let rate = format!("{:.1} %", function.hit_rate * 100.0);
            functions.add_row([function.name.clone(), function.requests.to_string(), rate]);
        }
        writeln!(f, "{functions}")?;
        let saved_exchange = self.saved(self.off.exchange_calls, self.on.exchange_calls);
        let saved_database = self.saved(self.off.database_calls, self.on.database_calls);
        writeln!(f, "hit rate          {:.2} %", self.hit_rate * 100.0)?;
        writeln!(f, "calls saved       {saved_exchange} of the exchange, {saved_database} of the database")?;
        writeln!(
            f,
            "warmed            {} loaded, {} already warm, {} failed",
            self.warmed.loaded, self.warmed.already_warm, self.warmed.failed
        )?;
        writeln!(f, "answers compared  {}, {} differ", self.compared, self.differing.len())?;
        writeln!(f, "write seen        {}", if self.new_value_seen { "at once" } else { "no" })?;
        let stampede = &self.stampede;
        writeln!(
            f,
            "stampede          {} callers of one cold key: {} load(s), {} errors, answered in {:.2?}",
            stampede.callers, stampede.loads, stampede.failed, stampede.took
        )?;
        #[cfg(unix)]
        if let Some(outage) = &self.outage {
            writeln!(f, "outage            {}: {}", outage.topology, outage.topology.outage())?;
            writeln!(f, "  servers         got over it in {:.2?}", outage.servers_took)?;
            writeln!(f, "  requests        {} answered meanwhile, 0 failed", outage.requests)?;
            match outage.used_again_after {
                Some(after) => writeln!(f, "  remote tier     used again {after:.2?} later")?,
                None => writeln!(f, "  remote tier     not used again")?,
            }
        }
        match self.failures().as_slice() {
            [] => write!(f, "passed"),
            failures => write!(f, "FAILED: {}", failures.join("; ")),
        }
    }
}
