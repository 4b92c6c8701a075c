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
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind, Value, aio::MultiplexedConnection,
};

use crate::{
    RedisConfig,
    dial::dial,
    socket::{Health, Socket},
    topology::Locator,
};

/// Opens the sockets of one node for bb8.
#[derive(Debug)]
pub(crate) struct Manager {
    config: Arc<RedisConfig>,
    locator: Locator,
    clock: SystemClock,
    /// The server does not speak RESP3.
    old_protocol: AtomicBool,
    pub(crate) figures: ManagerFigures,
}

/// What happened to a node's sockets so far.
#[derive(Debug, Default)]
pub(crate) struct ManagerFigures {
    pub(crate) opened: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) retired: AtomicU64,
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
    pub(crate) fn new(config: Arc<RedisConfig>, locator: Locator, clock: SystemClock) -> Arc<Self> {
        let figures = ManagerFigures::default();
        Arc::new(Self { config, locator, clock, old_protocol: AtomicBool::new(false), figures })
    }

    pub(crate) fn clock(&self) -> SystemClock {
        self.clock
    }

    pub(crate) fn config(&self) -> &Arc<RedisConfig> {
        &self.config
    }

    pub(crate) fn locator(&self) -> &Locator {
        &self.locator
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
        let health = Arc::new(Health::new(self.clock, self.config.max_lifetime));
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
        let address = self.locator.locate(&self.config).await?;
        let client = dial(&self.config, &address, protocol).await?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        self.introduce(&mut connection).await?;
        self.locator.check(&mut connection).await?;
        Ok(Arc::new(Socket::new(connection, health)))
    }

    /// Gives the connection its name. Also the first command after the login, so that a server which wants a password
    /// and was given none is found out here.
    async fn introduce(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut command = redis::cmd(if self.config.client_name.is_empty() { "PING" } else { "CLIENT" });
        if !self.config.client_name.is_empty() {
            command.arg("SETNAME").arg(&self.config.client_name);
        }
        match ask(connection, &command).await {
            // A user may well be without these rights, and have those that it needs.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(()),
            answer => answer.map(drop),
        }
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
        let opening = tokio::time::timeout(self.0.config.connect_deadline, self.0.open());
        let timed_out = || Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)).into());
        let opened = opening.await.unwrap_or_else(|_| timed_out());
        let counter = if opened.is_ok() { &figures.opened } else { &figures.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        opened.map_err(Refusal::Connect)
    }

    async fn is_valid(&self, socket: &mut Arc<Socket>) -> Result<(), Refusal> {
        let (config, figures) = (&self.0.config, &self.0.figures);
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
