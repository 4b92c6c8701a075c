//! What the connections of a backend are doing.

use larder_core::Error;

/// The connections of a backend now, and what happened to them so far.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedisState {
    /// Every server that this backend has spoken to and still means to.
    pub nodes: Vec<NodeState>,
    /// Calls that wait for an answer now.
    pub in_flight: usize,
    /// Calls that were refused so far because `max_in_flight` others waited.
    pub overloaded: u64,
}

impl RedisState {
    /// Sockets that are open and nobody has found fault with, to all servers.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.nodes.iter().map(|node| node.connected).sum()
    }

    /// How many sockets there may be to the servers that are known.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.nodes.iter().map(|node| node.sockets).sum()
    }

    /// Sockets that were opened so far; what exceeds [`sockets`](Self::sockets) were replacements.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.nodes.iter().map(|node| node.opened).sum()
    }
}

/// The connections to one server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeState {
    /// Where it is; behind sentinels the name of the service.
    pub address: String,
    /// How many sockets there may be.
    pub sockets: usize,
    /// How many are open and nobody has found fault with them.
    pub connected: usize,
    /// Sockets that were opened so far.
    pub opened: u64,
    /// Attempts to open one that failed.
    pub failed: u64,
    /// Sockets that were replaced because they broke or did not prove themselves.
    pub broken: u64,
    /// Sockets that were replaced because they had lived for `max_lifetime`.
    pub retired: u64,
    /// Sockets that were given up because a value had been sent on them and was not answered, and that the server then
    /// was made to end before anything else was sent.
    pub killed: u64,
    /// How often that was needed, and the user's rights did not allow it: such a value may have come after a later removal.
    pub unkilled: u64,
    /// Why the last attempt to connect failed, or its server was not the one that it should be, if there was no success
    /// since.
    pub last_error: Option<Error>,
}
