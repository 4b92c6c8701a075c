//! Whether a server is still the one that it was.
//!
//! Each run of a server has a random id. The one that a namespace last saw is recorded in the server itself: a server that
//! was started anew is without a record, or came back from a dump with an old one, and a replica that took over has that of
//! its former primary. Before a connection carries anything about keys, the id is compared with the record. Where they
//! differ the namespace's generation is removed, which voids all of its entries, and only then the new id recorded, so
//! that who crashes in between leaves the work to the next. Processes that see the same change may all do so; to remove
//! twice does no harm.
//!
//! To a process that has compared a run once it means nothing that the record is gone. So it may be evicted without harm to
//! those that run; while they do they renew it, so that it seldom is. But a record of another run says also to them that the
//! data are others: the server was a replica of another primary meanwhile, and took over again. (In a cluster records travel
//! with their slots; there a node that takes over again is compared by its office.)

use std::sync::{Arc, OnceLock, Weak};

use larder_core::{Error, ErrorKind, Guard, Key, Lineage, UnixMillis};
use parking_lot::RwLock;
use redis::{Cmd, ErrorKind as RedisKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{sync::watch, time::sleep};

use crate::{
    RedisBackend, error,
    manager::{ConnectError, Manager},
    reply,
    socket::{Request, Socket},
    topology::{MOST_HOPS, PAUSE, Redirect, Servers, slot_of},
};

pub(crate) const OPERATION: &str = "guard";

/// How long a record lasts without anybody who renews it: 7 days.
const RECORD_MILLIS: u64 = 7 * 24 * 3600 * 1000;

/// So many places for a node's record are tried while slots are on their way.
const MOST_PLACES: usize = 8;

/// With three primaries every third tag is a node's own; a node of a large cluster with one slot may need thousands.
const MOST_TAGS: usize = 1 << 18;

const RIGHTS: &str = "nothing is read from this server, since it is unknown whether it is the one that it was: the user lacks a right that \
     this takes (`info`, and `get`, `set`, `unlink` of the namespace's keys); extend its ACL on the server";

/// What is guarded, for all servers of a backend.
#[derive(Debug)]
pub(crate) struct Guards {
    list: RwLock<Vec<Guard>>,
    servers: OnceLock<Weak<Servers>>,
    /// Grows when a data connection leads to another run than the one before, or the primaries are others.
    runs: watch::Sender<u64>,
}

impl Guards {
    pub(crate) fn new() -> Self {
        Self { list: RwLock::default(), servers: OnceLock::new(), runs: watch::Sender::new(0) }
    }

    pub(crate) fn belong_to(&self, servers: Weak<Servers>) {
        // Only once, where the servers are made.
        drop(self.servers.set(servers));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.read().is_empty()
    }

    pub(crate) fn runs(&self) -> watch::Receiver<u64> {
        self.runs.subscribe()
    }

    pub(crate) fn runs_changed(&self) {
        self.runs.send_modify(|changes| *changes += 1);
    }

    fn servers(&self) -> Option<Arc<Servers>> {
        self.servers.get()?.upgrade()
    }
}

/// What a node has been found to be, for one guard.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The run that was compared last.
    run: Option<Arc<str>>,
    /// How often the node had taken over from others by then.
    office: u64,
    /// The generation was removed, and the guard has not been told.
    owes: bool,
}

impl Lineage for RedisBackend {
    /// Open connections are compared in place, before they carry the next command about a key. Costs a round trip for each
    /// namespace and connection, four where something has changed.
    fn guard(&self, guard: Guard) {
        self.servers.guards().list.write().push(guard);
        self.servers.vet_all();
    }

    /// As of the last connection that was opened, and of a measurement every 20 s while the server is used. `None` where
    /// the user has no right to TIME, or this machine slept since.
    fn server_time(&self, key: &Key) -> Option<UnixMillis> {
        self.servers.server_time(key)
    }

    fn has_one_server(&self) -> bool {
        !self.servers.is_cluster()
    }
}

impl Manager {
    /// Whether there is anything to compare on this node's connections.
    pub(crate) fn has_to_compare(&self) -> bool {
        self.locator().is_primary() && !self.guards().is_empty()
    }

    /// Compares the run of a connection's server with what every guard has recorded.
    pub(crate) async fn compare(&self, socket: &Socket) -> Result<(), ConnectError> {
        if !self.has_to_compare() {
            return Ok(());
        }
        let Some(servers) = self.guards().servers() else { return Ok(()) };
        let mut standings = self.standings.lock().await;
        // Read under the lock, so that it never has fewer than another caller has seen: none is taken away.
        let guards = self.guards().list.read().clone();
        standings.resize_with(guards.len(), Standing::default);
        let office = self.office();
        for (guard, standing) in guards.iter().zip(standings.iter_mut()) {
            let run = socket.run.as_ref().ok_or_else(|| Error::new(ErrorKind::Auth, OPERATION, RIGHTS))?;
            let place = Place { manager: self, servers: &servers, socket, guard };
            let is_known = standing.run.as_ref() == Some(run) && standing.office == office;
            if is_known && (servers.is_cluster() || !place.names_another(run).await.map_err(refusal)?) {
                continue;
            }
            if !place.compare(run, standing).await.map_err(refusal)? {
                continue;
            }
            // What this process knows is of an earlier run, or of the node that this one took over from.
            let is_news = standing.run.is_some() || office > 0;
            if std::mem::take(&mut standing.owes) || is_news {
                (guard.changed)();
            }
            *standing = Standing { run: Some(Arc::clone(run)), office, owes: false };
        }
        Ok(())
    }

    /// The commands that renew the records of what was compared.
    pub(crate) fn renewals(&self, socket: &Socket) -> Vec<Cmd> {
        let (Some(run), Some(servers)) = (&socket.run, self.guards().servers()) else { return Vec::new() };
        // Who compares at the moment writes the record too.
        let Ok(standings) = self.standings.try_lock() else { return Vec::new() };
        let guards = self.guards().list.read();
        let compared = guards.iter().zip(standings.iter()).filter(|(_, standing)| standing.run.as_ref() == Some(run));
        compared.filter_map(|(guard, _)| Some(set(&servers.record_on(self, &guard.record, &[])?, run))).collect()
    }
}

fn set(record: &Key, run: &str) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(record.as_str()).arg(run).arg("PX").arg(RECORD_MILLIS);
    command
}

fn refusal(error: ConnectError) -> ConnectError {
    match error {
        ConnectError::Redis(error) if error.kind() == RedisKind::Server(ServerErrorKind::NoPerm) => {
            Error::new(ErrorKind::Auth, OPERATION, RIGHTS).with_source(error).into()
        }
        error => error,
    }
}

/// One guard on one connection.
struct Place<'a> {
    manager: &'a Manager,
    servers: &'a Arc<Servers>,
    socket: &'a Socket,
    guard: &'a Guard,
}

impl Place<'_> {
    /// Whether another run is recorded.
    async fn names_another(&self, run: &str) -> Result<bool, ConnectError> {
        let recorded = self.recorded().await?.and_then(|(_, recorded)| recorded);
        Ok(recorded.is_some_and(|recorded| recorded != run.as_bytes()))
    }

    /// Makes the record say what is true, after the generation was removed if it did not. Answers whether there is a
    /// record: a node of a cluster that serves nothing has none.
    async fn compare(&self, run: &str, standing: &mut Standing) -> Result<bool, ConnectError> {
        let Some((record, recorded)) = self.recorded().await? else { return Ok(false) };
        // Who was in office in between may not have come to the point of recording its run: then the record is still that of
        // the time before.
        let was_out_of_office = standing.run.as_deref() == Some(run) && standing.office != self.manager.office();
        if recorded.as_deref() == Some(run.as_bytes()) && !was_out_of_office {
            return Ok(true);
        }
        // A namespace is guarded on each primary of a cluster from when a process first needs it: that nothing is recorded on
        // one that this process has not met before says nothing. Processes that have met it know of another run.
        let is_known = standing.run.is_some() || self.manager.office() > 0;
        if recorded.is_some() || is_known || !self.servers.is_cluster() {
            // Where nothing was recorded and there was no generation, nothing can have changed: the first start. Until the
            // server has answered, it may have removed one.
            let owed = std::mem::replace(&mut standing.owes, true);
            let removed = self.remove_generation().await?;
            standing.owes = owed || removed || recorded.is_some();
        }
        match self.socket.ask(&set(&record, run)).await {
            Err(error) if error.code() == Some("OOM") => {
                // The next process will remove the generation once more.
                Ok(true)
            }
            answer => Ok(answer.map(|_| true)?),
        }
    }

    /// The record's key on this node, and what it holds.
    async fn recorded(&self) -> Result<Option<(Key, Option<larder_core::Bytes>)>, ConnectError> {
        let mut not_here = Vec::new();
        for _ in 0..MOST_PLACES {
            let Some(record) = self.servers.record_on(self.manager, &self.guard.record, &not_here) else {
                return Ok(None);
            };
            let mut get = redis::cmd("GET");
            get.arg(record.as_str());
            let answer = self.socket.ask(&get).await;
            match self.redirect_of(&answer) {
                None => return Ok(Some((record, reply::bytes(OPERATION, answer?)?))),
                Some(Redirect::Later) if is_down(&answer) => {
                    return Err(answer.err().map_or_else(unsettled, Into::into));
                }
                Some(redirect) => {
                    not_here.push(slot_of(record.as_str()));
                    self.servers.learn(&redirect);
                }
            }
        }
        Err(unsettled())
    }

    fn redirect_of(&self, answer: &RedisResult<Value>) -> Option<Redirect> {
        let error = answer.as_ref().err()?;
        Redirect::of_error(error, self.manager.locator().address()?)
    }

    /// Wherever it lies.
    async fn remove_generation(&self) -> Result<bool, ConnectError> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(self.guard.generation.as_str());
        let mut answer = self.socket.ask(&unlink).await;
        let mut redirect = self.redirect_of(&answer);
        for _ in 0..MOST_HOPS {
            let Some(towards) = redirect else { return Ok(reply::flag(OPERATION, answer?)?) };
            let node = match self.servers.learn(&towards) {
                Some(node) => node,
                None => {
                    sleep(PAUSE).await;
                    self.servers.look_again().await;
                    self.servers.owner_of(&self.guard.generation).ok_or_else(unsettled)?
                }
            };
            let request = Request::Command(&unlink);
            let asking = request.with_asking();
            // Not by way of `send`: the other node may itself be about to compare, and wait for this one.
            let sent = match &towards {
                Redirect::Ask { .. } => node.ask(OPERATION, Request::Pipeline(&asking)).await,
                _ => node.ask(OPERATION, request).await,
            };
            let value = match sent? {
                Value::Array(mut answers) => answers.pop().unwrap_or(Value::Nil),
                value => value,
            };
            redirect = node.locator().address().and_then(|address| Redirect::of_value(&value, address));
            answer = value.extract_error();
        }
        Err(unsettled())
    }
}

fn is_down(answer: &RedisResult<Value>) -> bool {
    let down = |error: &RedisError| error.kind() == RedisKind::Server(ServerErrorKind::ClusterDown);
    answer.as_ref().is_err_and(down)
}

fn unsettled() -> ConnectError {
    error::unsettled(OPERATION, None).into()
}

/// The key of a node's record: the first of a row of keys that lies on the node, so that all processes find the same.
pub(crate) fn record_in(record: &Key, is_own: impl Fn(u16) -> bool) -> Option<Key> {
    (0..MOST_TAGS)
        .map(|tag| format!("{}:{{{tag}}}", record.as_str()))
        .find(|key| is_own(slot_of(key)))
        .map(Key::from_canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lies_in_the_first_slot_that_the_node_owns() {
        let record = Key::from_canonical("n:%run");
        let first = record_in(&record, |_| true).unwrap();
        assert_eq!(first.as_str(), "n:%run:{0}");
        let other = record_in(&record, |slot| slot != slot_of("0")).unwrap();
        assert_eq!(other.as_str(), "n:%run:{1}");
        for wanted in [0, 8191, 16383] {
            let only = record_in(&record, |slot| slot == wanted).unwrap();
            assert_eq!(slot_of(only.as_str()), wanted);
        }
        assert_eq!(record_in(&record, |_| false), None);
    }
}
