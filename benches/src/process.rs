//! Processes beside the one that measures: the same program in a role, which does what it is told on its standard input.

use std::{
    io::{BufRead, BufReader, Write, stdin},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use larder::{Cache, Strategy};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

use crate::{backend::PATIENCE, listener, memory, sweeper};

/// Longer than any run.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// What such a process is there for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Says what many values need in memory that are read by `RedisBackend`
    Values,
    /// The same for the client library
    RawValues,
    /// Says when it has heard of an invalidation
    Listener,
    /// Invalidates by a pattern
    Sweeper,
    /// Does the same by means of the client library
    RawSweeper,
    /// Always has one GET under way
    Asker,
}

impl Role {
    /// Plays the role until nobody asks for more.
    pub(crate) fn play(self, url: &str) -> Result<()> {
        match self {
            Self::Values => memory::measure(memory::Asker::Larder, url),
            Self::RawValues => memory::measure(memory::Asker::Raw, url),
            Self::Listener => listener::listen(url),
            Self::Sweeper => sweeper::by_larder(url),
            Self::RawSweeper => sweeper::by_hand(url),
            Self::Asker => sweeper::ask(url),
        }
    }

    /// What starts it.
    pub(crate) fn command(self, url: &str) -> Result<Command> {
        let name = self.to_possible_value().context("every role has a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", name.get_name(), "--redis", url]);
        Ok(command)
    }
}

/// A process in a role. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Partner {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Partner {
    pub(crate) fn start(role: Role, url: &str) -> Result<Self> {
        let mut child = role.command(url)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("its input is piped")?;
        let answers = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut partner = Self { child, orders, answers };
        // It has its connections.
        partner.ask("ready")?;
        Ok(partner)
    }

    /// Waits for the answer to an order.
    pub(crate) fn ask(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "the process that was told to {order:?} has ended");
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // It fails only for a process that has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// In a process in a role: answers each order with a line, until there are no more.
pub(crate) fn obey(mut answer: impl FnMut(&str) -> Result<String>) -> Result<()> {
    for order in stdin().lines() {
        let order = order?;
        let answer = if order == "ready" { Ok(order) } else { answer(&order) };
        println!("{}", answer?);
    }
    Ok(())
}

/// As an application's.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// A server that keeps nothing on disk.
pub(crate) fn server() -> Result<RedisServer> {
    Ok(RedisServer::builder().option("save", "").option("appendonly", "no").try_start()?)
}

/// A cache as each of several processes has one: once it hears what the others invalidate.
pub(crate) async fn cache(url: &str) -> Result<Cache> {
    let config = RedisConfig::builder().url(url).command_deadline(PATIENCE).connect_deadline(PATIENCE).build()?;
    let builder = Cache::builder().namespace("bench").strategy(patient()).remote_command_deadline(PATIENCE);
    let cache = builder.backend(Arc::new(RedisBackend::new(config)?)).build().await?;
    trusting(&cache).await?;
    Ok(cache)
}

/// A bare connection of the client library.
pub(crate) async fn raw(url: &str) -> Result<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE)).set_connection_timeout(Some(PATIENCE));
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?)
}

/// A busy machine does not turn a hit into a miss, and nothing ends before the run does.
pub(crate) fn patient() -> Strategy {
    Strategy::new("patient", TTL).remote_deadline(PATIENCE)
}

/// Waits until the bus is trusted.
pub(crate) async fn trusting(cache: &Cache) -> Result<()> {
    let trusting = async {
        while !cache.health().await.remote.is_some_and(|remote| remote.bus_trusted) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, trusting).await.context("the bus does not stand")
}
