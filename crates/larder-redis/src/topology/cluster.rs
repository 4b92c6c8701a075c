//! A cluster: who owns a key's slot, and what to do when that has changed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use larder_core::{Clock, Error, ErrorKind, Key, Result, Tick};
use parking_lot::{Mutex, RwLock};
use redis::{Pipeline, RedisResult, Value};
use tokio::{runtime::Handle, sync::Mutex as Turn, time::sleep};

use super::{
    Call, Locator, Redirect, Route,
    locator::Role,
    slot_map::{Layout, SlotMap, slot_of},
};
use crate::{
    config::Address,
    error,
    lineage::record_in,
    manager::Manager,
    node::{Common, Node},
    reply,
    socket::Request,
};

/// How often one command may be sent on before its last answer is the answer.
pub(crate) const MOST_HOPS: usize = 6;

/// How long to wait where a slot is between two nodes.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// The nodes are not asked for the layout again within this time.
const LEAST_AGE: Duration = Duration::from_millis(50);

/// Nor, for the sake of a replica, within this.
const REPLICAS_AGE: Duration = Duration::from_secs(1);

/// How often the nodes are asked though nothing seems wrong: replicas come and go unnoticed.
pub(super) const ROUTINE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Cluster {
    common: Arc<Common>,
    seeds: Vec<Address>,
    nodes: Mutex<HashMap<(Address, bool), Arc<Node>>>,
    map: RwLock<Option<Arc<SlotMap>>>,
    /// Held by who asks the nodes, with what came of it last time.
    turn: Turn<Option<Asked>>,
}

/// When the nodes were asked for the layout, and why none of them told.
#[derive(Debug)]
struct Asked {
    at: Tick,
    failure: Option<Error>,
}

impl Cluster {
    pub(super) fn new(common: &Arc<Common>, seeds: Vec<Address>) -> Arc<Self> {
        Arc::new(Self {
            common: Arc::clone(common),
            seeds,
            nodes: Mutex::default(),
            map: RwLock::default(),
            turn: Turn::default(),
        })
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().values().cloned().collect()
    }

    fn node(&self, address: &Address, is_primary: bool) -> Arc<Node> {
        let mut nodes = self.nodes.lock();
        let node = nodes.entry((address.clone(), is_primary)).or_insert_with(|| {
            let role = if is_primary { Role::Primary } else { Role::Replica };
            Node::new(&self.common, Locator::Fixed(address.clone(), role))
        });
        Arc::clone(node)
    }

    /// The map, which the first caller fetches.
    async fn map(&self) -> Result<Arc<SlotMap>> {
        if let Some(map) = &*self.map.read() {
            return Ok(Arc::clone(map));
        }
        self.fetch(None).await?;
        let map = self.map.read().clone();
        map.ok_or_else(|| error::unexpected("cluster_slots", "the layout of a cluster"))
    }

    pub(super) async fn route(self: &Arc<Self>, call: Call<'_>) -> Result<Route> {
        let (map, slot) = (self.map().await?, slot_of(call.key));
        let replica = if call.replica { map.replica(slot) } else { None };
        if call.replica && replica.is_none() {
            // There may be one by now: a new replica is not listed until it has caught up.
            self.suspect_after(REPLICAS_AGE);
        }
        match replica.or_else(|| map.primary(slot)) {
            Some(node) => Ok(Route::of(Arc::clone(node), call.key)),
            None => Err(unserved(call.operation, slot)),
        }
    }

    /// Sends a command, and sends it on where it was refused.
    pub(super) async fn send(self: &Arc<Self>, mut call: Call<'_>, request: Request<'_>) -> Result<RedisResult<Value>> {
        let until = self.common.clock.now_precise() + self.common.config.command_deadline;
        let (mut asked, mut looked_again) = (None, false);
        for hop in 1.. {
            let asking = asked.is_some();
            let route = match asked.take() {
                Some(node) => Route::of(node, call.key),
                None => self.route(call).await?,
            };
            let answer = send_to(&route, call, request, asking).await;
            let Some(redirect) = redirect_of(&answer, &route) else {
                let was_lost = is_lost(&answer);
                if was_lost {
                    self.suspect();
                }
                // A read that no replica answered goes to the primary; what was not sent goes to a new owner, if any.
                let may_repeat = answer.is_err() || call.effect.is_repeatable();
                if was_lost && call.replica {
                    call.replica = false;
                    continue;
                }
                if was_lost && may_repeat && !looked_again {
                    looked_again = true;
                    if self.refresh().await && !self.route(call).await?.is_same(&route) {
                        continue;
                    }
                }
                return answer;
            };
            if hop >= MOST_HOPS || self.common.clock.now_precise() >= until {
                return answer;
            }
            asked = self.learn(&redirect).filter(|_| matches!(redirect, Redirect::Ask { .. }));
            if redirect == Redirect::Later {
                sleep(PAUSE).await;
                self.refresh().await;
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Takes note of a redirection; answers the node that it names.
    pub(super) fn learn(self: &Arc<Self>, redirect: &Redirect) -> Option<Arc<Node>> {
        match redirect {
            Redirect::Moved { slot, address } => {
                let owner = self.node(address, true);
                let mut map = self.map.write();
                if let Some(known) = map.as_ref() {
                    if !known.primaries().any(|node| Arc::ptr_eq(node, &owner)) {
                        owner.manager().enter_office(true);
                    }
                    *map = Some(Arc::new(known.with_moved(*slot, Arc::clone(&owner))));
                }
                drop(map);
                // One slot that moved is seldom the only one.
                self.suspect();
                Some(owner)
            }
            Redirect::Ask { address } => Some(self.node(address, true)),
            Redirect::Later => None,
        }
    }

    /// What is known may be wrong: the nodes are asked in the background.
    fn suspect(self: &Arc<Self>) {
        self.suspect_after(LEAST_AGE);
    }

    /// The same, unless it was asked for within this time.
    fn suspect_after(self: &Arc<Self>, age: Duration) {
        let is_recent = |last: &Asked| self.common.clock.now_precise().since(last.at) < age;
        match self.turn.try_lock() {
            Ok(last) if !last.as_ref().is_some_and(is_recent) => {}
            _ => return,
        }
        if let Ok(runtime) = Handle::try_current() {
            let cluster = Arc::clone(self);
            drop(runtime.spawn(async move { cluster.refresh().await }));
        }
    }

    /// Asks the nodes for the layout; answers whether it is another one than before the call. Callers at the same time
    /// share one answer.
    pub(super) async fn refresh(&self) -> bool {
        let before = self.map.read().clone();
        // What went wrong is told by the call that needs the layout.
        drop(self.fetch(before.as_ref()).await);
        let now = self.map.read().clone();
        match (before, now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(&before, &now),
            (before, now) => before.is_some() != now.is_some(),
        }
    }

    async fn fetch(&self, known: Option<&Arc<SlotMap>>) -> Result<()> {
        let arrived = self.common.clock.now_precise();
        let mut turn = self.turn.lock().await;
        let current = self.map.read().clone();
        let changed = match (known, &current) {
            (Some(known), Some(current)) => !Arc::ptr_eq(known, current),
            (None, current) => current.is_some(),
            (Some(_), None) => false,
        };
        if changed {
            return Ok(());
        }
        // Who waited for another's question takes its answer, so that callers never wait for one another in a row.
        if let Some(last) = turn.as_ref().filter(|last| last.at + LEAST_AGE > arrived) {
            return last.failure.clone().map_or(Ok(()), Err);
        }
        let layout = self.ask_for_layout(current.as_ref().map_or(0, |map| map.layout.epoch)).await;
        *turn = Some(Asked { at: self.common.clock.now_precise(), failure: layout.as_ref().err().cloned() });
        self.install(layout?);
        Ok(())
    }

    fn install(&self, layout: Layout) {
        let current = self.map.read().clone();
        let map = SlotMap::new(layout, |address, is_primary| self.node(address, is_primary));
        // The owners too: a redirection may have changed them since.
        if current.as_ref().is_some_and(|current| current.has_owners_of(&map)) {
            return;
        }
        let named: Vec<_> = map.layout.addresses().collect();
        self.nodes.lock().retain(|key, _| named.contains(key) || self.seeds.contains(&key.0));
        drop(named);
        let mut known = self.map.write();
        // Before anything can be sent there: what its connections were vetted as, if at all, was no primary.
        for node in map.primaries() {
            let served = |known: &Arc<SlotMap>| known.primaries().any(|it| Arc::ptr_eq(it, node));
            if !known.as_ref().is_some_and(served) {
                node.manager().enter_office(known.is_some());
            }
        }
        *known = Some(Arc::new(map));
        drop(known);
        self.common.guards.runs_changed();
    }

    pub(super) fn owner_of(&self, slot: u16) -> Option<Arc<Node>> {
        self.map.read().as_ref()?.primary(slot).cloned()
    }

    pub(super) fn record_on(&self, manager: &Manager, record: &Key, not_in: &[u16]) -> Option<Key> {
        let map = self.map.read().clone()?;
        let is_this = |node: &Arc<Node>| std::ptr::eq(Arc::as_ptr(node.manager()), manager);
        // Few have no slots; they would be searched for through all of them.
        map.primaries().find(|node| is_this(node))?;
        record_in(record, |slot| !not_in.contains(&slot) && map.primary(slot).is_some_and(is_this))
    }

    /// Asks all nodes at once and takes the first layout that is good: from a node that is in touch with the majority,
    /// and not older than the one that is known. A node that was cut off tells neither.
    async fn ask_for_layout(&self, epoch: u64) -> Result<Layout> {
        let mut nodes = self.nodes();
        nodes.extend(self.seeds.iter().map(|address| self.node(address, true)));
        nodes.sort_by_key(|node| Arc::as_ptr(node).addr());
        nodes.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let mut answers: FuturesUnordered<_> = nodes.iter().map(layout_of).collect();
        let mut last = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok((true, layout)) if layout.epoch >= epoch => return Ok(layout),
                Ok(_) => {
                    let message = "the cluster is down, or the nodes that answer were cut off from it; try again later";
                    last = Some(Error::new(ErrorKind::Unavailable, "cluster_slots", message));
                }
                Err(error) if last.is_none() => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last.unwrap_or_else(|| Error::config("cluster", "the list of nodes is empty")))
    }

    /// Every primary that owns slots, as far as is known.
    pub(super) fn known_primaries(&self) -> Vec<Arc<Node>> {
        self.map.read().as_ref().map_or_else(Vec::new, |map| map.primaries().cloned().collect())
    }

    /// Every primary that owns slots, asked for anew.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        self.refresh().await;
        Ok(self.map().await?.primaries().cloned().collect())
    }

    /// For a link that any node can carry.
    pub(super) async fn any_primary(&self) -> Result<Arc<Node>> {
        let map = self.map().await?;
        // One that is connected is more likely to be there.
        let connected: Vec<_> = map.primaries().filter(|node| node.state().connected > 0).collect();
        let all: Vec<_> = map.primaries().collect();
        let chosen = fastrand::choice(if connected.is_empty() { all } else { connected });
        chosen.cloned().ok_or_else(|| error::unexpected("cluster_slots", "a layout with nodes"))
    }
}

fn unserved(operation: &'static str, slot: u16) -> Error {
    let message = format!("no node of the cluster serves slot {slot}; assign it, or wait for the failover");
    Error::new(ErrorKind::Unavailable, operation, message)
}

async fn layout_of(node: &Arc<Node>) -> Result<(bool, Layout)> {
    let operation = "cluster_slots";
    let missing = || error::unexpected(operation, "that of a node with an address");
    let origin = node.locator().address().ok_or_else(missing)?;
    let mut pipeline = Pipeline::new();
    pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let answers = reply::array(operation, node.ask(operation, Request::Pipeline(&pipeline)).await?)?;
    let [info, slots] = <[Value; 2]>::try_from(answers).map_err(|_| error::unexpected(operation, "two answers"))?;
    let info = reply::bytes(operation, info)?.unwrap_or_default();
    let info = String::from_utf8_lossy(&info);
    let field = |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let layout = Layout::parse(epoch, &reply::checked(operation, slots)?, origin);
    Ok((field("cluster_state") == Some("ok") && !layout.ranges.is_empty(), layout))
}

async fn send_to(route: &Route, call: Call<'_>, request: Request<'_>, asking: bool) -> Result<RedisResult<Value>> {
    let Route { node, socket } = route;
    if !asking {
        return node.send(call.operation, *socket, call.effect, request).await;
    }
    let pipeline = request.with_asking();
    let answer = node.send(call.operation, *socket, call.effect, Request::Pipeline(&pipeline)).await?;
    // The answer to the last command is the one that was asked for.
    Ok(answer.map(|answers| match answers {
        Value::Array(mut answers) => answers.pop().unwrap_or(Value::Nil),
        other => other,
    }))
}

fn redirect_of(answer: &Result<RedisResult<Value>>, route: &Route) -> Option<Redirect> {
    match answer {
        Ok(Ok(value)) => route.redirect(value),
        Ok(Err(error)) => route.redirect_of_error(error),
        Err(_) => None,
    }
}

/// Whether the node did not answer.
fn is_lost(answer: &Result<RedisResult<Value>>) -> bool {
    match answer {
        Ok(Ok(_)) => false,
        Ok(Err(error)) => error.is_timeout() || error::is_broken_link(error),
        Err(error) => error.kind() == ErrorKind::Unavailable,
    }
}
