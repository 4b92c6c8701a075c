//! A real Redis cluster for one test.
//!
//! Waiting methods block the thread: a start takes about three seconds (a new primary waits two before it serves), a
//! failover about three node timeouts. In an asynchronous test run them with `tokio::task::spawn_blocking` when
//! something else has to go on meanwhile.

use std::{
    collections::BTreeMap,
    io, thread,
    time::{Duration, Instant},
};

use crate::{
    redis_server::{RedisServer, RedisServerBuilder, percent_encoded},
    tls::TlsFiles,
};

const SLOTS: usize = 16384;
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// After this long a node has forgotten that it was to become the primary.
const MANUAL_FAILOVER: Duration = Duration::from_secs(6);

/// Settings of a [`RedisCluster`].
#[derive(Debug, Clone)]
#[must_use = "call `start` to get the cluster"]
pub struct RedisClusterBuilder {
    primaries: usize,
    replicas: usize,
    node_timeout: Duration,
    password: Option<String>,
    tls: bool,
    server: RedisServerBuilder,
}

impl RedisClusterBuilder {
    /// How many primaries there are, three by default. Fewer than three cannot elect a new one.
    pub fn primaries(mut self, primaries: usize) -> Self {
        self.primaries = primaries;
        self
    }

    /// How many replicas each primary has, one by default.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// How long a node may be silent before the others call it failed, one second by default.
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = timeout;
        self
    }

    /// A password of every node.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.server = self.server.password(password).option("masterauth", password);
        self
    }

    /// TLS on every node, and between them. [`RedisCluster::url`] is for TLS then.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = true;
        self.server = self.server.tls(files).option("tls-cluster", "yes");
        self
    }

    /// Any option of `redis.conf`, for every node.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.server = self.server.option(name, value);
        self
    }

    /// Starts the nodes and waits until all serve all slots and the replicas follow.
    ///
    /// # Panics
    /// If there is no primary, or a node does not come up, or they do not agree within thirty seconds.
    #[must_use]
    pub fn start(self) -> RedisCluster {
        assert!(self.primaries > 0, "a cluster needs a primary");
        let server = self
            .server
            .cluster()
            .option("cluster-node-timeout", self.node_timeout.as_millis())
            .option("cluster-replica-validity-factor", 0)
            .option("cluster-allow-replica-migration", "no")
            .option("repl-diskless-sync-delay", 0);
        let count = self.primaries * (1 + self.replicas);
        let starting: Vec<_> = (0..count)
            .map(|_| {
                let server = server.clone();
                thread::spawn(move || server.start())
            })
            .collect();
        let nodes: Vec<RedisServer> =
            starting.into_iter().map(|node| node.join().expect("a node of the cluster starts")).collect();
        let ids = nodes.iter().map(|node| node.command(&["CLUSTER", "MYID"])).collect();
        let cluster = RedisCluster { nodes, ids, primaries: self.primaries, password: self.password, tls: self.tls };
        cluster.form();
        cluster
    }
}

/// A cluster of `redis-server` processes on 127.0.0.1, by default three primaries with one replica each.
///
/// Nodes are named by their index: the first primaries come first, then their replicas, in turns: with three primaries
/// node 3 is the replica of node 0. A failover changes roles, not indices. Dropping the value kills all.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
    primaries: usize,
    password: Option<String>,
    tls: bool,
}

/// What one node says about the slots: the ranges of each primary, by its id.
type Slots = BTreeMap<String, Vec<(usize, usize)>>;

impl RedisCluster {
    /// Starts a cluster with default settings.
    ///
    /// # Panics
    /// As [`RedisClusterBuilder::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A cluster with other settings.
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder {
            primaries: 3,
            replicas: 1,
            node_timeout: Duration::from_secs(1),
            password: None,
            tls: false,
            server: RedisServer::builder(),
        }
    }

    /// The node at this index.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    /// How many nodes there are, dead ones included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// `127.0.0.1:port` of every node.
    #[must_use]
    pub fn seeds(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.known_port())).collect()
    }

    /// `redis://` of every node, with the password if there is one.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// `redis-cluster://127.0.0.1:p1,127.0.0.1:p2,...`, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let user = self.password.as_ref().map(|password| format!(":{}@", percent_encoded(password)));
        let scheme = if self.tls { "rediss-cluster" } else { "redis-cluster" };
        format!("{scheme}://{}{}", user.unwrap_or_default(), self.seeds().join(","))
    }

    /// The slot of a key.
    ///
    /// # Panics
    /// If no node runs.
    #[must_use]
    pub fn slot_of(&self, key: &str) -> u16 {
        let node = self.running().next().expect("a node runs");
        self.nodes[node].command(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot is a number")
    }

    /// The running node that serves a key's slot as its primary.
    ///
    /// # Panics
    /// If none does.
    #[must_use]
    pub fn primary_of(&self, key: &str) -> usize {
        self.primary_of_slot(self.slot_of(key))
    }

    /// The running node that serves a slot as its primary.
    ///
    /// # Panics
    /// If none does.
    #[must_use]
    pub fn primary_of_slot(&self, slot: u16) -> usize {
        let slot = usize::from(slot);
        let serves = |node: &usize| {
            self.slots(*node)
                .ok()
                .and_then(|mut slots| slots.remove(&self.ids[*node]))
                .is_some_and(|own| own.iter().any(|&(first, last)| (first..=last).contains(&slot)))
        };
        self.running().find(serves).unwrap_or_else(|| panic!("no running node serves slot {slot}"))
    }

    /// A running replica of a primary.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn replica_of(&self, primary: usize) -> usize {
        let follows = |node: &usize| *node != primary && self.role(*node, "role:slave");
        self.group(primary).filter(follows).find(|node| self.nodes[*node].is_running()).expect("a replica runs")
    }

    /// Kills a node at once. Its file of the cluster stays for [`restart`](Self::restart).
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Stops a node from running, with its connections open.
    pub fn pause(&self, node: usize) {
        self.nodes[node].pause();
    }

    /// Lets a paused node run again.
    pub fn resume(&self, node: usize) {
        self.nodes[node].resume();
    }

    /// Starts a node again on its port, without data but with its place in the cluster.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].restart();
    }

    /// Waits until another node has taken the place of one that was killed or paused, and answers which.
    ///
    /// # Panics
    /// If that does not happen within thirty seconds.
    #[expect(clippy::must_use_candidate, reason = "often called to wait alone")]
    pub fn await_failover(&self, failed: usize) -> usize {
        let mut taken = None;
        poll("failover", || {
            taken = self.group(failed).find(|&node| node != failed && self.is_primary(node));
            Ok(taken.is_some() && self.is_settled()?)
        });
        taken.expect("the wait ended with a primary")
    }

    /// Makes a replica the primary in an orderly way (`CLUSTER FAILOVER`) and waits until all running nodes know.
    ///
    /// # Panics
    /// If the node is no replica, or that does not happen within thirty seconds.
    pub fn failover(&self, replica: usize) {
        let mut lapses: Option<Instant> = None;
        poll("manual failover", || {
            let is_primary = self.is_primary(replica);
            // A primary that does not know its new replica yet pays no heed to it.
            if !is_primary && lapses.is_none_or(|lapses| Instant::now() > lapses) {
                self.nodes[replica].command(&["CLUSTER", "FAILOVER"]);
                lapses = Some(Instant::now() + MANUAL_FAILOVER);
            }
            Ok(is_primary && self.is_settled()?)
        });
    }

    /// Waits until all running nodes say that the cluster is well, and the same about its slots.
    ///
    /// # Panics
    /// If that does not happen within thirty seconds.
    pub fn await_settled(&self) {
        poll("agreement of the nodes", || self.is_settled());
    }

    /// Starts to move a slot: from now on its old primary answers `ASK` for keys that it does not have.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn begin_migration(&self, slot: u16, to: usize) {
        let from = self.primary_of_slot(slot);
        let slot = slot.to_string();
        self.nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]);
        self.nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]);
    }

    /// Moves up to so many keys of a slot whose move was begun, and answers how many it moved.
    ///
    /// # Panics
    /// If a node refuses.
    #[expect(clippy::must_use_candidate, reason = "often run for its effect alone")]
    pub fn move_keys(&self, slot: u16, count: usize) -> usize {
        let (from, to) = (self.primary_of_slot(slot), self.target_of(slot));
        let keys = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &count.to_string()]);
        let keys: Vec<&str> = keys.lines().collect();
        if !keys.is_empty() {
            let port = self.nodes[to].known_port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000"];
            if let Some(password) = &self.password {
                migrate.extend(["AUTH", password]);
            }
            migrate.push("KEYS");
            migrate.extend(&keys);
            self.nodes[from].command(&migrate);
        }
        keys.len()
    }

    /// Ends a move: the new primary owns the slot, and all running nodes know. Keys must have been moved before.
    ///
    /// # Panics
    /// If a node refuses, as the old primary does while it has keys of the slot.
    pub fn finish_migration(&self, slot: u16) {
        let (from, to) = (self.primary_of_slot(slot), self.target_of(slot));
        for node in [to, from] {
            self.nodes[node].command(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &self.ids[to]]);
        }
        self.await_settled();
    }

    /// Where a slot goes whose move was begun.
    fn target_of(&self, slot: u16) -> usize {
        let begin = format!("[{slot}->-");
        let view = self.nodes[self.primary_of_slot(slot)].command(&["CLUSTER", "NODES"]);
        let id = view.split_whitespace().find_map(|word| word.strip_prefix(&begin)?.strip_suffix(']'));
        let id = id.unwrap_or_else(|| panic!("the move of slot {slot} was not begun"));
        self.ids.iter().position(|known| known == id).expect("a node of this cluster")
    }

    fn form(&self) {
        // A node that was met by another takes no epoch any more.
        for (index, node) in self.nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if index < self.primaries {
                let first = (index * SLOTS / self.primaries).to_string();
                let last = ((index + 1) * SLOTS / self.primaries - 1).to_string();
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
            for other in &self.nodes[index + 1..] {
                let (port, bus) = (other.known_port().to_string(), other.bus_port().to_string());
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        for replica in self.primaries..self.nodes.len() {
            let primary = &self.ids[replica % self.primaries];
            poll("meeting of the nodes", || {
                let view = self.nodes[replica].try_command(&["CLUSTER", "NODES"])?;
                Ok(view.lines().any(|line| line.starts_with(primary) && !line.contains("handshake")))
            });
            self.nodes[replica].command(&["CLUSTER", "REPLICATE", primary]);
        }
        let linked = |node| self.role(node, "master_link_status:up");
        poll("the cluster", || Ok((self.primaries..self.nodes.len()).all(linked) && self.is_settled()?));
    }

    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].is_running())
    }

    /// The nodes that have the same slots.
    fn group(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (node % self.primaries..self.nodes.len()).step_by(self.primaries)
    }

    fn role(&self, node: usize, line: &str) -> bool {
        self.nodes[node].is_running()
            && self.nodes[node].try_command(&["INFO", "replication"]).is_ok_and(|info| info.lines().any(|l| l == line))
    }

    fn is_primary(&self, node: usize) -> bool {
        self.role(node, "role:master")
    }

    fn slots(&self, node: usize) -> io::Result<Slots> {
        let mut slots = Slots::new();
        for line in self.nodes[node].try_command(&["CLUSTER", "NODES"])?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let ranges = words.iter().skip(8).filter(|word| !word.starts_with('['));
            for range in ranges {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let range = (number(first)?, number(last)?);
                slots.entry(words[0].to_owned()).or_default().push(range);
            }
        }
        Ok(slots)
    }

    fn is_settled(&self) -> io::Result<bool> {
        let mut agreed = None;
        for node in self.running() {
            let well = self.nodes[node].try_command(&["CLUSTER", "INFO"])?.contains("cluster_state:ok");
            let slots = self.slots(node)?;
            let count: usize = slots.values().flatten().map(|(first, last)| last - first + 1).sum();
            let served = |id: &String| self.running().any(|other| self.ids[other] == *id);
            let same = *agreed.get_or_insert_with(|| slots.clone()) == slots;
            if !(well && same && count == SLOTS && slots.keys().all(served)) {
                return Ok(false);
            }
        }
        Ok(agreed.is_some())
    }
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?}: {error}")))
}

/// Asks the servers' state until it is as wanted.
pub(crate) fn poll(what: &str, mut reached: impl FnMut() -> io::Result<bool>) {
    let deadline = Instant::now() + DEADLINE;
    while !reached().unwrap_or_else(|error| panic!("{what}: {error}")) {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::sleep(POLL);
    }
}
