//! What runs beside the calls: sockets that are kept open or closed, and word of a failover. Ends with the backend.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{runtime::Handle, time::sleep};

use super::{Kind, Servers, cluster::ROUTINE};
use crate::node::{Node, TENDING};

/// How soon the sentinels are asked again after the link to one of them was lost.
const PAUSE: Duration = Duration::from_millis(100);

async fn tend(node: &Arc<Node>, kept: usize) {
    node.tend(kept).await;
    node.measure().await;
}

pub(super) fn start(servers: &Arc<Servers>) {
    // Calls need a runtime too, so that there is one; it may end before the backend, whose sockets then look after
    // themselves when they are used.
    let Ok(runtime) = Handle::try_current() else { return };
    let weak = Arc::downgrade(servers);
    drop(runtime.spawn(async move {
        loop {
            sleep(TENDING).await;
            let Some(servers) = weak.upgrade() else { return };
            let kept = servers.kept_open();
            let sockets =
                |node| if kept.iter().any(|it| Arc::ptr_eq(it, node)) { servers.config().min_sockets } else { 0 };
            join_all(servers.nodes().iter().map(|node| tend(node, sockets(node)))).await;
        }
    }));
    if let Kind::Cluster(cluster) = &servers.kind {
        let weak = Arc::downgrade(cluster);
        drop(runtime.spawn(async move {
            loop {
                sleep(ROUTINE).await;
                let Some(cluster) = weak.upgrade() else { return };
                cluster.refresh().await;
            }
        }));
    }
    if let Kind::Sentinel { .. } = &servers.kind {
        let weak = Arc::downgrade(servers);
        drop(runtime.spawn(async move {
            loop {
                let Some(servers) = weak.upgrade() else { return };
                let Kind::Sentinel { sentinels, primary, replica } = &servers.kind else { return };
                let (sentinels, config) = (Arc::clone(sentinels), Arc::clone(servers.config()));
                let nodes = [Arc::clone(primary), Arc::clone(replica)];
                let changes = Arc::clone(&servers.changes);
                // The backend may go away while its sentinels are listened to.
                drop(servers);
                let gone = async {
                    while weak.strong_count() > 0 {
                        sleep(TENDING).await;
                    }
                };
                let switched = || {
                    nodes.iter().for_each(|node| node.renounce());
                    changes.send_modify(|change| *change += 1);
                };
                tokio::select! {
                    () = gone => return,
                    () = sentinels.watch(&config, switched) => {}
                }
                sleep(PAUSE).await;
            }
        }));
    }
}
