//! How a socket is opened, how it proves itself, and when it is given up.
//!
//! A socket speaks RESP3 where the server does, because only there the library says at once that a connection ended; to
//! a server that does not know it, RESP2 is spoken, and the next command finds out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bb8::ManageConnection;
use larder_core::{Clock, Error, Result, SystemClock, Tick};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind, Value,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::{RedisConfig, error};

/// So many calls in a row must have given up on a silent socket before it counts as broken.
const PATIENCE_CALLS: u32 = 3;

/// A socket younger than this is kept on READONLY: the address led to the replica a moment ago.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// Opens sockets for bb8.
#[derive(Debug)]
pub(crate) struct Manager {
    config: Arc<RedisConfig>,
    client: Client,
    clock: SystemClock,
    /// The server does not speak RESP3.
    old_protocol: AtomicBool,
    opened: AtomicU64,
}

/// Why bb8 got no connection.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A new one could not be opened.
    Connect(RedisError),
    /// One that was there did not prove itself, and is replaced.
    Stale,
}

impl Manager {
    pub(crate) fn new(config: Arc<RedisConfig>, clock: SystemClock) -> Result<Arc<Self>> {
        let client = client(&config)?;
        Ok(Arc::new(Self { config, client, clock, old_protocol: AtomicBool::new(false), opened: AtomicU64::new(0) }))
    }

    pub(crate) fn clock(&self) -> SystemClock {
        self.clock
    }

    pub(crate) fn config(&self) -> &Arc<RedisConfig> {
        &self.config
    }

    /// How many sockets were opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// For the connection of a subscription: RESP2, whose pub/sub form every server speaks.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    async fn open(&self) -> RedisResult<Arc<Socket>> {
        if !self.old_protocol.load(Ordering::Relaxed) {
            match self.open_as(ProtocolVersion::RESP3).await {
                Err(error) if error.kind() == ErrorKind::RESP3NotSupported => {
                    self.old_protocol.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.open_as(ProtocolVersion::RESP2).await
    }

    async fn open_as(&self, protocol: ProtocolVersion) -> RedisResult<Arc<Socket>> {
        let health = Arc::new(Health::new(self.clock));
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.config.command_deadline));
        if protocol == ProtocolVersion::RESP3 {
            let obituary = Obituary(Arc::clone(&health));
            config = config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    obituary.0.condemn();
                }
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let info = self.client.get_connection_info();
        let login = info.redis_settings().clone().set_protocol(protocol);
        let client = Client::open(info.clone().set_redis_settings(login))?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        self.introduce(&mut connection).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Socket { connection, health }))
    }

    /// Gives the connection its name. Also the first command after the login, so that a server which wants a password
    /// and was given none is found out here.
    async fn introduce(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut command = redis::cmd(if self.config.client_name.is_empty() { "PING" } else { "CLIENT" });
        if !self.config.client_name.is_empty() {
            command.arg("SETNAME").arg(&self.config.client_name);
        }
        match connection.send_packed_command(&command).await?.extract_error() {
            // A user may well be without these rights, and have those that it needs.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// Held by the task that drives a connection: a task that ends with its runtime announces no disconnection.
struct Obituary(Arc<Health>);

impl Drop for Obituary {
    fn drop(&mut self) {
        self.0.condemn();
    }
}

/// The library's client of a configuration, with all socket options.
fn client(config: &RedisConfig) -> Result<Client> {
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(config.keepalive).with_interval(second).with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(config.user_timeout);
    let info = config.connection_info()?.set_tcp_settings(settings);
    Client::open(info).map_err(|error| Error::config("host", error))
}

/// bb8 wants a manager by value; this one is shared by the pools of all sockets.
#[derive(Debug, Clone)]
pub(crate) struct SharedManager(pub(crate) Arc<Manager>);

impl ManageConnection for SharedManager {
    type Connection = Arc<Socket>;
    type Error = Refusal;

    async fn connect(&self) -> Result<Arc<Socket>, Refusal> {
        let opening = tokio::time::timeout(self.0.config.connect_deadline, self.0.open());
        let opened = opening.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        opened.map_err(Refusal::Connect)
    }

    async fn is_valid(&self, socket: &mut Arc<Socket>) -> Result<(), Refusal> {
        let config = &self.0.config;
        if socket.health.is_broken() {
            return Err(Refusal::Stale);
        }
        if !socket.health.is_idle(config.idle_check) {
            return Ok(());
        }
        // Well within the time that bb8 allows for a checkout: if that ends first, bb8 takes the connection for sound.
        let patience = config.command_deadline.min(config.connect_deadline / 2);
        let mut connection = socket.connection.clone();
        let ping = redis::cmd("PING");
        let answer = tokio::time::timeout(patience, connection.send_packed_command(&ping)).await;
        if matches!(answer, Ok(Ok(_))) {
            socket.health.heard();
            return Ok(());
        }
        socket.health.condemn();
        Err(Refusal::Stale)
    }

    fn has_broken(&self, socket: &mut Arc<Socket>) -> bool {
        socket.health.is_broken()
    }
}

/// One multiplexed connection and what is known of it.
#[derive(Debug)]
pub(crate) struct Socket {
    connection: MultiplexedConnection,
    pub(crate) health: Arc<Health>,
}

/// What is sent at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    /// One command; its answer.
    Command(&'a Cmd),
    /// Several commands; an array with an answer for each.
    Pipeline(&'a redis::Pipeline),
    /// Several commands carried out together; the answer of EXEC.
    Transaction(&'a redis::Pipeline),
}

impl Socket {
    /// Sends and waits for the answer, no longer than the command deadline. Dropping the future leaves the connection
    /// usable; what was handed to it is carried out all the same.
    pub(crate) async fn send(&self, request: Request<'_>, deadline: Duration) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        let mut call = Call::begin(&self.health, deadline);
        let answer = match request {
            Request::Command(command) => connection.send_packed_command(command).await,
            Request::Pipeline(pipeline) => {
                connection.send_packed_commands(pipeline, 0, pipeline.len()).await.map(Value::Array)
            }
            Request::Transaction(pipeline) => {
                let answers = connection.send_packed_commands(pipeline, pipeline.len() + 1, 1).await;
                answers.map(|mut answers| answers.pop().unwrap_or(Value::Nil))
            }
        };
        match &answer {
            Err(error) if error.is_timeout() => {}
            Err(error) => {
                call.answered();
                self.health.judge(error);
            }
            Ok(value) => {
                call.answered();
                self.health.judge_answer(value);
            }
        }
        answer
    }
}

/// A call that waits for its answer; one that ends without any has given the socket up.
struct Call<'a> {
    health: &'a Health,
    deadline: Duration,
    answered: bool,
}

impl<'a> Call<'a> {
    fn begin(health: &'a Health, deadline: Duration) -> Self {
        health.sending();
        Self { health, deadline, answered: false }
    }

    fn answered(&mut self) {
        self.answered = true;
        self.health.heard();
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.health.given_up(self.deadline);
        }
    }
}

/// What the callers of one socket have seen of it. Times are ticks of the clock; 0 is "not".
#[derive(Debug)]
pub(crate) struct Health {
    clock: SystemClock,
    born: Tick,
    broken: AtomicBool,
    /// The last answer.
    heard: AtomicU64,
    /// The first sending since the last answer.
    silent_since: AtomicU64,
    /// Calls that gave up since the last answer.
    given_up: AtomicU32,
}

impl Health {
    pub(crate) fn new(clock: SystemClock) -> Self {
        let born = clock.now();
        Self {
            clock,
            born,
            broken: AtomicBool::new(false),
            heard: AtomicU64::new(born.as_nanos()),
            silent_since: AtomicU64::new(0),
            given_up: AtomicU32::new(0),
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether nothing was heard for this long.
    pub(crate) fn is_idle(&self, limit: Duration) -> bool {
        self.clock.now().since(Tick::from_nanos(self.heard.load(Ordering::Relaxed))) >= limit
    }

    pub(crate) fn condemn(&self) {
        self.broken.store(true, Ordering::Release);
    }

    fn heard(&self) {
        self.heard.store(self.clock.now().as_nanos(), Ordering::Relaxed);
        self.silent_since.store(0, Ordering::Relaxed);
        self.given_up.store(0, Ordering::Relaxed);
    }

    fn sending(&self) {
        if self.silent_since.load(Ordering::Relaxed) == 0 {
            self.silent_since.store(self.clock.now().as_nanos(), Ordering::Relaxed);
        }
    }

    /// A reader that waits 50 ms says little of the link, and three of them within a moment neither: the silence must
    /// also have lasted for the command deadline.
    fn given_up(&self, deadline: Duration) {
        let calls = self.given_up.fetch_add(1, Ordering::Relaxed) + 1;
        let since = self.silent_since.load(Ordering::Relaxed);
        if calls >= PATIENCE_CALLS && since != 0 && self.clock.now().since(Tick::from_nanos(since)) >= deadline {
            self.condemn();
        }
    }

    fn judge(&self, error: &RedisError) {
        if error::condemns_socket(error) {
            self.condemn();
        }
    }

    fn judge_answer(&self, value: &Value) {
        let refused = match value {
            Value::ServerError(refused) => refused,
            Value::Array(values) => match values.iter().find(|value| matches!(value, Value::ServerError(_))) {
                Some(Value::ServerError(refused)) => refused,
                _ => return,
            },
            _ => return,
        };
        let replica = refused.kind() == Some(ServerErrorKind::ReadOnly);
        // The name may lead to another server by now: after a failover to the new primary.
        if refused.code() == "NOAUTH" || (replica && self.clock.now().since(self.born) >= LEAST_AGE) {
            self.condemn();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_clears_a_socket_of_all_suspicion() {
        let health = Health::new(SystemClock::new());
        for _ in 0..PATIENCE_CALLS - 1 {
            health.sending();
            health.given_up(Duration::ZERO);
        }
        health.heard();
        health.sending();
        health.given_up(Duration::ZERO);
        assert!(!health.is_broken());
    }

    #[test]
    fn a_socket_is_broken_after_a_few_calls_that_gave_up_on_its_silence() {
        let health = Health::new(SystemClock::new());
        for _ in 0..PATIENCE_CALLS {
            assert!(!health.is_broken());
            health.sending();
            health.given_up(Duration::ZERO);
        }
        assert!(health.is_broken());
    }

    #[test]
    fn calls_that_are_dropped_at_once_do_not_break_a_socket() {
        let health = Health::new(SystemClock::new());
        for _ in 0..100 {
            health.sending();
            health.given_up(Duration::from_secs(60));
        }
        assert!(!health.is_broken());
    }
}
