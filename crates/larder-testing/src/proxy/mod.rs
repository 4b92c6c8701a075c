//! A TCP proxy between a client and a server that fails in the ways in which networks do.

mod commands;
mod connection;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// What the proxy does with connections and bytes, those of existing connections too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ProxyMode {
    /// Forwards everything.
    #[default]
    Pass,
    /// Connections stand and are accepted, but no byte gets through in either direction; it does when another mode is
    /// set, as after an interruption of the network.
    Blackhole,
    /// Connections are reset, new ones as soon as they have been accepted.
    Reset,
    /// What the client sends arrives this much later; several commands in flight are late together.
    Delay(Duration),
    /// What the server sends arrives this much later, and up to twice as much later if it sends without a pause.
    DelayAnswers(Duration),
    /// The client is told that the server has closed its side, and what the server answers is thrown away; what the
    /// client sends still arrives. Connections stay like this in later modes.
    HalfClose,
    /// The first so many bytes of what the server answers next on a connection arrive; then the client is told that the
    /// server has closed its side. Connections that were cut stay so in later modes.
    Truncate(usize),
    /// The first so many bytes of what the client sends next on a connection arrive; then the connection is ended on both
    /// sides, as by a client that was killed. A connection on which more arrived before this mode was set starts at 0.
    Cut(usize),
    /// Before whatever the server answers the client gets bytes that are no reply of the Redis protocol.
    Garbage,
    /// New connections are refused, as by a host on which nothing listens; existing ones are reset.
    Refuse,
    /// Of the connections that are accepted from now on, every so-many-th is reset at once; all others are forwarded. 1 resets
    /// each, 0 none.
    ResetEvery(u64),
}

/// A proxy on a free port of 127.0.0.1. Dropping it closes the port and the connections.
///
/// It counts the connections and the commands of the Redis protocol that it has passed to the server.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    mode: watch::Sender<Setting>,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

/// A mode and the number of times that one was set.
#[derive(Debug, Clone, Copy, Default)]
struct Setting {
    mode: ProxyMode,
    revision: u64,
}

#[derive(Debug, Default)]
struct Shared {
    connections: watch::Sender<u64>,
    open: watch::Sender<usize>,
    /// The revision that the port obeys.
    obeyed: watch::Sender<u64>,
    commands: Mutex<BTreeMap<String, u64>>,
    /// Another server than the first one.
    server: Mutex<Option<SocketAddr>>,
    /// The command that is to be late, and by how much.
    late: Mutex<Option<(String, Duration)>>,
}

impl FaultProxy {
    /// Starts a proxy to a server, which need not be there yet, on the current tokio runtime.
    ///
    /// # Errors
    /// If no port can be opened.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mode = watch::Sender::new(Setting::default());
        let shared = Arc::new(Shared::default());
        let port = Port { address, server, mode: mode.subscribe(), shared: Arc::clone(&shared) };
        let acceptor = tokio::spawn(port.run(listener));
        Ok(Self { address, mode, shared, acceptor })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`address`](Self::address).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Leads connections that are accepted from now on to another server, as after a change of a name or of a virtual
    /// address.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.shared.server() = Some(server);
    }

    /// The mode that is set.
    #[must_use]
    pub fn mode(&self) -> ProxyMode {
        self.mode.borrow().mode
    }

    /// Sets another mode and waits until it is obeyed: connections are gone that should be, and the port refuses or
    /// listens. If the future is dropped the mode is set all the same.
    ///
    /// # Panics
    /// If the proxy has lost its port to another process while it refused connections.
    pub async fn set(&self, mode: ProxyMode) {
        let mut revision = 0;
        self.mode.send_modify(|setting| {
            *setting = Setting { mode, revision: setting.revision + 1 };
            revision = setting.revision;
        });
        let mut obeyed = self.shared.obeyed.subscribe();
        let obeyed = obeyed.wait_for(|obeyed| *obeyed >= revision);
        tokio::select! {
            biased;
            _ = obeyed => {}
            () = self.mode.closed() => panic!("the proxy cannot open its port {} again", self.address),
        }
        if matches!(mode, ProxyMode::Reset | ProxyMode::Refuse) {
            self.until_open(|open| open == 0).await;
        }
    }

    /// Lets the next command of this name, whatever its case, arrive so much later, with all that follows it on its connection;
    /// other connections are not concerned. Replaces what was asked for before and has not happened.
    pub fn delay_next(&self, name: &str, delay: Duration) {
        *self.shared.late() = Some((name.to_ascii_uppercase(), delay));
    }

    /// Whether a command that [`delay_next`](Self::delay_next) waits for has not come yet.
    #[must_use]
    pub fn is_waiting_to_delay(&self) -> bool {
        self.shared.late().is_some()
    }

    /// How many connections were accepted since the start.
    #[must_use]
    pub fn connections(&self) -> u64 {
        *self.shared.connections.borrow()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// Completes once the number of open connections is as wanted.
    pub async fn until_open(&self, wanted: impl Fn(usize) -> bool) {
        let mut open = self.shared.open.subscribe();
        // The sender lives in `self`, so the wait ends only by the condition.
        drop(open.wait_for(|open| wanted(*open)).await);
    }

    /// How many commands of the Redis protocol were passed to the server since the start, in whole.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.shared.commands().values().sum()
    }

    /// How many of them had this name, whatever its case.
    #[must_use]
    pub fn commands_named(&self, name: &str) -> u64 {
        self.shared.commands().get(&name.to_ascii_uppercase()).copied().unwrap_or(0)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The acceptor owns the connections' tasks.
        self.acceptor.abort();
    }
}

impl Shared {
    fn commands(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<SocketAddr>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> std::sync::MutexGuard<'_, Option<(String, Duration)>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long what holds these commands has to wait.
    fn lateness(&self, names: &[String]) -> Option<Duration> {
        let mut late = self.late();
        late.take_if(|(name, _)| names.contains(name)).map(|(_, delay)| delay)
    }

    fn count_command(&self, name: String) {
        *self.commands().entry(name).or_default() += 1;
    }
}

/// The task that accepts connections, or sees to it that they are refused.
struct Port {
    address: SocketAddr,
    server: SocketAddr,
    mode: watch::Receiver<Setting>,
    shared: Arc<Shared>,
}

impl Port {
    /// Ends when the proxy is gone or the port cannot be had again.
    async fn run(mut self, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        let mut listener = Some(listener);
        // Connections since the mode was set.
        let (mut revision, mut accepted_since) = (0, 0_u64);
        loop {
            let setting = *self.mode.borrow_and_update();
            if setting.mode == ProxyMode::Refuse {
                drop(listener.take());
                // A bound socket that does not listen refuses, and keeps the port from others.
                let Ok(reserved) = self.reserve() else { return };
                self.shared.obeyed.send_replace(setting.revision);
                if self.mode.changed().await.is_err() {
                    return;
                }
                listener = reserved.listen(BACKLOG).ok();
                continue;
            }
            let Some(open) = &listener else { return };
            self.shared.obeyed.send_replace(setting.revision);
            if revision != setting.revision {
                (revision, accepted_since) = (setting.revision, 0);
            }
            tokio::select! {
                biased;
                changed = self.mode.changed() => if changed.is_err() { return },
                accepted = open.accept() => if let Ok((client, _)) = accepted {
                    self.shared.connections.send_modify(|count| *count += 1);
                    accepted_since += 1;
                    if matches!(setting.mode, ProxyMode::ResetEvery(n) if n > 0 && accepted_since.is_multiple_of(n)) {
                        // It fails only for a connection that is gone already.
                        drop(client.set_zero_linger());
                        continue;
                    }
                    let mode = self.mode.clone();
                    let server = self.shared.server().unwrap_or(self.server);
                    tasks.spawn(connection::serve(client, server, mode, Arc::clone(&self.shared)));
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    fn reserve(&self) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        Ok(socket)
    }
}
