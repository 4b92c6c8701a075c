//! Connections on which a server speaks by itself: the bus.
//!
//! Such a link has a connection of its own. It counts only while it leads to the same run of the same server as the data
//! connections do: one that has stayed with a server which nobody asks for data any more would hear nothing, and look well.

use std::{sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, PushKind, aio::MultiplexedConnection};
use tokio::{
    sync::{
        mpsc::{self, Receiver, Sender},
        watch,
    },
    time::{sleep, timeout},
};

use crate::{
    dial::dial,
    error,
    introduction::{introduce, run_of},
    manager::{ConnectError, ask},
    node::Node,
    socket::Request,
    topology::Servers,
};

/// What the server has said may wait for its reader. Beyond, the link is broken off rather than memory filled.
pub(crate) const QUEUE: usize = 4096;

/// How often the link is asked for a sign of life, and how long that may take at least: a link that is dead without
/// having been closed is noticed within two seconds.
pub(crate) const PULSE: Duration = Duration::from_secs(1);
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// A link to one server.
pub(crate) struct Link {
    servers: Arc<Servers>,
    node: Arc<Node>,
    run: Option<Arc<str>>,
    connection: MultiplexedConnection,
    pushes: Receiver<PushInfo>,
    /// Word that links have to be opened anew.
    changes: watch::Receiver<u64>,
    /// Word that data connections lead elsewhere.
    runs: watch::Receiver<u64>,
}

impl Link {
    /// Opens a link to a node and has it begin with this command.
    pub(crate) async fn open(
        servers: &Arc<Servers>,
        node: &Arc<Node>,
        operation: &'static str,
        first: &Cmd,
    ) -> Result<Self> {
        let opening = Self::connect(servers, node, operation, first);
        match timeout(servers.config().connect_deadline, opening).await {
            Ok(opened) => opened.map_err(|error| error::from_connect(operation, &error)),
            Err(_) => Err(error::not_connected_in_time(operation)),
        }
    }

    async fn connect(
        servers: &Arc<Servers>,
        node: &Arc<Node>,
        operation: &'static str,
        first: &Cmd,
    ) -> Result<Self, ConnectError> {
        let (changes, runs) = (servers.changes(), servers.guards().runs());
        let config = servers.config();
        let address = node.locator().locate(config).await?;
        let client = dial(config, &address, ProtocolVersion::RESP3).await?;
        let (sender, pushes) = mpsc::channel(QUEUE);
        let inlet = Inlet(Mutex::new(Some(sender)));
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(config.command_deadline.max(LEAST_PATIENCE)))
            .set_push_sender(move |push| inlet.take(push));
        let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
        let introduction = introduce(&mut connection, &config.client_name, node.manager().clock()).await?;
        ask(&mut connection, first).await?;
        // It answers again: what follows need not wait for the next attempt to be due.
        node.is_back();
        let link = Self {
            servers: Arc::clone(servers),
            node: Arc::clone(node),
            run: introduction.run,
            connection,
            pushes,
            changes,
            runs,
        };
        link.check(operation).await?;
        Ok(link)
    }

    /// Asks on a data connection which run that leads to.
    async fn check(&self, operation: &'static str) -> Result<()> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let data = run_of(self.node.ask(operation, Request::Command(&info)).await?);
        match (&self.run, data) {
            (Some(own), Some(data)) if *own != data => {
                let message =
                    "the link leads to another run of the server than the data connections; it is opened anew";
                Err(Error::new(ErrorKind::Unavailable, operation, message))
            }
            // A user without the right to ask is believed.
            _ => Ok(()),
        }
    }

    /// Hands over what the server says, until that is refused or the link cannot be relied on any more.
    pub(crate) async fn listen(mut self, mut hear: impl FnMut(PushInfo) -> bool) {
        let patience = self.servers.config().command_deadline.max(LEAST_PATIENCE);
        let pulse = pulse(self.connection.clone(), patience);
        tokio::pin!(pulse);
        loop {
            tokio::select! {
                push = self.pushes.recv() => match push {
                    Some(push) => if !hear(push) { return },
                    None => return,
                },
                () = &mut pulse => return,
                // An error means that the servers are gone, and with them the backend.
                _ = self.changes.changed() => return,
                changed = self.runs.changed() => {
                    if changed.is_err() || !self.servers.have(&self.node, self.run.as_ref()) {
                        return;
                    }
                }
            }
        }
    }
}

/// Ends when the link gives no sign of life.
async fn pulse(mut connection: MultiplexedConnection, patience: Duration) {
    let ping = redis::cmd("PING");
    loop {
        sleep(PULSE).await;
        if !matches!(timeout(patience, ask(&mut connection, &ping)).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// Where the server's words come in, until there is no more room or the connection has ended.
struct Inlet(Mutex<Option<Sender<PushInfo>>>);

impl Inlet {
    fn take(&self, push: PushInfo) -> std::result::Result<(), Closed> {
        let mut sender = self.0.lock();
        let ended = push.kind == PushKind::Disconnection;
        match sender.as_ref() {
            Some(open) if !ended && open.try_send(push).is_ok() => Ok(()),
            _ => {
                *sender = None;
                Err(Closed)
            }
        }
    }
}

#[derive(Debug)]
struct Closed;
