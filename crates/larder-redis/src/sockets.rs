//! All sockets of a backend: which one a key uses, how many calls may wait, and what is tried again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use larder_core::{Error, ErrorKind, Result, SystemClock};
use redis::{Client, RedisResult, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    RedisConfig, error,
    manager::{Manager, Request},
    slot::Slot,
};

#[derive(Debug)]
pub(crate) struct Sockets {
    slots: Box<[Slot]>,
    manager: Arc<Manager>,
    in_flight: AtomicUsize,
}

/// What the connections of a backend are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketFigures {
    /// How many sockets there may be.
    pub sockets: usize,
    /// How many are open and nobody has found fault with them.
    pub connected: usize,
    /// How many were opened so far; what exceeds `sockets` were replacements.
    pub opened: u64,
    /// Calls that wait for an answer now.
    pub in_flight: usize,
}

/// One request's circumstances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) slot: usize,
    /// A read, which may be sent again if the connection broke.
    pub(crate) repeatable: bool,
}

impl Sockets {
    pub(crate) fn new(config: RedisConfig) -> Result<Self> {
        let count = config.sockets;
        let manager = Manager::new(Arc::new(config), SystemClock::new())?;
        let slots = (0..count).map(|_| Slot::new(Arc::clone(&manager))).collect();
        Ok(Self { slots, manager, in_flight: AtomicUsize::new(0) })
    }

    pub(crate) fn config(&self) -> &Arc<RedisConfig> {
        self.manager.config()
    }

    pub(crate) fn client(&self) -> &Client {
        self.manager.client()
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn figures(&self) -> SocketFigures {
        SocketFigures {
            sockets: self.slots.len(),
            connected: self.slots.iter().filter(|slot| slot.is_connected()).count(),
            opened: self.manager.opened(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }

    /// The socket that commands of this key use.
    pub(crate) fn slot_of(&self, key: &str) -> usize {
        let slots = self.slots.len() as u64;
        if slots == 1 {
            return 0;
        }
        usize::try_from(xxh3_64(key.as_bytes()) % slots).expect("less than the number of slots")
    }

    /// Sends a request and waits for its answer. Errors within the answer are the caller's to find.
    pub(crate) async fn send(&self, call: Call, request: Request<'_>) -> Result<Value> {
        self.send_raw(call, request).await?.map_err(|error| error::from_redis(call.operation, error))
    }

    /// As `send`, with the library's error where something was sent.
    pub(crate) async fn send_raw(&self, call: Call, request: Request<'_>) -> Result<RedisResult<Value>> {
        let _place = self.admit(call.operation)?;
        let slot = &self.slots[call.slot];
        let deadline = self.config().command_deadline;
        let (socket, reused) = slot.socket(call.operation).await?;
        let answer = socket.send(request, deadline).await;
        match &answer {
            // A connection of the past: it may have ended long before this call.
            Err(error) if reused && call.repeatable && error::is_broken_link(error) => {
                drop(socket);
                let (socket, _) = slot.socket(call.operation).await?;
                Ok(socket.send(request, deadline).await)
            }
            _ => Ok(answer),
        }
    }

    fn admit(&self, operation: &'static str) -> Result<Place<'_>> {
        let most = self.config().max_in_flight;
        let place = Place(&self.in_flight);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(place);
        }
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
