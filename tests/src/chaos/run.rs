//! One scenario from its start to its report.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Result, bail};
use futures_util::future::{join_all, try_join_all};
use larder_testing::FaultProxy;
use tokio::{
    task::{JoinSet, block_in_place},
    time::{Instant, sleep, timeout},
};

use super::{
    Latencies, Sabotage, Scenario, ScenarioReport, Settings,
    audit::{self, Lost},
    disk::File,
    fault::{self, Times},
    heir::{self, FullDisk},
    load::{CALLERS, ask_for_all, call},
    log,
    promises::HEARD,
    report::Course,
    servers::{PATIENCE, Servers},
    truth::ITEMS,
    watch::{Machine, resident_bytes, watch},
    world::{FAULT, Process, World, lock},
    writer::write,
};

/// How often whoever watches is told.
const TOLD: Duration = Duration::from_millis(200);

/// How often it is looked at whether Redis is used again.
const LOOK: Duration = Duration::from_millis(3);

/// What a run is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which part.
    pub part: &'static str,
    /// Since the start.
    pub elapsed: Duration,
    /// Calls so far.
    pub calls: u64,
    /// Of these, with an error.
    pub errors: u64,
    /// Of these, with a wrong value.
    pub wrong: u64,
    /// What the breaker lets through.
    pub breaker: String,
}

/// Runs a scenario. Needs a runtime of several threads. Its servers end with it.
///
/// # Errors
/// If a server cannot be started or commanded. What callers meet with is part of the report.
pub async fn run(
    scenario: Scenario,
    settings: &Settings,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(ScenarioReport, Latencies)> {
    let mut servers = block_in_place(|| Servers::start(scenario))?;
    let journal = (scenario == Scenario::JournalDiskFull).then(File::new).transpose()?;
    if journal.is_some() {
        log::listen()?;
    }
    let mut processes = Vec::new();
    for _ in 0..scenario.processes() {
        let proxy = FaultProxy::start(servers.main.address()).await?;
        processes
            .push(Process::start(servers.url(scenario, &proxy), proxy, settings, (scenario, journal.as_ref())).await?);
    }
    let world = Arc::new(World::new(scenario, settings.clone(), processes, journal));
    tokio::select! {
        report = course(&world, &mut servers) => report,
        never = tell(&world, progress) => match never {},
    }
}

async fn tell(world: &World, progress: &(dyn Fn(Progress) + Send + Sync)) -> std::convert::Infallible {
    loop {
        progress(Progress {
            part: *lock(&world.part),
            elapsed: world.now(),
            calls: world.tally.calls.load(Ordering::Relaxed),
            errors: world.tally.errors().values().sum(),
            wrong: world.tally.wrong.load(Ordering::Relaxed),
            breaker: world.processes[world.scenario.victim()].watched.breaker(),
        });
        sleep(TOLD).await;
    }
}

async fn course(world: &Arc<World>, servers: &mut Servers) -> Result<(ScenarioReport, Latencies)> {
    let machine = Arc::new(Machine::default());
    // They end with this set, whatever happens.
    let mut watchers = JoinSet::new();
    for process in 0..world.processes.len() {
        watchers.spawn(watch(Arc::clone(world), process));
    }
    world.begin("warming");
    if !world.settle().await {
        bail!("the caches do not find Redis within {PATIENCE:?}");
    }
    ask_for_all(world).await;
    if !world.settle().await {
        bail!("the caches do not get warm: this machine answers too few calls within the deadline");
    }
    let resident_before = resident_bytes();
    watchers.spawn(Arc::clone(&machine).watch(Arc::clone(world)));

    world.begin("before");
    let processes = 0..world.processes.len();
    let callers = processes.flat_map(|process| (0..CALLERS).map(move |caller| (process, caller)));
    let callers: Vec<_> =
        callers.map(|(process, number)| tokio::spawn(call(Arc::clone(world), process, number))).collect();
    let writing = (0..world.processes.len()).filter(|process| !world.scenario.is_bystander(*process));
    let writers: Vec<_> = writing.map(|process| tokio::spawn(write(Arc::clone(world), process))).collect();
    sleep(world.plan.before).await;

    // On a busy machine the breaker may be open already, for answers that came late.
    world.settle().await;
    world.begin(FAULT);
    let times = fault::inject(world, servers).await?;
    world.begin("after");
    let after = Instant::now() + world.plan.after;
    let recovered = timeout(PATIENCE, await_remote_hit(world, servers)).await.ok().transpose()?;
    tokio::time::sleep_until(after).await;
    let open = world.processes[world.scenario.victim()].watched.open_spans(world.now());

    world.writers_end.store(true, Ordering::Relaxed);
    try_join_all(writers).await?;
    // What is noted of the calls is put together from here on.
    let machine = machine.peaks();
    world.callers_end.store(true, Ordering::Relaxed);
    let mut samples = Vec::new();
    for calls in try_join_all(callers).await? {
        samples.extend(calls?);
    }
    world.begin("last look");
    let (settled, disk, lost) = last_look(world, servers).await?;
    watchers.shutdown().await;
    let latencies = Latencies::new(samples);
    let course = Course { times, recovered, open, settled, lost, disk, resident_before, machine };
    Ok((ScenarioReport::new(world, &latencies, &course), latencies))
}

/// When the process that was hit read a value that stands in Redis alone.
async fn await_remote_hit(world: &World, servers: &Servers) -> Result<Duration> {
    let value = fastrand::u64(..);
    let (key, cache) = ("probe", &world.processes[world.scenario.victim()].cache);
    let witness = servers.witness().await?;
    while witness.try_set(key, value).await.is_err() {
        sleep(LOOK).await;
    }
    while !audit::reaches(cache, key, value).await {
        sleep(LOOK).await;
    }
    let at = world.now();
    witness.shutdown().await;
    Ok(at)
}

/// When nobody changes anything any more, every process must be told the truth, and Redis must hold nothing older.
async fn last_look(world: &Arc<World>, servers: &Servers) -> Result<(bool, Option<FullDisk>, Vec<Lost>)> {
    let settled = world.settle().await;
    if world.processes.len() > 1 {
        sleep(HEARD).await;
    }
    for process in 0..world.processes.len() {
        for item in 0..ITEMS {
            world.truth.promise(process, item, world.truth.version(item));
        }
    }
    if world.settings.sabotage == Sabotage::LateWrite {
        audit::put_old_values(servers, &world.truth).await?;
    }
    ask_for_all(world).await;
    join_all(world.processes.iter().map(|process| process.cache.shutdown())).await;
    let left = lock(&world.left).take();
    let disk = match &left {
        Some(left) => Some(heir::inherit(world, servers, left).await?),
        None => None,
    };
    Ok((settled, disk, audit::lost(servers, &world.truth).await?))
}

impl Course {
    /// How long after the beginning of the fault the breaker was seen to open; `None` if it was not.
    pub(super) fn detected(&self) -> Option<Duration> {
        let Times { began, ended } = self.times;
        let first = self.open.iter().find(|(from, _)| *from >= began && *from < ended);
        first.filter(|_| !self.was_open_already()).map(|(from, _)| *from - began)
    }

    /// Whether the breaker was open when the fault began, for no other reason than that the machine is slow.
    pub(super) fn was_open_already(&self) -> bool {
        let began = self.times.began;
        self.open.iter().any(|(from, to)| *from < began && *to > began)
    }
}
