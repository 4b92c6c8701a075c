//! Starts the server, the proxies and the processes, lets things fail as the schedule says, and collects what was said.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Counts, ELSEWHERE, Fault, Incident, Options, Report, Rule, Violation,
    process::Process,
    schedule::schedule,
    source::{Shared, now},
    worker::{self, Job, Word},
};

/// How long a process may take to get ready, to become quiet, to settle, to look at all keys.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long before a value was made a fault may have ended that is shown with its violation.
const AROUND_MS: u64 = 500;

/// One run of the torture test, step by step; everything that it starts ends with this value, and with this process however
/// that ends.
#[derive(Debug)]
pub struct Driver {
    options: Options,
    program: PathBuf,
    folder: PathBuf,
    began: u64,
    started: Instant,
    /// Before the server: processes end first.
    processes: Vec<Process>,
    links: Vec<Links>,
    server: RedisServer,
    faults: BTreeMap<Fault, u64>,
    /// What happened when, in milliseconds after the start: shown with violations.
    history: Vec<(Incident, u64)>,
    problems: Vec<String>,
    violations: Vec<Violation>,
}

/// The links of one process.
#[derive(Debug)]
struct Links {
    data: FaultProxy,
    bus: FaultProxy,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Reads so far.
    pub reads: u64,
    /// Invalidations and writes so far.
    pub deeds: u64,
    /// Faults so far.
    pub faults: u64,
    /// Broken promises so far.
    pub violations: u64,
    /// Since the start.
    pub elapsed: Duration,
}

impl Driver {
    /// Starts the server and the processes. `program` is `larder-tests-coherence`.
    ///
    /// # Errors
    /// If there is no `redis-server`, or something does not come up.
    pub async fn start(program: impl Into<PathBuf>, options: Options) -> Result<Self> {
        let server = RedisServer::builder().try_start()?;
        // The server's folder is removed with it, also if this process is killed.
        let answer = server.try_command(&["CONFIG", "GET", "dir"])?;
        let folder = PathBuf::from(answer.lines().nth(1).context("the server does not say where its folder is")?);
        super::prepare(&folder, options.processes)?;
        let mut links = Vec::new();
        for _ in 0..options.processes {
            let (data, bus) = (FaultProxy::start(server.address()).await?, FaultProxy::start(server.address()).await?);
            links.push(Links { data, bus });
        }
        let mut driver = Self {
            options,
            program: program.into(),
            folder,
            began: now(),
            started: Instant::now(),
            processes: Vec::new(),
            links,
            server,
            faults: BTreeMap::new(),
            history: Vec::new(),
            problems: Vec::new(),
            violations: Vec::new(),
        };
        for process in 0..driver.options.processes {
            let process = Process::start(&driver.program, &driver.job(process, 0))?;
            driver.processes.push(process);
        }
        driver.everybody("settle", |word| matches!(word, Word::Settled)).await?;
        if let Some(problem) = driver.problems.first() {
            bail!("{problem}");
        }
        Ok(driver)
    }

    fn job(&self, process: u32, incarnation: u32) -> Job {
        let links = &self.links[process as usize];
        Job {
            data_url: self.server.url_at(links.data.port()),
            bus_url: self.server.url_at(links.bus.port()),
            folder: self.folder.clone(),
            process,
            processes: self.options.processes,
            incarnation,
            seed: self.options.seed,
            deadline_ms: self.options.deadline_ms(),
            began: self.began,
            sabotage: self.options.sabotage,
        }
    }

    /// Runs to the end. `progress` is called about twice a second while things fail.
    ///
    /// # Errors
    /// If a process ends by itself, or does not answer in a minute. Broken promises are part of the report.
    pub async fn run(mut self, mut progress: impl FnMut(Progress)) -> Result<Report> {
        for process in &mut self.processes {
            process.tell("go")?;
        }
        self.torture(&mut progress).await?;
        self.heal().await;
        self.processes[0].tell("quiet")?;
        self.until(0, |word| matches!(word, Word::Quiet)).await?;
        let last_answer = Instant::now();
        self.everybody("settle", |word| matches!(word, Word::Settled)).await?;
        sleep_until(last_answer + ELSEWHERE).await;
        self.look_into_redis().await?;
        self.everybody("check", |word| matches!(word, Word::Checked)).await?;
        Ok(self.report())
    }

    async fn torture(&mut self, progress: &mut impl FnMut(Progress)) -> Result<()> {
        let Options { seed, seconds, processes, .. } = self.options;
        let incidents = schedule(seed, seconds, processes, &self.options.kinds());
        let mut events: Vec<(u64, bool, Incident)> = incidents
            .into_iter()
            .flat_map(|incident| {
                [(incident.at_ms, true, incident), (incident.at_ms + incident.lasts_ms, false, incident)]
            })
            .collect();
        // What begins and ends at once begins first.
        events.sort_by_key(|(at, begins, _)| (*at, !begins));
        let end = self.started_ms() + seconds * 1000;
        let offset = self.started_ms();
        for (at, begins, incident) in events {
            self.wait_until(offset + at, progress).await?;
            if begins { self.strike(incident).await? } else { self.end(incident).await? }
        }
        self.wait_until(end, progress).await
    }

    fn started_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn wait_until(&mut self, at_ms: u64, progress: &mut impl FnMut(Progress)) -> Result<()> {
        loop {
            self.listen()?;
            let left = at_ms.saturating_sub(self.started_ms());
            if left == 0 {
                return Ok(());
            }
            let counts = self.counts();
            progress(Progress {
                reads: counts.reads,
                deeds: counts.deeds.values().sum(),
                faults: self.faults.values().sum(),
                violations: counts.violations,
                elapsed: self.started.elapsed(),
            });
            sleep(Duration::from_millis(left.min(500))).await;
        }
    }

    async fn strike(&mut self, incident: Incident) -> Result<()> {
        let Incident { fault, process, variant, .. } = incident;
        *self.faults.entry(fault).or_default() += 1;
        self.history.push((incident, self.started_ms()));
        let index = process.unwrap_or(0) as usize;
        let Links { data, bus } = &self.links[index];
        let late = |most: u64| Duration::from_millis(20 + variant % most);
        match fault {
            Fault::BusCut => bus.set(ProxyMode::Reset).await,
            Fault::BusDelayed => bus.set(ProxyMode::DelayAnswers(late(800))).await,
            Fault::BusHalfOpen => bus.set(ProxyMode::Blackhole).await,
            Fault::DataCut => data.set(ProxyMode::Reset).await,
            Fault::DataDelayed => data.set(ProxyMode::Delay(late(250))).await,
            Fault::DataHalfOpen => data.set(ProxyMode::Blackhole).await,
            Fault::ProcessPaused => self.processes[index].pause()?,
            Fault::ProcessKilled => {
                self.processes[index].kill();
            }
            Fault::RedisPaused => self.server.pause(),
            Fault::RedisEmptied => {
                remove(&self.folder.join("dump.rdb"))?;
                self.server.restart();
            }
            Fault::RedisRolledBack => {
                self.server.try_command(&["SAVE"])?;
            }
            Fault::RedisDisconnected => {
                self.server.try_command(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
                if variant % 2 == 0 {
                    self.server.try_command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])?;
                }
            }
            Fault::KeysEvicted => {
                for _ in 0..20 {
                    let key = self.server.try_command(&["RANDOMKEY"])?;
                    self.server.try_command(&["UNLINK", &key])?;
                }
            }
        }
        Ok(())
    }

    async fn end(&mut self, incident: Incident) -> Result<()> {
        let Incident { fault, process, variant, .. } = incident;
        let index = process.unwrap_or(0) as usize;
        let Links { data, bus } = &self.links[index];
        match fault {
            Fault::BusCut | Fault::BusDelayed => bus.set(ProxyMode::Pass).await,
            Fault::DataCut | Fault::DataDelayed => data.set(ProxyMode::Pass).await,
            // What was sent into the link arrives late, or never.
            Fault::BusHalfOpen => mend(bus, variant % 2 == 0).await,
            Fault::DataHalfOpen => mend(data, variant % 2 == 0).await,
            Fault::ProcessPaused => self.processes[index].resume()?,
            Fault::ProcessKilled => self.start_anew(index)?,
            Fault::RedisPaused => self.server.resume(),
            Fault::RedisRolledBack => self.server.restart(),
            Fault::RedisEmptied | Fault::RedisDisconnected | Fault::KeysEvicted => {}
        }
        Ok(())
    }

    fn start_anew(&mut self, index: usize) -> Result<()> {
        let incarnation = self.processes[index].incarnation + 1;
        let process = u32::try_from(index).context("there are few processes")?;
        let mut started = Process::start(&self.program, &self.job(process, incarnation))?;
        started.tell("go")?;
        started.before = self.processes[index].counts();
        self.take_words(index)?;
        self.processes[index] = started;
        Ok(())
    }

    /// All faults end with the schedule; this is for those that a schedule of its own might leave.
    async fn heal(&mut self) {
        for Links { data, bus } in &self.links {
            data.set(ProxyMode::Pass).await;
            bus.set(ProxyMode::Pass).await;
        }
    }

    /// Takes what all processes have said.
    fn listen(&mut self) -> Result<()> {
        for index in 0..self.processes.len() {
            self.take_words(index)?;
        }
        Ok(())
    }

    fn take_words(&mut self, index: usize) -> Result<()> {
        while let Some(word) = self.processes[index].heard()? {
            self.note(index, word);
        }
        Ok(())
    }

    fn note(&mut self, index: usize, word: Word) {
        match word {
            Word::Progress(counts) => self.processes[index].now = counts,
            Word::Violation(violation) => self.violations.push(violation),
            Word::Problem(problem) => self.problems.push(format!("process {index}: {problem}")),
            Word::Ready | Word::Quiet | Word::Settled | Word::Checked => {}
        }
    }

    /// Waits for a process to say something; a problem of it is noted and ends the wait too.
    async fn until(&mut self, index: usize, wanted: impl Fn(&Word) -> bool) -> Result<()> {
        let waiting = async {
            loop {
                let word = self.processes[index].next().await?;
                let ends = wanted(&word) || matches!(word, Word::Problem(_));
                self.note(index, word);
                if ends {
                    return Ok(());
                }
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("process {index} did not do in {PATIENCE:?} what it was told"))?
    }

    async fn everybody(&mut self, command: &str, wanted: impl Fn(&Word) -> bool) -> Result<()> {
        for process in &mut self.processes {
            process.tell(command)?;
        }
        for index in 0..self.processes.len() {
            self.until(index, &wanted).await?;
        }
        Ok(())
    }

    /// What a process finds that has nothing of its own.
    async fn look_into_redis(&mut self) -> Result<()> {
        let shared = Shared::open(&self.folder)?;
        let began = now();
        let millis = |at: u64| at.saturating_sub(self.began) / 1_000_000;
        for (key, value) in (0..).zip(worker::stored(&self.server.url()).await?) {
            let Some(value) = value else { continue };
            let expected = shared.source.version(key)?;
            if value.version != expected {
                self.violations.push(Violation {
                    rule: Rule::Redis,
                    key,
                    seen: value.version,
                    expected,
                    process: self.options.processes,
                    incarnation: 0,
                    at_ms: millis(began),
                    took_us: 0,
                    source: "remote".to_owned(),
                    made_by: value.by,
                    made_ms: millis(value.at),
                    deed: None,
                    answered_ms: None,
                    deferred: false,
                    faults: Vec::new(),
                });
            }
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for process in &self.processes {
            counts.add(&process.counts());
        }
        counts
    }

    fn report(mut self) -> Report {
        let counts = self.counts();
        let in_redis = self.violations.iter().filter(|violation| violation.rule == Rule::Redis).count() as u64;
        let mut by_rule: BTreeMap<Rule, u64> = BTreeMap::new();
        let history = &self.history;
        for violation in &mut self.violations {
            *by_rule.entry(violation.rule).or_default() += 1;
            violation.faults = around(history, violation);
        }
        self.violations.sort_by_key(|violation| violation.at_ms);
        let violations = counts.violations + in_redis;
        Report {
            optimized: !cfg!(debug_assertions),
            holds: violations == 0 && self.problems.is_empty(),
            took_ms: self.started_ms(),
            reads: counts.reads,
            writes: counts.writes(),
            invalidations: counts.invalidations(),
            faults: self.faults.clone(),
            violations,
            violations_by_rule: by_rule,
            examples: std::mem::take(&mut self.violations),
            problems: std::mem::take(&mut self.problems),
            options: self.options.clone(),
            counts,
        }
    }
}

/// The faults of the server, of the writer and of those that made and read the value, between these moments.
fn around(history: &[(Incident, u64)], violation: &Violation) -> Vec<String> {
    let from = violation.answered_ms.unwrap_or(violation.made_ms).min(violation.made_ms).saturating_sub(AROUND_MS);
    let concerned = [None, Some(0), Some(violation.process), Some(violation.made_by)];
    let near = history.iter().filter(|(incident, at)| {
        concerned.contains(&incident.process) && *at <= violation.at_ms && at + incident.lasts_ms >= from
    });
    near.map(|(incident, at)| {
        let whom = incident.process.map_or(String::new(), |process| format!(" of {process}"));
        let Incident { fault, lasts_ms, .. } = incident;
        format!("{fault}{whom} at {at} ms for {lasts_ms} ms")
    })
    .collect()
}

async fn mend(link: &FaultProxy, arrives: bool) {
    if !arrives {
        link.set(ProxyMode::Reset).await;
    }
    link.set(ProxyMode::Pass).await;
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
