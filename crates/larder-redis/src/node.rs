//! One server: its sockets, which of them a key uses, how many calls may wait, and what is tried again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use larder_core::{Error, ErrorKind, Result, SystemClock};
use redis::{RedisResult, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::{RedisConfig, error, manager::Manager, slot::Slot, socket::Request, state::NodeState, topology::Locator};

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

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    slots: Box<[Arc<Slot>]>,
    manager: Arc<Manager>,
    load: Arc<Load>,
}

impl Node {
    pub(crate) fn new(config: &Arc<RedisConfig>, locator: Locator, clock: SystemClock, load: &Arc<Load>) -> Arc<Self> {
        let manager = Manager::new(Arc::clone(config), locator, clock);
        let slots = (0..config.sockets).map(|_| Arc::new(Slot::new(Arc::clone(&manager)))).collect();
        Arc::new(Self { slots, manager, load: Arc::clone(load) })
    }

    pub(crate) fn locator(&self) -> &Locator {
        self.manager.locator()
    }

    fn config(&self) -> &RedisConfig {
        self.manager.config()
    }

    /// The socket that commands of this key use.
    pub(crate) fn socket_of(&self, key: &str) -> usize {
        let slots = self.slots.len() as u64;
        if slots == 1 {
            return 0;
        }
        usize::try_from(xxh3_64(key.as_bytes()) % slots).expect("less than the number of slots")
    }

    /// Sends a request and waits for its answer. The outer error means that nothing was sent, the inner one that it was;
    /// errors within the answer are the caller's to find.
    pub(crate) async fn send(
        &self,
        operation: &'static str,
        socket: usize,
        repeatable: bool,
        request: Request<'_>,
    ) -> Result<RedisResult<Value>> {
        let _place = self.load.admit(operation, self.config().max_in_flight)?;
        let slot = &self.slots[socket];
        match request {
            Request::Get(key) => slot.read(operation, key).await,
            request => slot.exchange(operation, repeatable, request, 1).await,
        }
    }

    /// A request that belongs to no key, such as a question about the server itself.
    pub(crate) async fn ask(&self, operation: &'static str, request: Request<'_>) -> Result<Value> {
        self.send(operation, 0, true, request).await?.map_err(|error| error::from_redis(operation, error))
    }

    /// The connections lead to a server that is not meant any more.
    pub(crate) fn renounce(&self) {
        self.slots.iter().for_each(|slot| slot.renounce());
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
        join_all(closed.map(|slot| slot.open_ahead())).await;
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
            last_error: self.slots.iter().find_map(|slot| slot.last_error()),
        }
    }
}

/// How often nodes are tended: no setting that this serves is finer than a second.
pub(crate) const TENDING: Duration = Duration::from_secs(1);
