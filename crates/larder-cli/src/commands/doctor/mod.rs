//! `larder doctor`.

mod contents;
mod figures;
mod finding;
mod latency;
mod reach;
mod settings;

use anyhow::Result;
use larder_core::{ErrorKind, Inspect, ServerSettings};
use serde_json::{Value, json};

use self::{finding::Finding, latency::Pings};
use crate::{
    options::DoctorOptions,
    report::{Report, table},
    sample::Sample,
    session::Session,
};

/// How many parts of a key make a prefix: the namespace and the region.
const DEPTH: u8 = 2;
/// How many prefixes and how many keys are listed.
const LISTED: usize = 10;

/// What there is to be told.
#[derive(Debug, Default)]
struct Examination {
    findings: Vec<Finding>,
    pings: Option<Pings>,
    settings: Option<ServerSettings>,
    sample: Option<Sample>,
}

pub(super) async fn run(session: &Session, options: &DoctorOptions) -> Result<Report> {
    let mut examination = Examination::default();
    if let Err(error) = examination.fill(session, options).await {
        // It may have answered until now; it does not any more.
        examination.findings.insert(0, reach::finding(&error));
    }
    Ok(examination.report(&session.address))
}

impl Examination {
    async fn fill(&mut self, session: &Session, options: &DoctorOptions) -> larder_core::Result<()> {
        let figures = session.redis.server_figures().await?;
        self.findings = figures::judged(&figures);
        if figures.loading == Some(true) {
            return Ok(());
        }
        let pings = Pings::take(session, options.pings).await?;
        self.findings.push(pings.finding());
        self.pings = Some(pings);
        let server_settings = session.redis.settings().await?;
        if options.sample > 0 {
            self.look(session, options.sample).await?;
        }
        self.findings.extend(settings::judged(&server_settings, &figures, self.sample.as_ref()));
        self.settings = Some(server_settings);
        Ok(())
    }

    /// A user who may not look at keys is told so; that is no fault of the server.
    async fn look(&mut self, session: &Session, keys: u32) -> larder_core::Result<()> {
        match Sample::take(session, keys).await {
            Ok(sample) => {
                self.findings.extend(contents::judged(&sample));
                self.sample = Some(sample);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Unsupported) => {
                let found =
                    "unknown: the server does not let this user look at keys (RANDOMKEY, TYPE, PTTL, MEMORY USAGE)";
                self.findings.push(Finding::ok("keys", found.to_owned()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn report(&self, address: &str) -> Report {
        let wrong: Vec<&Finding> = self.findings.iter().filter(|finding| !finding.grade.is_fit()).collect();
        let fit = wrong.is_empty();
        let verdict = if fit { "fit for a cache" } else { "not fit for a cache" };
        let failure = match wrong.first() {
            None => None,
            Some(finding) if finding.check == reach::CHECK => {
                Some(format!("{address}: {} ({})", finding.found, finding.todo))
            }
            Some(_) => {
                let checks: Vec<_> = wrong.iter().map(|finding| finding.check).collect();
                Some(format!("{verdict}: {}", checks.join(", ")))
            }
        };
        let document = json!({
            "fit": fit,
            "findings": self.findings.iter().map(Finding::document).collect::<Value>(),
            "ping_us": self.pings.as_ref().map(Pings::document),
            "settings": self.settings.as_ref().map(settings::document),
            "sample": self.sample.as_ref().map(|sample| {
                let mut document = sample.document();
                document["prefixes"] = sample.prefixes(DEPTH, LISTED);
                document["biggest"] = sample.biggest_list(LISTED);
                document
            }),
        });
        let table = table(["check", "grade", "found", "what to do"], self.findings.iter().map(Finding::row));
        let contents = self.sample.as_ref().filter(|sample| !sample.keys.is_empty()).map(|sample| {
            [
                sample.extent(),
                sample.summary(),
                sample.ttl_table(),
                sample.prefix_table(DEPTH, LISTED),
                sample.biggest_table(LISTED),
            ]
            .join("\n")
        });
        let parts = match self.findings.as_slice() {
            // The one line on standard error says it all.
            [only] if only.check == reach::CHECK => Vec::new(),
            _ => [Some(table), contents, Some(verdict.to_owned())].into_iter().flatten().collect(),
        };
        Report::new(parts.join("\n"), document).failing(failure)
    }
}
