//! What is done to Redis, scenario by scenario.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::future::{join, join_all};
use larder_testing::ProxyMode;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{
    Scenario,
    servers::{PASSWORD, Servers, USER, replicate},
    truth::{GROUP, KEPT, KEPT_FROM_WRITERS, Reading},
    world::{World, lock},
    writer::{Target, invalidate},
};

/// For how long a server stands still without its bus being taken for dead.
const SHORT_STOP: Duration = Duration::from_millis(1200);

/// How much later than its deadline one UNLINK arrives.
const LATE: Duration = Duration::from_millis(450);

/// How much later than their deadline SETs on their way arrive: longer than it takes to give up their sockets and to replay a
/// removal.
const ON_ITS_WAY: Duration = Duration::from_millis(1500);

/// How long it takes at most until what is sent is on its way. A busy machine that takes longer shows less.
const SENT: Duration = Duration::from_millis(30);

/// Keys that the server loads each millisecond: see `servers.rs`.
const LOADED_EACH_MS: u64 = 1;

/// When the fault began and ended, since the start of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) began: Duration,
    pub(super) ended: Duration,
}

/// Lets Redis fail for about as long as the plan says.
pub(super) async fn inject(world: &Arc<World>, servers: &mut Servers) -> Result<Times> {
    let length = world.plan.fault;
    let fault = Fault { world, servers, length };
    match world.scenario {
        Scenario::KillRestart | Scenario::RestartEmpty => fault.kill().await,
        Scenario::RestartOldDump => fault.kill_with_dump().await,
        Scenario::JournalDiskFull => fault.fill_disk().await,
        Scenario::CrashOldDump => fault.crash_after_dump().await,
        Scenario::Loading => fault.load_slowly().await,
        Scenario::Flapping => fault.flap().await,
        Scenario::Sigstop => fault.stop().await,
        Scenario::SigstopBusIntact => fault.stop_shortly().await,
        Scenario::Blackhole => fault.proxy(0, ProxyMode::Blackhole).await,
        Scenario::TwoProcessesOneCutOff => fault.proxy(1, ProxyMode::Blackhole).await,
        Scenario::Delay30ms => fault.proxy(0, ProxyMode::Delay(Duration::from_millis(30))).await,
        Scenario::Delay500ms => fault.proxy(0, ProxyMode::Delay(Duration::from_millis(500))).await,
        Scenario::ResetEveryTenth => fault.reset().await,
        Scenario::Oom => fault.fill_memory().await,
        Scenario::Readonly => fault.fail_over().await,
        Scenario::AuthChanged => fault.change_password().await,
        Scenario::DelTimesOut => fault.delay_unlinks().await,
        Scenario::SetInSocketBuffer => fault.leave_sets_behind().await,
    }
}

struct Fault<'a> {
    world: &'a Arc<World>,
    servers: &'a mut Servers,
    length: Duration,
}

impl Fault<'_> {
    fn since(&self, began: Duration) -> Times {
        Times { began, ended: self.world.now() }
    }

    fn command(&self, arguments: &[&str]) -> Result<String> {
        block_in_place(|| self.servers.main.try_command(arguments)).with_context(|| format!("{arguments:?}"))
    }

    fn restart(&mut self) {
        block_in_place(|| self.servers.main.restart());
    }

    async fn kill(mut self) -> Result<Times> {
        let began = self.world.now();
        block_in_place(|| self.servers.main.kill());
        sleep(self.length).await;
        self.restart();
        Ok(self.since(began))
    }

    /// What is invalidated after the dump is invalidated without Redis.
    async fn dump_and_kill(&mut self) -> Result<Duration> {
        let _nobody_writes = self.world.writing.write().await;
        self.command(&["SAVE"])?;
        let began = self.world.now();
        block_in_place(|| self.servers.main.kill());
        Ok(began)
    }

    async fn kill_with_dump(mut self) -> Result<Times> {
        let began = self.dump_and_kill().await?;
        sleep(self.length).await;
        self.restart();
        Ok(self.since(began))
    }

    /// The disk stays full: a journal that is emptied needs less of it.
    async fn fill_disk(mut self) -> Result<Times> {
        let journal = self.world.journal.as_ref().context("the journal has no file")?;
        journal.fill()?;
        let began = self.world.now();
        block_in_place(|| self.servers.main.kill());
        sleep(self.length).await;
        *lock(&self.world.left) = Some(journal.copy()?);
        self.restart();
        Ok(self.since(began))
    }

    async fn crash_after_dump(mut self) -> Result<Times> {
        self.command(&["SAVE"])?;
        // Long enough for some changes to be confirmed.
        sleep(self.length / 4).await;
        let began = self.world.now();
        block_in_place(|| self.servers.main.kill());
        sleep(self.length * 3 / 4).await;
        self.restart();
        Ok(self.since(began))
    }

    /// The server answers LOADING until it has read all keys; as many are added as fill the time.
    async fn load_slowly(mut self) -> Result<Times> {
        let wanted = u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX) * LOADED_EACH_MS;
        let there: u64 = self.command(&["DBSIZE"])?.parse().context("the size of the database is no number")?;
        let more = wanted.saturating_sub(there).to_string();
        let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'other:' .. i, 'x') end";
        self.command(&["EVAL", fill, "0", &more])?;
        let began = self.dump_and_kill().await?;
        self.restart();
        Ok(self.since(began))
    }

    async fn flap(mut self) -> Result<Times> {
        let period = Duration::from_secs(1).min(self.length / 4);
        let began = self.world.now();
        let end = Instant::now() + self.length;
        loop {
            block_in_place(|| self.servers.main.kill());
            sleep(period).await;
            self.restart();
            if Instant::now() + period * 2 > end {
                return Ok(self.since(began));
            }
            sleep(period).await;
        }
    }

    async fn stop(self) -> Result<Times> {
        let began = self.world.now();
        self.servers.main.pause();
        sleep(self.length).await;
        self.servers.main.resume();
        Ok(self.since(began))
    }

    async fn stop_shortly(self) -> Result<Times> {
        let began = self.world.now();
        let end = Instant::now() + self.length;
        while Instant::now() < end {
            self.world.quiet.store(true, Ordering::Relaxed);
            // Questions that are under way get their answers.
            sleep(Duration::from_millis(60)).await;
            self.servers.main.pause();
            sleep(SHORT_STOP).await;
            self.servers.main.resume();
            sleep(Duration::from_millis(20)).await;
            self.world.quiet.store(false, Ordering::Relaxed);
            sleep(Duration::from_millis(300)).await;
        }
        Ok(self.since(began))
    }

    async fn proxy(self, process: usize, mode: ProxyMode) -> Result<Times> {
        let proxy = &self.world.processes[process].proxy;
        let began = self.world.now();
        proxy.set(mode).await;
        sleep(self.length).await;
        proxy.set(ProxyMode::Pass).await;
        Ok(self.since(began))
    }

    async fn reset(self) -> Result<Times> {
        let proxy = &self.world.processes[0].proxy;
        proxy.set(ProxyMode::ResetEvery(10)).await;
        let began = self.world.now();
        let end = Instant::now() + self.length;
        while Instant::now() < end {
            self.command(&["CLIENT", "KILL", "TYPE", "normal"])?;
            sleep(Duration::from_millis(200)).await;
        }
        proxy.set(ProxyMode::Pass).await;
        Ok(self.since(began))
    }

    async fn fill_memory(self) -> Result<Times> {
        let began = self.world.now();
        self.command(&["CONFIG", "SET", "maxmemory", "1"])?;
        sleep(self.length).await;
        self.command(&["CONFIG", "SET", "maxmemory", "0"])?;
        Ok(self.since(began))
    }

    /// Another server takes over, and the caches go on with the old one, as where they do not learn of it.
    async fn fail_over(self) -> Result<Times> {
        let other = self.servers.other.as_ref().context("there is no other server")?;
        let began = self.world.now();
        block_in_place(|| other.try_command(&["REPLICAOF", "NO", "ONE"]))?;
        block_in_place(|| replicate(&self.servers.main, other))?;
        sleep(self.length).await;
        self.command(&["REPLICAOF", "NO", "ONE"])?;
        Ok(self.since(began))
    }

    async fn change_password(self) -> Result<Times> {
        let began = self.world.now();
        block_in_place(|| self.servers.set_password("after"))?;
        self.command(&["CLIENT", "KILL", "USER", USER])?;
        sleep(self.length).await;
        block_in_place(|| self.servers.set_password(PASSWORD))?;
        Ok(self.since(began))
    }

    async fn delay_unlinks(self) -> Result<Times> {
        let proxy = &self.world.processes[0].proxy;
        let late = LATE + self.world.settings.remote_deadline;
        let began = self.world.now();
        let end = Instant::now() + self.length;
        while Instant::now() < end {
            proxy.delay_next("UNLINK", late);
            sleep(late * 2).await;
        }
        Ok(self.since(began))
    }

    /// In turns, the server stops with SETs in its socket buffers, and SETs are late on their way to it while new sockets
    /// are not: as if the server, when it goes on, read the old sockets last.
    async fn leave_sets_behind(self) -> Result<Times> {
        let on_its_way = ON_ITS_WAY + self.world.settings.remote_deadline;
        let began = self.world.now();
        let end = Instant::now() + self.length;
        let mut round = 0;
        while round < 2 || Instant::now() < end {
            self.world.settle().await;
            let group = KEPT_FROM_WRITERS.start + round % KEPT;
            let proxy = &self.world.processes[0].proxy;
            if round.is_multiple_of(2) {
                self.servers.main.pause();
                self.leave_and_invalidate(group, async {}).await;
                sleep(LATE).await;
                self.servers.main.resume();
            } else {
                proxy.set(ProxyMode::Delay(on_its_way)).await;
                let pass = async {
                    sleep(SENT).await;
                    proxy.set(ProxyMode::Pass).await;
                };
                self.leave_and_invalidate(group, pass).await;
            }
            sleep(on_its_way + LATE).await;
            round += 1;
        }
        Ok(self.since(began))
    }

    /// Sends SETs of true values, which stop being true before they arrive.
    async fn leave_and_invalidate(&self, group: u32, meanwhile: impl Future<Output = ()>) {
        let items: Vec<u32> = (group * GROUP..(group + 1) * GROUP).collect();
        let region = |item| self.world.processes[0].region(item);
        // Without a tag, so that the SET goes out at once. It fails, or its outcome is not known: either is meant.
        let sets =
            items.iter().map(|item| region(*item).set(item, Reading::new(*item, self.world.truth.version(*item))));
        join(join_all(sets.map(IntoFuture::into_future)), meanwhile).await;
        for item in items {
            let version = self.world.truth.change(item);
            invalidate(self.world, 0, Target::Item(item), vec![(item, version)]).await;
        }
    }
}
