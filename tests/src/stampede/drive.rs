//! Starts the server and the processes, gives the signal, kills the leader, collects what came of it.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use larder_testing::RedisServer;

use super::{Answers, Job, Options, Scenario, ScenarioReport};

/// How long a process may be silent: longer than any of its callers waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// By how much a process begins later than the signal at most, in microseconds.
const MAX_DELAY_US: u64 = 5000;

/// A Redis server, on which stampedes are run one after the other.
#[derive(Debug)]
pub struct Stampede {
    server: RedisServer,
    program: PathBuf,
    options: Options,
}

impl Stampede {
    /// Starts the server. `program` is `larder-tests-stampede`. The server ends with this value, and with this process,
    /// however that ends.
    ///
    /// # Errors
    /// If there is no `redis-server`, or it does not come up.
    pub fn start(program: impl Into<PathBuf>, options: Options) -> Result<Self> {
        Ok(Self { server: RedisServer::builder().try_start()?, program: program.into(), options })
    }

    /// Runs one scenario on a key of its own; its processes end before this returns.
    ///
    /// # Errors
    /// If the processes cannot be started, or one ends or is silent for two minutes. A bound that does not hold is part of
    /// the report.
    pub fn run(&self, scenario: Scenario) -> Result<ScenarioReport> {
        let mut jitter = fastrand::Rng::with_seed(self.options.seed);
        let jobs: Vec<Job> = (0..self.options.processes)
            .map(|process| self.job(scenario, process, jitter.u64(0..=MAX_DELAY_US)))
            .collect();
        let mut workers = jobs.iter().map(|job| Worker::start(&self.program, job)).collect::<Result<Vec<_>>>()?;
        for worker in &workers {
            let word = worker.line()?;
            if word != "ready" {
                bail!("process {} said {word:?} and not that it is ready", worker.process);
            }
        }
        self.server.try_command(&["CONFIG", "RESETSTAT"])?;
        for worker in &mut workers {
            worker.go()?;
        }
        if scenario == Scenario::LeaderKilled {
            let leader = self.leader(&jobs[0])?;
            thread::sleep(Duration::from_millis(self.options.load_ms) / 2);
            workers.retain(|worker| worker.process != leader);
        }
        let answers = workers.iter().map(Worker::answers).collect::<Result<Vec<_>>>()?;
        let loads = self.server.try_command(&["GETDEL", &jobs[0].loads_key()])?;
        let loads = loads.parse().with_context(|| format!("the count of the loads is {loads:?}"))?;
        Ok(ScenarioReport::new(scenario, &self.options, loads, self.reads()?, answers))
    }

    fn job(&self, scenario: Scenario, process: u32, delay_us: u64) -> Job {
        let Options { callers, load_ms, remote_deadline_ms, seed, .. } = self.options;
        let name = format!("stampede-{seed}-{}", scenario.to_string().replace(' ', "-"));
        Job {
            url: self.server.url(),
            name,
            process,
            callers,
            load_ms,
            remote_deadline_ms,
            delay_us,
            lease: scenario != Scenario::WithoutLeases,
            first_load_hangs: scenario == Scenario::LeaderKilled,
        }
    }

    /// The process that runs the first load.
    fn leader(&self, job: &Job) -> Result<u32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // MGET, since GETs are counted.
            let who = self.server.try_command(&["MGET", &job.loader_key(1)])?;
            if let Ok(process) = who.parse() {
                return Ok(process);
            }
            if Instant::now() > deadline {
                bail!("no process began to load within {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many GETs and MGETs the server answered since its statistics were reset.
    fn reads(&self) -> Result<u64> {
        let figures = self.server.try_command(&["INFO", "commandstats"])?;
        let reads = figures.lines().filter_map(|line| {
            let line = line.strip_prefix("cmdstat_get:calls=").or_else(|| line.strip_prefix("cmdstat_mget:calls="))?;
            Some(line.split(',').next().unwrap_or_default())
        });
        reads.map(|calls| calls.parse::<u64>().with_context(|| format!("the server counts {calls:?} reads"))).sum()
    }
}

/// A process that ends with this value. It ends with its standard input too, and so with this process.
#[derive(Debug)]
struct Worker {
    process: u32,
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Worker {
    fn start(program: &PathBuf, job: &Job) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["--worker", &serde_json::to_string(job)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let commands = child.stdin.take().expect("it was piped");
        let output = child.stdout.take().expect("it was piped");
        let (said, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process: job.process, child, commands, lines })
    }

    fn go(&mut self) -> Result<()> {
        writeln!(self.commands, "go").with_context(|| format!("process {} has ended", self.process))
    }

    fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow::anyhow!("process {} said nothing for {PATIENCE:?}", self.process),
            RecvTimeoutError::Disconnected => anyhow::anyhow!("process {} has ended", self.process),
        })
    }

    fn answers(&self) -> Result<Answers> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("process {} said {line:?}", self.process))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().expect("a child that was not waited for can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }
}
