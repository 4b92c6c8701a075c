//! Word of every change: RESP3's client-side caching in its broadcasting form.
//!
//! Each primary has a link of its own on which `CLIENT TRACKING ON BCAST PREFIX` was answered; one task reads them all.
//! Tracking counts only while all of them stand: where one is lost, all are opened anew. What was written through this
//! backend is not told of (`own_writes.rs`): keys that it wrote a moment ago are looked at, in one round trip for all that
//! were announced meanwhile.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::{select_all, try_join_all},
    stream::{self, BoxStream},
};
use larder_core::{Key, Result, Tracking, TrackingEvent, envelope::TOKEN_BYTES};
use redis::{Cmd, Pipeline, PushInfo, PushKind, Value};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::AbortHandle,
    time::sleep,
};

use crate::{
    RedisBackend,
    batch::{Answers, Batch, next},
    link::{Link, PULSE, QUEUE},
    node::Node,
    reply,
    slot::waits,
    socket::Effect,
    topology::Servers,
};

const OPERATION: &str = "track";

/// So many announcements are looked at together at most.
const TOGETHER: usize = 512;

impl Tracking for RedisBackend {
    /// Redis does not keep databases apart here: changes in another one are told of too. Needs the right to
    /// `client|tracking`; without it the stream stays silent, as while a server is away, and it is logged once.
    fn track(&self, prefix: &str) -> BoxStream<'static, TrackingEvent> {
        let start = State::New(Tracker { servers: Arc::clone(&self.servers), prefix: prefix.into() });
        stream::unfold(start, |state| async {
            let mut running = match state {
                State::New(tracker) => Running::start(tracker),
                State::Running(running) => running,
            };
            let event = running.events.recv().await?;
            Some((event, State::Running(running)))
        })
        .boxed()
    }
}

enum State {
    New(Tracker),
    Running(Running),
}

/// The reader's end; dropping it ends the task.
struct Running {
    events: Receiver<TrackingEvent>,
    task: AbortHandle,
    servers: Arc<Servers>,
}

impl Running {
    fn start(tracker: Tracker) -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let servers = Arc::clone(&tracker.servers);
        // Before anything is tracked, so that no write is taken for another's.
        servers.own_writes().begin();
        let task = tokio::spawn(async move { tracker.keep(&sender).await }).abort_handle();
        Self { events, task, servers }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.servers.own_writes().end();
    }
}

struct Tracker {
    servers: Arc<Servers>,
    prefix: Arc<str>,
}

impl Tracker {
    /// Tracks again and again until nobody listens any more.
    async fn keep(&self, events: &Sender<TrackingEvent>) {
        let (mut pauses, mut has_complained) = (waits(), false);
        while !events.is_closed() {
            match self.open().await {
                Ok(links) => {
                    pauses = waits();
                    if events.send(TrackingEvent::Confirmed).await.is_err() {
                        return;
                    }
                    self.listen(links, events).await;
                    if events.send(TrackingEvent::Lost).await.is_err() {
                        return;
                    }
                }
                Err(error) if !error.is_transient() && !has_complained => {
                    has_complained = true;
                    tracing::warn!(target: "larder", %error, "changes by others cannot be tracked; it is tried again");
                }
                Err(_) => {}
            }
            sleep(pauses.next().unwrap_or(PULSE)).await;
        }
    }

    /// A link to every primary.
    async fn open(&self) -> Result<Links> {
        let runs = self.servers.guards().runs();
        let nodes = self.servers.primaries().await?;
        let mut track = redis::cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&*self.prefix);
        let open = |node| Link::open(&self.servers, node, OPERATION, &track);
        let links = try_join_all(nodes.iter().map(open)).await?;
        Ok(Links { nodes, links, runs })
    }

    /// Passes on what is announced, until one of the links cannot be relied on any more.
    async fn listen(&self, links: Links, events: &Sender<TrackingEvent>) {
        let Links { nodes, links, mut runs } = links;
        let (announced, mut announcements) = mpsc::channel(QUEUE);
        let listening = links.into_iter().map(|link| {
            let announced = announced.clone();
            Box::pin(link.listen(move |push| match announcement(push) {
                Some(announcement) => announced.try_send(announcement).is_ok(),
                None => true,
            }))
        });
        let listening = select_all(listening);
        let others = async { while runs.changed().await.is_ok() && self.servers.are(&nodes) {} };
        let telling = async {
            let mut some = Vec::with_capacity(TOGETHER);
            while announcements.recv_many(&mut some, TOGETHER).await > 0 {
                if !self.tell(some.drain(..), events).await {
                    return;
                }
            }
        };
        tokio::select! {
            _ = listening => {}
            () = others => {}
            () = telling => {}
        }
    }

    /// Answers whether somebody listens.
    async fn tell(&self, some: impl Iterator<Item = Announcement>, events: &Sender<TrackingEvent>) -> bool {
        let (mut keys, mut flushed) = (Vec::new(), false);
        for announcement in some {
            match announcement {
                Announcement::Keys(more) => keys.extend(more),
                Announcement::Flushed => flushed = true,
            }
        }
        keys.sort();
        keys.dedup();
        let own = self.servers.own_writes();
        let (doubtful, mut changed): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| own.may_be_own(key));
        changed.extend(self.not_own(doubtful).await);
        own.gone(&changed);
        if flushed && events.send(TrackingEvent::Flushed).await.is_err() {
            return false;
        }
        changed.is_empty() || events.send(TrackingEvent::Keys(changed)).await.is_ok()
    }

    /// The keys that hold something else than was written last. One that cannot be looked at may.
    async fn not_own(&self, keys: Vec<Key>) -> Vec<Key> {
        if keys.is_empty() {
            return keys;
        }
        let backend = RedisBackend { servers: Arc::clone(&self.servers) };
        let batch = Batch {
            operation: OPERATION,
            effect: Effect::Read,
            replica: false,
            keys: &keys.iter().collect::<Vec<_>>(),
            payload: &|_| 0,
            width: 1,
            encode: |index: usize, pipeline: &mut Pipeline| {
                pipeline.add_command(beginning(&keys[index]));
            },
            decode: |_, values: &mut dyn Iterator<Item = Value>| next(OPERATION, values, reply::bytes),
        };
        let stored = backend.run(batch, Answers::new(keys.len())).await;
        let own = self.servers.own_writes();
        let is_own = |key: &Key, stored: Result<Option<larder_core::Bytes>>| matches!(stored, Ok(Some(it)) if own.is_own(key, &it));
        keys.into_iter().zip(stored).filter_map(|(key, stored)| (!is_own(&key, stored)).then_some(key)).collect()
    }
}

fn beginning(key: &Key) -> Cmd {
    let mut command = redis::cmd("GETRANGE");
    command.arg(key.as_str()).arg(0).arg(TOKEN_BYTES - 1);
    command
}

struct Links {
    nodes: Vec<Arc<Node>>,
    links: Vec<Link>,
    /// Word that the servers are others.
    runs: tokio::sync::watch::Receiver<u64>,
}

enum Announcement {
    Keys(Vec<Key>),
    Flushed,
}

/// Keys that are not UTF-8 cannot be Larder's.
fn announcement(push: PushInfo) -> Option<Announcement> {
    if push.kind != PushKind::Invalidate {
        return None;
    }
    match push.data.into_iter().next()? {
        Value::Array(keys) => {
            let text = |key| match key {
                Value::BulkString(bytes) => String::from_utf8(bytes).ok().map(Key::from_canonical),
                _ => None,
            };
            Some(Announcement::Keys(keys.into_iter().filter_map(text).collect()))
        }
        Value::Nil => Some(Announcement::Flushed),
        _ => None,
    }
}
