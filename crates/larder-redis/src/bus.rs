//! The bus: Redis pub/sub.
//!
//! A subscription has a link of its own, kept by a task that ends with the stream. Messages pass through a bounded queue to
//! the stream's reader. Whatever may have cost a message (a break, a silent link, one that leads elsewhere than the data
//! connections, a reader that fell behind) ends in the same way: [`BusEvent::Lost`], a new connection, and after the
//! server's own confirmation [`BusEvent::Confirmed`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use larder_core::{Announcement, Bus, BusEvent, BusSource, Bytes, Each, Error, ErrorKind, Key, Result};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::AbortHandle,
    time::sleep,
};

use crate::{
    RedisBackend, error,
    link::{Link, PULSE, QUEUE},
    reply,
    slot::waits,
    socket::Request,
    topology::{Call, Servers},
};

#[async_trait]
impl BusSource for RedisBackend {
    /// Does not touch the network: a bus may be opened while the server is away.
    async fn open_bus(&self, channel: &str) -> Result<Box<dyn Bus>> {
        if channel.is_empty() {
            let message = "`channel` is empty; give the name that all processes of the namespace use";
            return Err(Error::new(ErrorKind::InvalidArgument, "open_bus", message));
        }
        let channel = Channel { servers: Arc::clone(&self.servers), name: channel.into(), fault: Arc::default() };
        Ok(Box::new(RedisBus { channel }))
    }

    /// Each transaction (MULTI, an UNLINK for each key, PUBLISH, EXEC) removes keys of one socket, at most as many as go
    /// into one chunk of a batch; in a cluster those of one slot. A key counts as removed only where EXEC answered. In a
    /// cluster keys seldom share a slot, so that nearly each of them costs a transaction and a message. Without keys nothing
    /// is sent.
    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        self.remove_and_tell(keys, channel, message).await
    }
}

/// A channel. Its `Debug` output says why the last attempt to subscribe failed.
#[derive(Debug)]
struct RedisBus {
    channel: Channel,
}

#[async_trait]
impl Bus for RedisBus {
    /// PUBLISH over the data sockets. A message whose future is dropped may have been sent.
    async fn publish(&self, message: Bytes) -> Result<u64> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&*self.channel.name).arg(&message[..]);
        let call = Call::write("publish", &self.channel.name);
        let heard = reply::integer("publish", self.channel.servers.send(call, Request::Command(&command)).await?)?;
        u64::try_from(heard).map_err(|_| error::unexpected("publish", "a number of receivers"))
    }

    /// Each stream subscribes on a connection of its own, from its first poll on, within a tokio runtime.
    fn events(&self) -> BoxStream<'static, BusEvent> {
        let start = Subscription::New(self.channel.clone());
        stream::unfold(start, |subscription| async {
            let mut running = match subscription {
                Subscription::New(channel) => Running::start(channel),
                Subscription::Running(running) => running,
            };
            let event = running.events.recv().await?;
            Some((event, Subscription::Running(running)))
        })
        .boxed()
    }
}

enum Subscription {
    New(Channel),
    Running(Running),
}

/// The reader's end of a subscription; dropping it ends the task.
struct Running {
    events: Receiver<BusEvent>,
    task: AbortHandle,
}

impl Running {
    fn start(channel: Channel) -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move { channel.keep(&sender).await }).abort_handle();
        Self { events, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Channel {
    servers: Arc<Servers>,
    name: Arc<str>,
    fault: Arc<Mutex<Option<Error>>>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.fault.lock().as_ref().map(ToString::to_string);
        f.debug_struct("Channel").field("name", &self.name).field("fault", &fault).finish_non_exhaustive()
    }
}

impl Channel {
    /// Subscribes again and again until nobody listens any more.
    async fn keep(&self, events: &Sender<BusEvent>) {
        let mut pauses = waits();
        while !events.is_closed() {
            let subscribed = self.subscribe().await;
            *self.fault.lock() = subscribed.as_ref().err().cloned();
            if let Ok(link) = subscribed {
                pauses = waits();
                if events.send(BusEvent::Confirmed).await.is_err() {
                    return;
                }
                link.listen(|push| match message_of(push) {
                    // A reader that has fallen behind.
                    Some(message) => events.try_send(BusEvent::Message(message)).is_ok(),
                    None => true,
                })
                .await;
                if events.send(BusEvent::Lost).await.is_err() {
                    return;
                }
            }
            sleep(pauses.next().unwrap_or(PULSE)).await;
        }
    }

    /// A new link on which the server has confirmed the subscription.
    async fn subscribe(&self) -> Result<Link> {
        let mut subscribe = redis::cmd("SUBSCRIBE");
        subscribe.arg(&*self.name);
        let node = self.servers.messenger().await?;
        Link::open(&self.servers, &node, "subscribe", &subscribe).await
    }
}

/// A message is the channel and what was sent there.
fn message_of(push: PushInfo) -> Option<Bytes> {
    match (push.kind, push.data.into_iter().nth(1)) {
        (PushKind::Message, Some(Value::BulkString(message))) => Some(message.into()),
        _ => None,
    }
}
