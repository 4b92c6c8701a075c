//! One server: its sockets, which of them a key uses, how many calls may wait, and what is tried again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use larder_core::{Clock, Error, ErrorKind, Result, SystemClock};
use redis::{Pipeline, RedisResult, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    RedisConfig, error,
    lineage::Guards,
    manager::Manager,
    server_clock::Sample,
    slot::Slot,
    socket::{Effect, Request},
    state::NodeState,
    topology::Locator,
};

/// A server that has answered nobody for this long is not used.
const IN_USE: Duration = Duration::from_secs(30);

/// The calls of a backend that wait for an answer, to whatever server.
#[derive(Debug, Default)]
pub(crate) struct Load {
    in_flight: AtomicUsize,
    refused: AtomicU64,
}

impl Load {
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn admit(&self, operation: &'static str, most: usize) -> Result<Place<'_>> {
        let place = Place(&self.in_flight);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(place);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let message = format!("{most} calls wait for the server already (`max_in_flight`); nothing was sent");
        Err(Error::new(ErrorKind::Overloaded, operation, message))
    }
}

/// A call's place among those in flight.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all nodes of a backend have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: Arc<RedisConfig>,
    pub(crate) clock: SystemClock,
    pub(crate) load: Load,
    pub(crate) guards: Guards,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    slots: Box<[Arc<Slot>]>,
    manager: Arc<Manager>,
    common: Arc<Common>,
}

impl Node {
    pub(crate) fn new(common: &Arc<Common>, locator: Locator) -> Arc<Self> {
        let manager = Manager::new(Arc::clone(common), locator);
        let slots = (0..common.config.sockets).map(|_| Arc::new(Slot::new(Arc::clone(&manager)))).collect();
        Arc::new(Self { slots, manager, common: Arc::clone(common) })
    }

    pub(crate) fn manager(&self) -> &Arc<Manager> {
        &self.manager
    }

    pub(crate) fn locator(&self) -> &Locator {
        self.manager.locator()
    }

    fn config(&self) -> &RedisConfig {
        self.manager.config()
    }

    /// The socket that commands of this key use.
    pub(crate) fn socket_of(&self, key: &str) -> usize {
        socket_of(key, self.slots.len())
    }

    /// Sends a request and waits for its answer. The outer error means that nothing was sent, the inner one that it was;
    /// errors within the answer are the caller's to find.
    pub(crate) async fn send(
        &self,
        operation: &'static str,
        socket: usize,
        effect: Effect,
        request: Request<'_>,
    ) -> Result<RedisResult<Value>> {
        let _place = self.common.load.admit(operation, self.config().max_in_flight)?;
        let slot = &self.slots[socket];
        match request {
            Request::Get(key) => slot.read(operation, key).await,
            // Boxed, so that reads do not have its size.
            request => Box::pin(slot.exchange(operation, effect, request, request.callers())).await,
        }
    }

    /// A request that belongs to no key, such as a question about the server itself.
    pub(crate) async fn ask(&self, operation: &'static str, request: Request<'_>) -> Result<Value> {
        self.send(operation, 0, Effect::Question, request).await?.map_err(|error| error::from_redis(operation, error))
    }

    /// The connections lead to a server that is not meant any more.
    pub(crate) fn renounce(&self) {
        self.slots.iter().for_each(|slot| slot.renounce());
    }

    /// The server was met on another connection: attempts to connect need not wait any longer.
    pub(crate) fn is_back(&self) {
        self.slots.iter().for_each(|slot| slot.gate.open());
    }

    /// Measures the server's clock and renews the records on it, where that is due and the server is used.
    pub(crate) async fn measure(&self) {
        let Some(socket) = self.slots.iter().find_map(|slot| slot.in_use(IN_USE)) else { return };
        if !self.manager.server_clock.begin() {
            return;
        }
        let mut pipeline = Pipeline::new();
        pipeline.cmd("TIME");
        self.manager.renewals(&socket).into_iter().for_each(|command| {
            pipeline.add_command(command);
        });
        let clock = self.common.clock;
        let sent = clock.now_precise();
        // A connection that fails is found out by who needs it, and the next second is another chance.
        let Ok(answers) = socket.ask_all(&pipeline).await else { return };
        let received = clock.now_precise();
        let time = answers.first().and_then(|time| Sample::of(time, sent, received, clock.wall(), socket.run.as_ref()));
        if let Some(sample) = time {
            self.manager.server_clock.take(sample);
        }
    }

    /// Closes what was idle for too long, but for so many sockets, and opens what is missing of these.
    pub(crate) async fn tend(&self, kept: usize) {
        let mut connected = self.slots.iter().filter(|slot| slot.is_connected()).count();
        if let Some(limit) = self.config().idle_timeout {
            for slot in &self.slots {
                if connected > kept && slot.close_if_idle(limit) {
                    connected -= 1;
                }
            }
        }
        let closed = self.slots.iter().filter(|slot| !slot.is_connected()).take(kept.saturating_sub(connected));
        join_all(closed.map(Slot::open_ahead)).await;
    }

    pub(crate) fn state(&self) -> NodeState {
        let figures = &self.manager.figures;
        NodeState {
            address: self.locator().to_string(),
            sockets: self.slots.len(),
            connected: self.slots.iter().filter(|slot| slot.is_connected()).count(),
            opened: figures.opened.load(Ordering::Relaxed),
            failed: figures.failed.load(Ordering::Relaxed),
            broken: figures.broken.load(Ordering::Relaxed),
            retired: figures.retired.load(Ordering::Relaxed),
            killed: figures.killed.load(Ordering::Relaxed),
            unkilled: figures.unkilled.load(Ordering::Relaxed),
            last_error: self.slots.iter().find_map(|slot| slot.last_error()),
        }
    }
}

/// Which of so many sockets commands of a key use, whatever the node.
pub(crate) fn socket_of(key: &str, sockets: usize) -> usize {
    if sockets == 1 {
        return 0;
    }
    usize::try_from(xxh3_64(key.as_bytes()) % sockets as u64).expect("less than the number of sockets")
}

/// How often nodes are tended: no setting that this serves is finer than a second.
pub(crate) const TENDING: Duration = Duration::from_secs(1);
