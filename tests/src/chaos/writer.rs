//! The writers: they change the truth, and tell the cache.

use std::sync::{Arc, atomic::Ordering};

use larder::{SetOutcome, Status};
use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use super::{
    Sabotage, Scenario,
    load::{pause, rng},
    promises,
    truth::{GROUP, ITEMS, KEPT_FROM_WRITERS, Reading},
    world::{World, path, tag},
};

/// Changes until the writers are to end, one at a time. Writers of two processes change items of different groups, so that
/// each knows the order of what it has written.
pub(super) async fn write(world: Arc<World>, process: usize) {
    let mut rng = rng(world.settings.seed, u64::MAX - process as u64);
    let writers = (0..world.processes.len()).filter(|process| !world.scenario.is_bystander(*process)).count();
    let (writers, own) = (u32::try_from(writers).unwrap_or(1), u32::try_from(process).unwrap_or(0));
    let kept = |group: &u32| world.scenario == Scenario::SetInSocketBuffer && KEPT_FROM_WRITERS.contains(group);
    let groups: Vec<u32> = (0..ITEMS / GROUP).filter(|group| group % writers == own && !kept(group)).collect();
    while !world.writers_end.load(Ordering::Relaxed) {
        {
            let _may_write = world.writing.read().await;
            let group = groups[rng.random_range(0..groups.len())];
            change(&world, process, group, &mut rng).await;
        }
        tokio::time::sleep(pause(&mut rng, world.settings.change)).await;
    }
}

/// Most changes are of one item, some of a whole group; some new values are written into the cache.
async fn change(world: &Arc<World>, process: usize, group: u32, rng: &mut Pcg64Mcg) {
    let item = group * GROUP + rng.random_range(0..GROUP);
    match rng.random_range(0..20) {
        0..=1 => {
            let items = (group * GROUP..(group + 1) * GROUP).map(|item| (item, world.truth.change(item))).collect();
            invalidate(world, process, Target::Group(group), items).await;
        }
        2..=4 => {
            let version = world.truth.change(item);
            if set(world, process, item, version).await {
                promises::keep(world, process, &[(item, version)], Status::Done);
            } else {
                // What becomes of it is not known. An application that changes on removes the key.
                invalidate(world, process, Target::Item(item), vec![(item, version)]).await;
            }
        }
        _ => {
            let version = world.truth.change(item);
            invalidate(world, process, Target::Item(item), vec![(item, version)]).await;
        }
    }
}

/// Writes a value into the cache; answers whether it is known to be there.
async fn set(world: &World, process: usize, item: u32, version: u64) -> bool {
    let region = world.processes[process].region(item);
    region.try_set(&item, Reading::new(item, version)).tag(tag(item / GROUP)).await.is_ok_and(SetOutcome::is_stored)
}

/// What an invalidation names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Item(u32),
    Group(u32),
}

/// Invalidates, and from then on holds the cache to it.
pub(super) async fn invalidate(world: &Arc<World>, process: usize, target: Target, changed: Vec<(u32, u64)>) {
    let changes = world.tally.changes.fetch_add(1, Ordering::Relaxed);
    if world.settings.sabotage == Sabotage::InvalidationsForgotten && changes % 10 == 9 {
        promises::keep(world, process, &changed, Status::Done);
        return;
    }
    let invalidation = world.processes[process].cache.invalidate();
    let answer = match target {
        Target::Item(item) => invalidation.key(path(item)).await,
        Target::Group(group) => invalidation.tag(tag(group)).await,
    };
    match answer {
        Ok(invalidated) => {
            if invalidated.status != Status::Done {
                world.tally.deferred.fetch_add(1, Ordering::Relaxed);
            }
            promises::keep(world, process, &changed, invalidated.status);
        }
        Err(error) => world.tally.error(format!("invalidation: {}", error.kind())),
    }
}
