//! When which process is held to an invalidation.
//!
//! The process that asked for it: as soon as it is answered. Another one, where there are two:
//!
//! - if it was `Done`, [`HEARD`] later, once that process has trusted its bus for as long: by then the message was handled,
//!   or the link is known to be dead. Whether or not it trusts its bus, [`HEARD`] and the outage TTL later.
//! - if it was `Deferred`, all that begins when the process that asked for it has replayed its journal.

use std::{sync::Arc, time::Duration};

use larder::Status;

use super::world::{OUTAGE_TTL, World};

/// How long it may take until a message is handled or the loss of its link noticed: the link is asked for a sign of life
/// every second, and taken for dead after about two.
pub(super) const HEARD: Duration = Duration::from_secs(3);

/// How often it is looked at whether a promise is due.
const LOOK: Duration = Duration::from_millis(20);

/// Notes that these versions are promised by an answer that has just come.
pub(super) fn keep(world: &Arc<World>, process: usize, changed: &[(u32, u64)], status: Status) {
    for (item, version) in changed {
        world.truth.promise(process, *item, *version);
    }
    for other in (0..world.processes.len()).filter(|other| *other != process) {
        // Ends by itself; what is not due at the end of a run is promised then.
        drop(tokio::spawn(pass_on(Arc::clone(world), (process, other), changed.to_vec(), status)));
    }
}

async fn pass_on(world: Arc<World>, (owner, other): (usize, usize), changed: Vec<(u32, u64)>, status: Status) {
    let answered = world.now();
    let mut done = (status == Status::Done).then_some(answered);
    loop {
        if done.is_none() && world.processes[owner].watched.drained_at().is_some_and(|at| at > answered) {
            done = Some(world.now());
        }
        if let Some(done) = done {
            let trusted = world.processes[other].watched.trusted_since();
            let now = world.now();
            let heard = trusted.is_some_and(|since| now >= since.max(done) + HEARD);
            if heard || now >= done + HEARD + OUTAGE_TTL {
                break;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    for (item, version) in changed {
        world.truth.promise(other, item, version);
    }
}
