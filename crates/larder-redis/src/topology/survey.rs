//! Which primary holds which slots of a cluster, and which slots are on their way.

use std::sync::Arc;

use futures_util::future::try_join_all;
use larder_core::Result;

use crate::{error, node::Node, reply, socket::Request};

const OPERATION: &str = "cluster_nodes";

/// A cluster at rest looks the same before and after.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) primaries: Vec<Arc<Node>>,
    /// What each primary says of its own slots, in the order of their names.
    pub(crate) layout: Vec<String>,
    /// Some slot is on its way from one primary to another.
    pub(crate) is_moving: bool,
}

impl Survey {
    /// Of servers that have no slots.
    pub(super) fn unmoving(primaries: Vec<Arc<Node>>) -> Self {
        Self { primaries, layout: Vec::new(), is_moving: false }
    }

    pub(super) async fn of(primaries: Vec<Arc<Node>>) -> Result<Self> {
        let mut layout = try_join_all(primaries.iter().map(own_slots)).await?;
        layout.sort();
        // An open slot is written as `[slot->-node]` by the one that gives it, and `[slot-<-node]` by the one that takes.
        let is_moving = layout.iter().any(|slots| slots.contains('['));
        Ok(Self { primaries, layout, is_moving })
    }
}

/// The node's own line of CLUSTER NODES: only there are its open slots. Its name and what follows its link state; the
/// rest changes without any slot having moved.
async fn own_slots(node: &Arc<Node>) -> Result<String> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("NODES");
    let answer = reply::bytes(OPERATION, node.ask(OPERATION, Request::Command(&command)).await?)?;
    let text = String::from_utf8_lossy(answer.as_deref().unwrap_or_default()).into_owned();
    slots_of_myself(&text).ok_or_else(|| error::unexpected(OPERATION, "a list of nodes with the one that answers"))
}

fn slots_of_myself(nodes: &str) -> Option<String> {
    let own = nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")))?;
    let mut fields = own.split(' ');
    let name = fields.next()?;
    Some([name].into_iter().chain(fields.skip(7)).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_own_slots_count() {
        let nodes = "aa 127.0.0.1:1@2,,shard-id=x master - 0 1 1 connected 0-99\n\
            bb 127.0.0.1:3@4 myself,master - 0 17 2 connected 100-200 205 [93->-aa] [77-<-aa]\n";
        assert_eq!(slots_of_myself(nodes).as_deref(), Some("bb 100-200 205 [93->-aa] [77-<-aa]"));
        assert_eq!(slots_of_myself("aa 127.0.0.1:1@2 master - 0 1 1 connected 0-99\n"), None);
    }
}
