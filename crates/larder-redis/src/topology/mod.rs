//! Which server a command goes to: the only one, the primary that sentinels name, or the owner of the key's slot.
//!
//! Every command is about one key or about a server, so that nothing here ever has to split a command. In a cluster a
//! command may be sent again only after the server has *refused* it (MOVED, ASK, TRYAGAIN, CLUSTERDOWN), or where nothing
//! was sent; the client library's own cluster client repeats commands after a broken connection, and therefore is not
//! used (`docs/architecture.md`).

mod cluster;
mod keeper;
mod locator;
mod redirect;
mod sentinel;
mod slot_map;
mod survey;

use std::sync::{Arc, Once};

use larder_core::{Key, Result, SystemClock, UnixMillis};
use redis::{RedisError, RedisResult, Value};
use tokio::sync::watch;

pub(crate) use self::{
    cluster::{Cluster, MOST_HOPS, PAUSE},
    locator::Locator,
    redirect::Redirect,
    slot_map::slot_of,
    survey::Survey,
};
use self::{locator::Role, sentinel::Sentinels};
use crate::{
    RedisConfig, RedisState,
    config::Place,
    error,
    lineage::Guards,
    manager::Manager,
    node::{Common, Load, Node, socket_of},
    own_writes::OwnWrites,
    socket::{Effect, Request},
};

/// The servers of a backend.
#[derive(Debug)]
pub(crate) struct Servers {
    common: Arc<Common>,
    kind: Kind,
    own_writes: OwnWrites,
    /// Grows when what was known of the servers has become wrong: links to them should be opened anew.
    changes: Arc<watch::Sender<u64>>,
    keeper: Once,
}

#[derive(Debug)]
enum Kind {
    One(Arc<Node>),
    Sentinel { sentinels: Arc<Sentinels>, primary: Arc<Node>, replica: Arc<Node> },
    Cluster(Arc<Cluster>),
}

/// One request's circumstances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) key: &'a str,
    pub(crate) effect: Effect,
    /// A read that a replica may answer.
    pub(crate) replica: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn write(operation: &'static str, key: &'a str) -> Self {
        Self { operation, key, effect: Effect::Change, replica: false }
    }

    pub(crate) fn read(operation: &'static str, key: &'a str) -> Self {
        Self { operation, key, effect: Effect::Read, replica: false }
    }
}

/// A node and one of its sockets.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) node: Arc<Node>,
    pub(crate) socket: usize,
}

impl Route {
    pub(crate) fn of(node: Arc<Node>, key: &str) -> Self {
        let socket = node.socket_of(key);
        Self { node, socket }
    }

    /// Where a refusal of this node sends the caller.
    pub(crate) fn redirect(&self, value: &Value) -> Option<Redirect> {
        Redirect::of_value(value, self.node.locator().address()?)
    }

    pub(crate) fn redirect_of_error(&self, error: &RedisError) -> Option<Redirect> {
        Redirect::of_error(error, self.node.locator().address()?)
    }

    /// Whether commands for both may go out together.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node) && self.socket == other.socket
    }
}

impl Servers {
    pub(crate) fn new(config: RedisConfig) -> Result<Arc<Self>> {
        let (config, clock) = (Arc::new(config), SystemClock::new());
        let common = Arc::new(Common { config, clock, load: Load::default(), guards: Guards::new() });
        let changes = Arc::new(watch::Sender::new(0));
        let node = |locator| Node::new(&common, locator);
        let kind = match &common.config.place {
            Place::Server(address) => Kind::One(node(Locator::Fixed(address.clone(), Role::Primary))),
            Place::Sentinel { sentinels, service } => {
                let sentinels = Arc::new(Sentinels::new(sentinels.clone(), service.clone()));
                let primary = node(Locator::Sentinel(Arc::clone(&sentinels), Role::Primary));
                let replica = node(Locator::Sentinel(Arc::clone(&sentinels), Role::Replica));
                Kind::Sentinel { sentinels, primary, replica }
            }
            Place::Cluster { seeds } => Kind::Cluster(Cluster::new(&common, seeds.clone())),
        };
        let servers = Self { common, kind, own_writes: OwnWrites::new(clock), changes, keeper: Once::new() };
        servers.check_settings()?;
        let servers = Arc::new(servers);
        servers.guards().belong_to(Arc::downgrade(&servers));
        Ok(servers)
    }

    /// What only the client library can refuse, such as certificates, before anything is connected.
    fn check_settings(&self) -> Result<()> {
        #[cfg(feature = "tls")]
        if self.config().tls.is_some() {
            crate::dial::dial_sentinel(self.config(), &crate::config::Address::tcp("localhost", 1))?;
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> &Arc<RedisConfig> {
        &self.common.config
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.common.guards
    }

    pub(crate) fn own_writes(&self) -> &OwnWrites {
        &self.own_writes
    }

    /// Every connection is vetted again before it carries anything about keys.
    pub(crate) fn vet_all(&self) {
        self.nodes().iter().for_each(|node| node.manager().vet_again());
    }

    /// The primary that holds a key, as far as is known.
    pub(crate) fn owner_of(&self, key: &Key) -> Option<Arc<Node>> {
        match &self.kind {
            Kind::One(node) | Kind::Sentinel { primary: node, .. } => Some(Arc::clone(node)),
            Kind::Cluster(cluster) => cluster.owner_of(slot_of(key.as_str())),
        }
    }

    pub(crate) fn server_time(&self, key: &Key) -> Option<UnixMillis> {
        self.owner_of(key)?.manager().server_clock.now()
    }

    /// Where the run of a node is recorded, in none of these slots; `None` for a node of a cluster without slots.
    pub(crate) fn record_on(&self, manager: &Manager, record: &Key, not_in: &[u16]) -> Option<Key> {
        match &self.kind {
            Kind::One(_) | Kind::Sentinel { .. } => Some(record.clone()),
            Kind::Cluster(cluster) => cluster.record_on(manager, record, not_in),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match &self.kind {
            Kind::One(_) => "standalone",
            Kind::Sentinel { .. } => "sentinel",
            Kind::Cluster(_) => "cluster",
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// Keys with the same answer may be named in one transaction, and use the same socket.
    pub(crate) fn neighbourhood(&self, key: &str) -> (u16, usize) {
        (if self.is_cluster() { slot_of(key) } else { 0 }, socket_of(key, self.config().sockets))
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Every node that there may be connections to.
    fn nodes(&self) -> Vec<Arc<Node>> {
        match &self.kind {
            Kind::One(node) => vec![Arc::clone(node)],
            Kind::Sentinel { primary, replica, .. } => vec![Arc::clone(primary), Arc::clone(replica)],
            Kind::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// The nodes to which sockets are kept open without traffic. Not those of a cluster that were only asked where the
    /// others are.
    fn kept_open(&self) -> Vec<Arc<Node>> {
        match &self.kind {
            Kind::One(node) | Kind::Sentinel { primary: node, .. } => vec![Arc::clone(node)],
            Kind::Cluster(cluster) => cluster.known_primaries(),
        }
    }

    pub(crate) fn state(&self) -> RedisState {
        // A replica that was never asked is not a server of this backend.
        let is_used = |node: &Arc<Node>| node.locator().is_primary() || node.state().opened > 0;
        RedisState {
            nodes: self.nodes().iter().filter(|node| is_used(node)).map(|node| node.state()).collect(),
            in_flight: self.common.load.in_flight(),
            overloaded: self.common.load.refused(),
        }
    }

    /// Where commands of a key go, as far as is known.
    pub(crate) async fn route(self: &Arc<Self>, call: Call<'_>) -> Result<Route> {
        self.tend();
        match &self.kind {
            Kind::One(node) => Ok(Route::of(Arc::clone(node), call.key)),
            Kind::Sentinel { replica, .. } if call.replica => Ok(Route::of(Arc::clone(replica), call.key)),
            Kind::Sentinel { primary, .. } => Ok(Route::of(Arc::clone(primary), call.key)),
            Kind::Cluster(cluster) => Box::pin(cluster.route(call)).await,
        }
    }

    /// Sends a request about one key and waits for its answer. Errors within the answer are the caller's to find.
    pub(crate) async fn send(self: &Arc<Self>, call: Call<'_>, request: Request<'_>) -> Result<Value> {
        self.send_raw(call, request).await?.map_err(|error| error::from_redis(call.operation, error))
    }

    /// As `send`, with the library's error where something was sent.
    pub(crate) async fn send_raw(self: &Arc<Self>, call: Call<'_>, request: Request<'_>) -> Result<RedisResult<Value>> {
        if let Kind::Cluster(cluster) = &self.kind {
            self.tend();
            return Box::pin(cluster.send(call, request)).await;
        }
        let Route { node, socket } = self.route(call).await?;
        let answer = node.send(call.operation, socket, call.effect, request).await;
        match &self.kind {
            // No replica, or none that answers.
            Kind::Sentinel { primary, .. } if call.replica && !matches!(&answer, Ok(Ok(_))) => {
                let socket = primary.socket_of(call.key);
                Box::pin(primary.send(call.operation, socket, call.effect, request)).await
            }
            _ => answer,
        }
    }

    /// A batch found out that what is known of the cluster is wrong.
    pub(crate) fn learn(&self, redirect: &Redirect) -> Option<Arc<Node>> {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.learn(redirect),
            Kind::One(_) | Kind::Sentinel { .. } => None,
        }
    }

    /// A node failed. Answers whether something new was learnt from the others.
    pub(crate) async fn look_again(&self) -> bool {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.refresh().await,
            Kind::One(_) | Kind::Sentinel { .. } => false,
        }
    }

    /// Every primary, as the cluster sees itself now.
    pub(crate) async fn primaries(self: &Arc<Self>) -> Result<Vec<Arc<Node>>> {
        self.tend();
        match &self.kind {
            Kind::One(node) | Kind::Sentinel { primary: node, .. } => Ok(vec![Arc::clone(node)]),
            Kind::Cluster(cluster) => cluster.primaries().await,
        }
    }

    /// Every primary, with what a cluster says about its slots.
    pub(crate) async fn survey(self: &Arc<Self>) -> Result<Survey> {
        let primaries = self.primaries().await?;
        if self.is_cluster() { Survey::of(primaries).await } else { Ok(Survey::unmoving(primaries)) }
    }

    /// A server that carries pub/sub messages: in a cluster every node passes them on to all others.
    pub(crate) async fn messenger(self: &Arc<Self>) -> Result<Arc<Node>> {
        self.tend();
        match &self.kind {
            Kind::One(node) | Kind::Sentinel { primary: node, .. } => Ok(Arc::clone(node)),
            Kind::Cluster(cluster) => cluster.any_primary().await,
        }
    }

    /// Whether these are the servers that have the keys, as far as is known.
    pub(crate) fn are(&self, nodes: &[Arc<Node>]) -> bool {
        let known = self.kept_open();
        known.len() == nodes.len() && known.iter().all(|node| nodes.iter().any(|it| Arc::ptr_eq(it, node)))
    }

    /// Whether data is asked for on this node, and its connections lead to this run, as far as either is known.
    pub(crate) fn have(&self, node: &Arc<Node>, run: Option<&Arc<str>>) -> bool {
        let is_same = match (node.manager().run(), run) {
            (Some(known), Some(run)) => known == *run,
            _ => true,
        };
        is_same && self.kept_open().iter().any(|known| Arc::ptr_eq(known, node))
    }

    /// Starts what runs beside the calls, once, as soon as there is a runtime.
    fn tend(self: &Arc<Self>) {
        if !self.keeper.is_completed() {
            self.keeper.call_once(|| keeper::start(self));
        }
    }
}
