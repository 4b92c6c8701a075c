//! One socket's place: who needs it gets it here, or the reason why there is none.
//!
//! The connection in use stands in `current`, where a caller clones it under a read lock. bb8 holds the same connection
//! and is asked only when it broke or was idle: its checkout costs three locks and a timer, and is returned at once.
//! A connection that has lived for long enough stays in use until bb8 has opened the next one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bb8::{ErrorSink, Pool, QueueStrategy};
use larder_core::{Clock, Result, SystemClock, Tick};
use parking_lot::{Mutex, RwLock};
use redis::{RedisResult, Value};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    combine::Reads,
    error,
    manager::{ConnectError, Manager, Refusal, SharedManager},
    socket::{Effect, Request, Socket},
    vetting::{Sending, Vetting},
};

/// The first and the longest wait between attempts to connect, before jitter, which at most doubles them. Not longer, so that
/// the attempts of a bus find a server within half a second of its return; callers do not multiply them.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Slot {
    current: RwLock<Option<Arc<Socket>>>,
    pub(crate) reads: Reads,
    pool: Mutex<Pool<SharedManager>>,
    pub(crate) manager: Arc<Manager>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) vetting: Vetting,
    /// Somebody opens the successor of a connection that has lived for long enough.
    replacing: AtomicBool,
}

impl Slot {
    pub(crate) fn new(manager: Arc<Manager>) -> Self {
        let gate = Arc::new(Gate::new(manager.clock()));
        let pool = Mutex::new(pool(&manager, &gate));
        Self {
            current: RwLock::new(None),
            reads: Reads::default(),
            pool,
            manager,
            gate,
            vetting: Vetting::default(),
            replacing: AtomicBool::new(false),
        }
    }

    /// Whether there is a socket that nobody has found fault with.
    pub(crate) fn is_connected(&self) -> bool {
        self.current.read().as_ref().is_some_and(|socket| !socket.health.is_broken())
    }

    /// A socket that may carry commands about keys, and whether it was there already. Waits no longer than the connect
    /// deadline, and as long again where it has to be vetted; dropping the future does not end an attempt to connect that
    /// others wait for.
    async fn socket(self: &Arc<Self>, operation: &'static str, effect: Effect) -> Result<(Arc<Socket>, bool)> {
        let (mut socket, mut reused) = self.opened(operation).await?;
        while effect != Effect::Question && !self.is_vetted(&socket) {
            self.vet(operation, &socket).await?;
            if socket.health.is_broken() {
                (socket, reused) = self.opened(operation).await?;
            }
        }
        Ok((socket, reused))
    }

    /// A socket, whether or not it may carry anything.
    async fn opened(self: &Arc<Self>, operation: &'static str) -> Result<(Arc<Socket>, bool)> {
        if let Some(socket) = self.usable() {
            if socket.health.is_expired() {
                self.replace_behind();
            }
            return Ok((socket, true));
        }
        self.check_out(operation).await.map(|socket| (socket, false))
    }

    /// Sends a request of so many calls and waits for its answer. The outer error means that nothing was sent, the inner
    /// one that it was; errors within the answer are the caller's to find.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        operation: &'static str,
        effect: Effect,
        request: Request<'_>,
        calls: u32,
    ) -> Result<RedisResult<Value>> {
        let (socket, reused) = self.socket(operation, effect).await?;
        let answer = self.send(&socket, effect, request, calls).await;
        match &answer {
            // A connection of the past: it may have ended long before this call.
            Err(error) if reused && effect.is_repeatable() && error::is_broken_link(error) => {
                drop(socket);
                let (socket, _) = self.socket(operation, effect).await?;
                Ok(self.send(&socket, effect, request, calls).await)
            }
            _ => Ok(answer),
        }
    }

    async fn send(&self, socket: &Socket, effect: Effect, request: Request<'_>, calls: u32) -> RedisResult<Value> {
        let sending = (effect == Effect::Value).then(|| Sending::begin(self, socket));
        let answer = socket.send(request, calls, self.manager.config().command_deadline).await;
        if let Some(sending) = sending
            && answer.is_ok()
        {
            sending.answered();
        }
        answer
    }

    fn usable(&self) -> Option<Arc<Socket>> {
        let idle_check = self.manager.config().idle_check;
        let usable = |socket: &&Arc<Socket>| !socket.health.is_broken() && !socket.health.is_idle(idle_check);
        self.current.read().as_ref().filter(usable).map(Arc::clone)
    }

    /// Opens the successor of the connection in use, which goes on until then and, if that fails, longer.
    fn replace_behind(self: &Arc<Self>) {
        if self.replacing.swap(true, Ordering::AcqRel) {
            return;
        }
        let replacing = Replacing(Arc::clone(self));
        // Without a runtime nobody could wait for an answer either.
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn(async move { replacing.0.check_out("replace").await.map(drop) }));
        }
    }

    /// Opens a connection if there is none, and has it vetted, without anybody waiting for it.
    pub(crate) async fn open_ahead(self: &Arc<Self>) {
        // What fails is told to who needs the connection, and tried again when it is due.
        drop(self.socket("open_ahead", Effect::Read).await);
    }

    /// The connection in use, if it has carried something within this time, or is new.
    pub(crate) fn in_use(&self, within: Duration) -> Option<Arc<Socket>> {
        let in_use = |socket: &&Arc<Socket>| {
            !socket.health.is_broken() && !socket.health.is_idle(within) && self.is_vetted(socket)
        };
        self.current.read().as_ref().filter(in_use).map(Arc::clone)
    }

    /// The connection in use and the last reason for having none lead to a server that is not meant any more: the next
    /// call connects anew, at once.
    pub(crate) fn renounce(&self) {
        if let Some(socket) = self.current.write().take() {
            socket.health.condemn();
        }
        self.gate.open();
    }

    /// Closes a connection on which nothing was heard for this long.
    pub(crate) fn close_if_idle(&self, limit: Duration) -> bool {
        let mut current = self.current.write();
        if !current.as_ref().is_some_and(|socket| socket.health.is_idle(limit)) {
            return false;
        }
        *current = None;
        // bb8 holds the connection too, and lets go of it only with its pool.
        *self.pool.lock() = pool(&self.manager, &self.gate);
        true
    }

    /// Why the last attempt to connect failed, if there was no success since.
    pub(crate) fn last_error(&self) -> Option<larder_core::Error> {
        self.gate.last().map(|reason| error::from_connect("connect", &reason))
    }

    async fn check_out(&self, operation: &'static str) -> Result<Arc<Socket>> {
        let failed = self.gate.failed.notified();
        tokio::pin!(failed);
        failed.as_mut().enable();
        if let Some(refusal) = self.gate.refusal() {
            return Err(error::from_connect(operation, &refusal));
        }
        let pool = self.pool();
        tokio::select! {
            biased;
            guard = pool.get() => match guard {
                Ok(guard) => {
                    let socket = Arc::clone(&guard);
                    *self.current.write() = Some(Arc::clone(&socket));
                    self.gate.succeeded();
                    Ok(socket)
                }
                Err(_) => Err(error::not_connected_in_time(operation)),
            },
            () = failed => Err(self.gate.refusal().map_or_else(
                || error::not_connected_in_time(operation),
                |refusal| error::from_connect(operation, &refusal),
            )),
        }
    }

    /// The pool. bb8 counts an attempt as pending until it ends, and attempts run as tasks: one whose runtime was shut
    /// down would be pending for ever, so a pool that has owed a connection for much too long is replaced.
    fn pool(&self) -> Pool<SharedManager> {
        let mut pool = self.pool.lock();
        let patience = self.manager.config().connect_deadline * 3;
        if self.gate.is_waiting_longer_than(patience) {
            *pool = self::pool(&self.manager, &self.gate);
        }
        pool.clone()
    }
}

/// Held while a successor is opened, and given back also where the task ends early.
struct Replacing(Arc<Slot>);

impl Drop for Replacing {
    fn drop(&mut self) {
        self.0.replacing.store(false, Ordering::Release);
    }
}

/// A pool of one. It has no tasks of its own, so that it may be made outside a runtime.
fn pool(manager: &Arc<Manager>, gate: &Arc<Gate>) -> Pool<SharedManager> {
    Pool::builder()
        .max_size(1)
        .min_idle(None)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_on_check_out(true)
        .retry_connection(false)
        .queue_strategy(QueueStrategy::Fifo)
        .connection_timeout(manager.config().connect_deadline)
        .error_sink(Box::new(Sink(Arc::clone(gate))))
        .build_unchecked(SharedManager(Arc::clone(manager)))
}

/// Where bb8 says that it could not connect: after it has counted the attempt as over, so that the next one may begin.
#[derive(Debug)]
struct Sink(Arc<Gate>);

impl ErrorSink<Refusal> for Sink {
    fn sink(&self, refusal: Refusal) {
        if let Refusal::Connect(reason) = refusal {
            self.0.failed_with(reason);
        }
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<Refusal>> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

/// Keeps callers from connecting, and from waiting, until another attempt is due.
#[derive(Debug)]
pub(crate) struct Gate {
    clock: SystemClock,
    state: Mutex<GateState>,
    /// Wakes those who wait for an attempt that failed.
    failed: Notify,
}

#[derive(Debug)]
struct GateState {
    waits: ExponentialBackoff,
    closed: Option<(Tick, ConnectError)>,
    /// Since when somebody wants a connection, without success or failure.
    waiting_since: Option<Tick>,
}

impl Gate {
    fn new(clock: SystemClock) -> Self {
        let state = GateState { waits: waits(), closed: None, waiting_since: None };
        Self { clock, state: Mutex::new(state), failed: Notify::new() }
    }

    /// Why nothing is attempted now.
    pub(crate) fn refusal(&self) -> Option<ConnectError> {
        let state = self.state.lock();
        let (until, reason) = state.closed.as_ref()?;
        (self.clock.now_precise() < *until).then(|| reason.clone())
    }

    pub(crate) fn failed_with(&self, reason: ConnectError) {
        let mut state = self.state.lock();
        let wait = state.waits.next().unwrap_or(LONGEST_WAIT);
        state.closed = Some((self.clock.now_precise() + wait, reason));
        state.waiting_since = None;
        drop(state);
        self.failed.notify_waiters();
    }

    /// The next attempt is due now.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock();
        state.closed = None;
        state.waits = waits();
    }

    fn last(&self) -> Option<ConnectError> {
        self.state.lock().closed.as_ref().map(|(_, reason)| reason.clone())
    }

    pub(crate) fn succeeded(&self) {
        let mut state = self.state.lock();
        state.waiting_since = None;
        if state.closed.take().is_some() {
            state.waits = waits();
        }
    }

    /// Whether connections have been owed for longer than this; if so, the wait begins anew.
    fn is_waiting_longer_than(&self, patience: Duration) -> bool {
        let mut state = self.state.lock();
        let now = self.clock.now_precise();
        let since = *state.waiting_since.get_or_insert(now);
        let too_long = now.since(since) > patience;
        if too_long {
            state.waiting_since = Some(now);
        }
        too_long
    }
}

/// Waits between attempts to connect, growing and jittered, without end.
pub(crate) fn waits() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(SHORTEST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refused() -> ConnectError {
        redis::RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused)).into()
    }

    #[test]
    fn a_failed_attempt_closes_the_gate_and_a_success_opens_it() {
        let gate = Gate::new(SystemClock::new());
        assert!(gate.refusal().is_none());
        gate.failed_with(refused());
        assert!(matches!(gate.refusal(), Some(ConnectError::Redis(error)) if error.is_connection_refusal()));
        gate.succeeded();
        assert!(gate.refusal().is_none());
        gate.failed_with(refused());
        gate.open();
        assert!(gate.refusal().is_none());
    }

    #[test]
    fn the_waits_grow_with_jitter_to_their_limit_and_go_on() {
        let waits: Vec<_> = waits().take(40).collect();
        assert!(waits[0] >= SHORTEST_WAIT && waits[0] <= SHORTEST_WAIT * 2, "{waits:?}");
        assert!(waits[39] >= LONGEST_WAIT && waits[39] <= LONGEST_WAIT * 2, "{waits:?}");
        assert_eq!(waits.len(), 40);
    }

    #[test]
    fn a_connection_that_is_owed_for_too_long_is_given_up_once() {
        let gate = Gate::new(SystemClock::new());
        assert!(!gate.is_waiting_longer_than(Duration::from_secs(60)));
        gate.state.lock().waiting_since = Some(Tick::ZERO);
        assert!(gate.is_waiting_longer_than(Duration::from_millis(1)));
        assert!(!gate.is_waiting_longer_than(Duration::from_secs(60)));
    }
}
