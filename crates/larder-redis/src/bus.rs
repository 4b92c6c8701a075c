//! The bus: Redis pub/sub.
//!
//! A subscription has a connection of its own, kept by a task that ends with the stream. Messages pass through a bounded
//! queue to the stream's reader. Whatever may have cost a message (a break, a silent link, a reader that fell behind) ends
//! in the same way: [`BusEvent::Lost`], a new connection, and after the server's own confirmation
//! [`BusEvent::Confirmed`].

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use larder_core::{Bus, BusEvent, BusSource, Bytes, Each, Error, ErrorKind, Key, Result};
use parking_lot::Mutex;
use redis::{
    Value,
    aio::{PubSubSink, PubSubStream},
};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    RedisBackend, error,
    manager::ConnectError,
    reply,
    slot::waits,
    socket::Request,
    topology::{Call, Servers},
};

/// Messages that may wait for the reader. Beyond, the link is broken off rather than memory filled.
const QUEUE: usize = 4096;

/// How often the link is asked for a sign of life, and how long that may take at least: a link that is dead without
/// having been closed is noticed within two seconds.
const PULSE: Duration = Duration::from_secs(1);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

#[async_trait]
impl BusSource for RedisBackend {
    /// Does not touch the network: a bus may be opened while the server is away.
    async fn open_bus(&self, channel: &str) -> Result<Box<dyn Bus>> {
        if channel.is_empty() {
            let message = "`channel` is empty; give the name that all processes of the namespace use";
            return Err(Error::new(ErrorKind::InvalidArgument, "open_bus", message));
        }
        let link = Link { servers: Arc::clone(&self.servers), channel: channel.into(), fault: Arc::default() };
        Ok(Box::new(RedisBus { link }))
    }

    /// Each transaction (MULTI, an UNLINK for each key, PUBLISH, EXEC) removes keys of one socket, at most as many as go
    /// into one chunk of a batch; in a cluster those of one slot. A key counts as removed only where EXEC answered. In a
    /// cluster keys seldom share a slot, so that nearly each of them costs a message: give few keys at a time. Without keys
    /// nothing is sent.
    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: Bytes) -> Each<bool> {
        self.remove_and_tell(keys, channel, &message).await
    }
}

/// A channel. Its `Debug` output says why the last attempt to subscribe failed.
#[derive(Debug)]
struct RedisBus {
    link: Link,
}

#[async_trait]
impl Bus for RedisBus {
    /// PUBLISH over the data sockets. A message whose future is dropped may have been sent.
    async fn publish(&self, message: Bytes) -> Result<u64> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&*self.link.channel).arg(&message[..]);
        let call = Call::write("publish", &self.link.channel);
        let heard = reply::integer("publish", self.link.servers.send(call, Request::Command(&command)).await?)?;
        u64::try_from(heard).map_err(|_| error::unexpected("publish", "a number of receivers"))
    }

    /// Each stream subscribes on a connection of its own, from its first poll on, within a tokio runtime.
    fn events(&self) -> BoxStream<'static, BusEvent> {
        let start = Subscription::New(self.link.clone());
        stream::unfold(start, |subscription| async {
            let mut running = match subscription {
                Subscription::New(link) => Running::start(link),
                Subscription::Running(running) => running,
            };
            let event = running.events.recv().await?;
            Some((event, Subscription::Running(running)))
        })
        .boxed()
    }
}

enum Subscription {
    New(Link),
    Running(Running),
}

/// The reader's end of a subscription; dropping it ends the task.
struct Running {
    events: Receiver<BusEvent>,
    task: AbortHandle,
}

impl Running {
    fn start(link: Link) -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move { link.keep(&sender).await }).abort_handle();
        Self { events, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Link {
    servers: Arc<Servers>,
    channel: Arc<str>,
    fault: Arc<Mutex<Option<Error>>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.fault.lock().as_ref().map(ToString::to_string);
        f.debug_struct("Link").field("channel", &self.channel).field("fault", &fault).finish_non_exhaustive()
    }
}

impl Link {
    /// Subscribes again and again until nobody listens any more.
    async fn keep(&self, events: &Sender<BusEvent>) {
        let mut pauses = waits();
        while !events.is_closed() {
            let mut changes = self.servers.changes();
            let subscribed = self.subscribe().await;
            *self.fault.lock() = subscribed.as_ref().err().cloned();
            if let Ok((sink, messages)) = subscribed {
                pauses = waits();
                if events.send(BusEvent::Confirmed).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = forward(messages, events) => {}
                    () = self.watch(sink) => {}
                    // An error means that the servers are gone, and with them the backend.
                    _ = changes.changed() => {}
                }
                if events.send(BusEvent::Lost).await.is_err() {
                    return;
                }
            }
            sleep(pauses.next().unwrap_or(PULSE)).await;
        }
    }

    /// A new connection on which the server has confirmed the subscription.
    async fn subscribe(&self) -> Result<(PubSubSink, PubSubStream)> {
        let opening = async {
            let client = self.servers.pubsub_client().await?;
            let (mut sink, messages) = client.get_async_pubsub().await?.split();
            sink.subscribe(&*self.channel).await?;
            Ok::<_, ConnectError>((sink, messages))
        };
        match timeout(self.servers.config().connect_deadline, opening).await {
            Ok(opened) => opened.map_err(|error| error::from_connect("subscribe", &error)),
            Err(_) => Err(error::not_connected_in_time("subscribe")),
        }
    }

    /// Ends when the link gives no sign of life.
    async fn watch(&self, mut sink: PubSubSink) {
        let patience = self.servers.config().command_deadline.max(LEAST_PATIENCE);
        loop {
            sleep(PULSE).await;
            if !matches!(timeout(patience, sink.ping::<Value>()).await, Ok(Ok(_))) {
                return;
            }
        }
    }
}

/// Ends when the connection does, or when the reader has fallen behind.
async fn forward(mut messages: PubSubStream, events: &Sender<BusEvent>) {
    while let Some(message) = messages.next().await {
        let bytes = Bytes::copy_from_slice(message.get_payload_bytes());
        if events.try_send(BusEvent::Message(bytes)).is_err() {
            return;
        }
    }
}
