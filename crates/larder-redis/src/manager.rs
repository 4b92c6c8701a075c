//! How a socket is opened, and how it proves itself.
//!
//! A socket speaks RESP3 where the server does, because only there the library says at once that a connection ended; to
//! a server that does not know it, RESP2 is spoken, and the next command finds out.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bb8::ManageConnection;
use larder_core::{Error, SystemClock};
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult, Value,
    aio::MultiplexedConnection,
};
use tokio::sync::Mutex as Turn;

use crate::{
    RedisConfig,
    dial::dial,
    introduction::{Introduction, introduce},
    lineage::{Guards, Standing},
    node::Common,
    server_clock::ServerClock,
    socket::{Health, Socket},
    topology::Locator,
};

/// Opens the sockets of one node for bb8, and knows what was found out about its server.
#[derive(Debug)]
pub(crate) struct Manager {
    common: Arc<Common>,
    locator: Locator,
    /// The server does not speak RESP3.
    old_protocol: AtomicBool,
    pub(crate) server_clock: ServerClock,
    /// Which run of the server the newest connection leads to.
    run: Mutex<Option<Arc<str>>>,
    /// For each guard; held while its record is compared.
    pub(crate) standings: Turn<Vec<Standing>>,
    /// How often it has taken over slots from another node.
    office: AtomicU64,
    /// Grows when open connections have to be vetted again.
    terms: AtomicU64,
    may_not_kill: AtomicBool,
    pub(crate) figures: ManagerFigures,
}

/// What happened to a node's sockets so far.
#[derive(Debug, Default)]
pub(crate) struct ManagerFigures {
    pub(crate) opened: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) retired: AtomicU64,
    pub(crate) killed: AtomicU64,
    pub(crate) unkilled: AtomicU64,
}

/// Why bb8 got no connection.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A new one could not be opened.
    Connect(ConnectError),
    /// One that was there did not prove itself, or has lived for long enough, and is replaced.
    Stale,
}

/// Why a socket could not be opened.
#[derive(Debug, Clone)]
pub(crate) enum ConnectError {
    /// The network, the server, or the library.
    Redis(RedisError),
    /// There was nothing to connect to, or nothing to log in with.
    Larder(Error),
}

impl From<RedisError> for ConnectError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        Self::Larder(error)
    }
}

impl Manager {
    pub(crate) fn new(common: Arc<Common>, locator: Locator) -> Arc<Self> {
        let server_clock = ServerClock::new(common.clock);
        Arc::new(Self {
            common,
            locator,
            old_protocol: AtomicBool::new(false),
            server_clock,
            run: Mutex::new(None),
            standings: Turn::default(),
            office: AtomicU64::new(0),
            terms: AtomicU64::new(1),
            may_not_kill: AtomicBool::new(false),
            figures: ManagerFigures::default(),
        })
    }

    pub(crate) fn clock(&self) -> SystemClock {
        self.common.clock
    }

    pub(crate) fn config(&self) -> &Arc<RedisConfig> {
        &self.common.config
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.common.guards
    }

    pub(crate) fn locator(&self) -> &Locator {
        &self.locator
    }

    /// Which run of the server the newest connection leads to, if there was one that could tell.
    pub(crate) fn run(&self) -> Option<Arc<str>> {
        self.run.lock().clone()
    }

    pub(crate) fn office(&self) -> u64 {
        self.office.load(Ordering::Acquire)
    }

    pub(crate) fn terms(&self) -> u64 {
        self.terms.load(Ordering::Acquire)
    }

    /// Open connections are vetted again before they carry anything about keys.
    pub(crate) fn vet_again(&self) {
        self.terms.fetch_add(1, Ordering::AcqRel);
    }

    /// The node serves slots that it did not serve before.
    pub(crate) fn enter_office(&self, took_over: bool) {
        if took_over {
            self.office.fetch_add(1, Ordering::AcqRel);
        }
        self.vet_again();
    }

    /// Takes note of whom a new connection leads to.
    fn meet(&self, introduction: &Introduction) {
        if let Some(sample) = &introduction.sample {
            self.server_clock.take(sample.clone());
        }
        let Some(run) = &introduction.run else { return };
        let before = self.run.lock().replace(Arc::clone(run));
        if before.is_some_and(|before| before != *run) {
            self.common.guards.runs_changed();
        }
    }

    pub(crate) fn may_kill(&self) -> bool {
        !self.may_not_kill.load(Ordering::Relaxed)
    }

    pub(crate) fn cannot_kill(&self) {
        self.count_unkilled();
        if !self.may_not_kill.swap(true, Ordering::Relaxed) {
            let server = tracing::field::display(&self.locator);
            tracing::warn!(
                target: "larder", server,
                "the user may not kill its connections (`client|kill`): a write that timed out may come after a later removal"
            );
        }
    }

    pub(crate) fn count_unkilled(&self) {
        self.figures.unkilled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_killed(&self, killed: i64) {
        self.figures.killed.fetch_add(u64::try_from(killed).unwrap_or(0), Ordering::Relaxed);
    }

    async fn open(&self) -> Result<Arc<Socket>, ConnectError> {
        if !self.old_protocol.load(Ordering::Relaxed) {
            match self.open_as(ProtocolVersion::RESP3).await {
                Err(ConnectError::Redis(error)) if error.kind() == ErrorKind::RESP3NotSupported => {
                    self.old_protocol.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.open_as(ProtocolVersion::RESP2).await
    }

    async fn open_as(&self, protocol: ProtocolVersion) -> Result<Arc<Socket>, ConnectError> {
        let health = Arc::new(Health::new(self.clock(), self.config().max_lifetime));
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.config().command_deadline));
        if protocol == ProtocolVersion::RESP3 {
            let obituary = Obituary(Arc::clone(&health));
            config = config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    obituary.0.condemn();
                }
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let address = self.locator.locate(self.config()).await?;
        let client = dial(self.config(), &address, protocol).await?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let introduction = introduce(&mut connection, &self.config().client_name, self.clock()).await?;
        self.locator.check(&mut connection).await?;
        self.meet(&introduction);
        Ok(Arc::new(Socket::new(connection, health, introduction)))
    }
}

/// Sends a command; the server's refusal is an error.
pub(crate) async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    connection.send_packed_command(command).await?.extract_error()
}

/// Held by the task that drives a connection: a task that ends with its runtime announces no disconnection.
struct Obituary(Arc<Health>);

impl Drop for Obituary {
    fn drop(&mut self) {
        self.0.condemn();
    }
}

/// bb8 wants a manager by value; this one is shared by the pools of all sockets.
#[derive(Debug, Clone)]
pub(crate) struct SharedManager(pub(crate) Arc<Manager>);

impl ManageConnection for SharedManager {
    type Connection = Arc<Socket>;
    type Error = Refusal;

    async fn connect(&self) -> Result<Arc<Socket>, Refusal> {
        let figures = &self.0.figures;
        let opening = tokio::time::timeout(self.0.config().connect_deadline, self.0.open());
        let timed_out = || Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)).into());
        let opened = opening.await.unwrap_or_else(|_| timed_out());
        let counter = if opened.is_ok() { &figures.opened } else { &figures.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        opened.map_err(Refusal::Connect)
    }

    async fn is_valid(&self, socket: &mut Arc<Socket>) -> Result<(), Refusal> {
        let (config, figures) = (self.0.config(), &self.0.figures);
        if socket.health.is_broken() {
            figures.broken.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Stale);
        }
        if socket.health.is_expired() {
            figures.retired.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Stale);
        }
        if !socket.health.is_idle(config.idle_check) {
            return Ok(());
        }
        // Well within the time that bb8 allows for a checkout: if that ends first, bb8 takes the connection for sound.
        let patience = config.command_deadline.min(config.connect_deadline / 2);
        if socket.ping(patience).await {
            return Ok(());
        }
        socket.health.condemn();
        figures.broken.fetch_add(1, Ordering::Relaxed);
        Err(Refusal::Stale)
    }

    fn has_broken(&self, socket: &mut Arc<Socket>) -> bool {
        socket.health.is_broken()
    }
}
