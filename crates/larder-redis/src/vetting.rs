//! What a connection has to go through before it carries anything about keys.
//!
//! The run of its server is compared (`lineage.rs`), and connections on which a value may still be under way are killed
//! first, so that no later command of their keys is overtaken. Both are done once for a connection, and again when there
//! is reason to: its *terms* have grown. Questions about the server itself, such as for the layout of a cluster, do not
//! wait for it: what the comparison needs may have to be found out by them.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::{ErrorKind as RedisKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::{
    runtime::{Handle, Id},
    time::timeout,
};

use crate::{error, manager::ConnectError, slot::Slot, socket::Socket};

const OPERATION: &str = "connect";

type Outcome = std::result::Result<(), ConnectError>;

/// What comes of it, for all who wait.
type Pending = Shared<BoxFuture<'static, Outcome>>;

/// One slot's part in it.
#[derive(Debug, Default)]
pub(crate) struct Vetting {
    under_way: Mutex<Option<UnderWay>>,
    /// Connections on which a value may be under way, and how many there were so far.
    doubtful: Mutex<Vec<Doubtful>>,
    doubts: AtomicU64,
}

/// One connection that is being vetted, by a task of this runtime: callers of another one do not depend on it.
#[derive(Debug)]
struct UnderWay {
    socket: Weak<Socket>,
    runtime: Id,
    outcome: Pending,
}

/// A connection as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Doubtful {
    run: Arc<str>,
    client: i64,
}

impl Slot {
    /// What a connection must have been vetted for. Grows.
    fn terms(&self) -> u64 {
        self.manager.terms() + self.vetting.doubts.load(Ordering::Acquire)
    }

    pub(crate) fn is_vetted(&self, socket: &Socket) -> bool {
        socket.vetted_for() >= self.terms()
    }

    /// Returns when the connection may carry commands about keys, or is found broken. It goes on where the caller is
    /// dropped; what comes of it is the same for all who wait.
    pub(crate) async fn vet(self: &Arc<Self>, operation: &'static str, socket: &Arc<Socket>) -> Result<()> {
        while !self.is_vetted(socket) && !socket.health.is_broken() {
            let terms = self.terms();
            if !self.manager.has_to_compare() && self.vetting.doubtful.lock().is_empty() {
                socket.vetted(terms);
                continue;
            }
            if let Some(refusal) = self.gate.refusal() {
                return Err(error::from_connect(operation, &refusal));
            }
            self.vetted(socket).await.map_err(|reason| error::from_connect(operation, &reason))?;
        }
        Ok(())
    }

    fn vetted(self: &Arc<Self>, socket: &Arc<Socket>) -> Pending {
        let Ok(runtime) = Handle::try_current() else {
            let message = "there is no tokio runtime here, which connecting takes";
            return std::future::ready(Err(Error::new(ErrorKind::Unavailable, OPERATION, message).into()))
                .boxed()
                .shared();
        };
        let mut under_way = self.vetting.under_way.lock();
        if let Some(it) = under_way.as_ref()
            && it.outcome.peek().is_none()
            && it.socket.as_ptr() == Arc::as_ptr(socket)
            && it.runtime == runtime.id()
        {
            return it.outcome.clone();
        }
        let (slot, vetted) = (Arc::clone(self), Arc::clone(socket));
        let task = runtime.spawn(async move { slot.settle(&vetted).await });
        let ended =
            || Error::new(ErrorKind::Unavailable, OPERATION, "the task that was connecting ended early; try again");
        let outcome = async move { task.await.unwrap_or_else(|_| Err(ended().into())) }.boxed().shared();
        *under_way = Some(UnderWay { socket: Arc::downgrade(socket), runtime: runtime.id(), outcome: outcome.clone() });
        outcome
    }

    async fn settle(&self, socket: &Socket) -> Outcome {
        let terms = self.terms();
        let settling = async {
            self.kill_doubtful(socket).await?;
            self.manager.compare(socket).await
        };
        let late = || Err(error::not_connected_in_time(OPERATION).into());
        let outcome = timeout(self.manager.config().connect_deadline, settling).await.unwrap_or_else(|_| late());
        match &outcome {
            // Given up meanwhile, perhaps by a value of unknown fate.
            Ok(()) if socket.health.is_broken() => {}
            Ok(()) => {
                socket.vetted(terms);
                self.gate.succeeded();
            }
            Err(reason) => self.gate.failed_with(reason.clone()),
        }
        outcome
    }

    /// It is unknown what became of a value that was sent on this connection: it is given up, and killed before the next
    /// one carries anything. Where the user may not kill, it stays: on it at least later commands come later.
    pub(crate) fn doubt(&self, socket: &Socket) {
        let client = socket.client.filter(|_| self.manager.may_kill());
        let (Some(run), Some(client)) = (&socket.run, client) else {
            self.manager.count_unkilled();
            return;
        };
        socket.health.condemn();
        let doubtful = Doubtful { run: Arc::clone(run), client };
        let mut all = self.vetting.doubtful.lock();
        if !all.contains(&doubtful) {
            all.push(doubtful);
            self.vetting.doubts.fetch_add(1, Ordering::AcqRel);
        }
    }

    async fn kill_doubtful(&self, socket: &Socket) -> Outcome {
        // A connection does not kill itself.
        let is_itself = |it: &Doubtful| Some(&it.run) == socket.run.as_ref() && Some(it.client) == socket.client;
        let mut doubtful = self.vetting.doubtful.lock().clone();
        doubtful.retain(|it| !is_itself(it));
        if doubtful.is_empty() {
            return Ok(());
        }
        // Those of a run that ended went with it, and their numbers may be others' by now.
        let living: Vec<_> = doubtful.iter().filter(|it| Some(&it.run) == socket.run.as_ref()).collect();
        if !living.is_empty() && self.manager.may_kill() {
            let mut kills = Pipeline::with_capacity(living.len());
            for it in living {
                kills.cmd("CLIENT").arg("KILL").arg("ID").arg(it.client);
            }
            for answer in socket.ask_all(&kills).await? {
                self.killed(answer)?;
            }
        }
        self.vetting.doubtful.lock().retain(|it| !doubtful.contains(it));
        Ok(())
    }

    fn killed(&self, answer: Value) -> Outcome {
        match answer {
            Value::ServerError(refused) if refused.kind() == Some(ServerErrorKind::NoPerm) => {
                self.manager.cannot_kill();
                Ok(())
            }
            // Servers that are hosted, and proxies, know less than Redis does.
            Value::ServerError(refused) if refused.details().is_some_and(|text| text.contains("unknown")) => {
                self.manager.cannot_kill();
                Ok(())
            }
            Value::ServerError(refused) => Err(RedisError::from(refused).into()),
            // Zero where it had ended by itself.
            Value::Int(killed) => {
                self.manager.count_killed(killed);
                Ok(())
            }
            _ => Err(RedisError::from((RedisKind::UnexpectedReturnType, "CLIENT KILL answers a number")).into()),
        }
    }
}

/// Held while a value is under way. Dropped without an answer, whether for want of one or of somebody to wait for it, it
/// leaves the connection in doubt.
pub(crate) struct Sending<'a> {
    slot: &'a Slot,
    socket: &'a Socket,
    answered: bool,
}

impl<'a> Sending<'a> {
    pub(crate) fn begin(slot: &'a Slot, socket: &'a Socket) -> Self {
        Self { slot, socket, answered: false }
    }

    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.slot.doubt(self.socket);
        }
    }
}
