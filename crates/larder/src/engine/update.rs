//! A change of the source with its invalidation around it: hold, change, invalidate.
//!
//! What it closes: an invalidation alone leaves the time between the source's commit and the removal, in which readers
//! may still store what they loaded before, and a process that dies there leaves old values for a whole TTL. Under a hold
//! nobody stores, and a hold whose writer died expires into a miss.
//!
//! 1. Everything is fenced and dropped in this process.
//! 2. Keys and tag markers are held, all at the same time. What does not answer is not waited for.
//! 3. Everything is fenced again (somebody may have fetched an old value before the hold stood), the other processes are
//!    told to drop theirs, and loads whose loaders name their tags afterwards are barred by removing the marker that goes
//!    with every tag's.
//! 4. The source is changed; the holds are renewed meanwhile.
//! 5. The holds are left, this process fences again, and the others are told. What was not certainly held all the time,
//!    and everything while the remote tier is away, goes the way of an ordinary invalidation, and so into the journal.

use std::{convert::Infallible, sync::Arc};

use futures_util::future::{join, join_all};
use larder_core::{Invalidated, Key, Result, Tag, Target};

use super::{
    Engine, Remote,
    bulk::tally,
    hold::{HOLD_LIFE, Hold},
};

/// An update under way. Dropped before its end, the fences are raised at once and the rest is done in the background.
#[derive(Debug)]
pub(crate) struct Update {
    engine: Arc<Engine>,
    keys: Vec<Key>,
    tags: Vec<Tag>,
    /// Of the keys, then of the tags, in their order; none without a remote tier.
    holds: Vec<Hold>,
    near: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The caller sees to the end.
    Open,
    /// The caller went away, and a task of its own does.
    Background,
    Ended,
}

impl Update {
    /// Holds keys and tags. Faults of the remote tier are counted and keep nobody from changing the source.
    pub(crate) async fn begin(engine: &Arc<Engine>, keys: Vec<Key>, tags: Vec<Tag>) -> Self {
        let writer = fastrand::u64(..);
        let mut update =
            Self { engine: Arc::clone(engine), keys, tags, holds: Vec::new(), near: 0, stage: Stage::Open };
        update.near = update.fence();
        let Some(remote) = &engine.remote else { return update };
        let markers = update.tags.iter().map(|tag| tag.marker(&engine.prefix));
        update.holds = update.keys.iter().cloned().chain(markers).map(|key| Hold::new(key, writer)).collect();
        hold_all(engine, remote, &mut update.holds).await;
        update.near += update.fence();
        join(update.announce(), update.bar_late_tags(remote)).await;
        update
    }

    /// Renews the holds for as long as it is polled.
    pub(crate) async fn renew_for_ever(&mut self) -> Infallible {
        let engine = Arc::clone(&self.engine);
        let Some(remote) = &engine.remote else { return std::future::pending().await };
        loop {
            engine.timer.sleep(HOLD_LIFE / 3).await;
            hold_all(&engine, remote, &mut self.holds).await;
        }
    }

    /// Invalidates, and lets readers store again. As an invalidation does it answers what was removed in all.
    pub(crate) async fn end(mut self) -> Result<Invalidated> {
        let engine = Arc::clone(&self.engine);
        self.near += self.fence();
        let answer = match &engine.remote {
            Some(remote) => self.end_remote(&engine, remote).await,
            None => {
                for target in targets(self.keys.clone(), self.tags.clone()) {
                    self.near += engine.invalidate(target).await?.near;
                }
                Ok(Invalidated::done(0, 0))
            }
        };
        self.stage = Stage::Ended;
        answer.map(|invalidated| Invalidated::done(self.near, 0).and(invalidated))
    }

    async fn end_remote(&mut self, engine: &Arc<Engine>, remote: &Remote) -> Result<Invalidated> {
        // What is done while the remote tier is away is done to its stand-in: nothing has been removed then.
        let away = engine.is_away();
        // That marker first: who makes a tag's marker anew must find that it has changed.
        let barred = self.bar_late_tags(remote).await;
        let limit = engine.root.strategy.remote_deadline;
        let left = join_all(self.holds.iter_mut().map(|hold| engine.within(limit, remote.leave(hold)))).await;
        let reached = !away && !engine.is_away();
        let gone: Vec<bool> = left.into_iter().map(|left| reached && left.unwrap_or(false)).collect();
        self.near += self.fence();
        let replaced = self.holds.iter().zip(&gone).filter(|(hold, gone)| **gone && hold.replaced).count();
        let mut sum = Invalidated::done(0, replaced as u64);
        let (of_keys, of_tags) = gone.split_at(self.keys.len());
        let (gone_keys, keys) = part(&self.keys, |place| of_keys[place]);
        let (gone_tags, tags) = part(&self.tags, |place| barred && of_tags[place]);
        engine.announce(&[gone_keys, engine.tag_markers(&gone_tags)].concat()).await;
        let mut fault = None;
        for target in targets(keys, tags) {
            match engine.invalidate(target).await {
                Ok(invalidated) => sum = sum.and(invalidated),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(sum), Err)
    }

    /// Carries the invalidation out in this process; answers how many near entries were dropped.
    fn fence(&self) -> u64 {
        targets(self.keys.clone(), self.tags.clone()).iter().map(|target| self.engine.apply(target)).sum()
    }

    async fn announce(&self) {
        self.engine.announce(&[self.keys.clone(), self.engine.tag_markers(&self.tags)].concat()).await;
    }

    /// Bars loads that began before now and whose loaders name one of the tags afterwards; answers whether it is certain.
    async fn bar_late_tags(&self, remote: &Remote) -> bool {
        if self.tags.is_empty() {
            return true;
        }
        let any = [Tag::any().marker(&self.engine.prefix)];
        let limit = self.engine.root.strategy.remote_deadline;
        let answers = self.engine.within(limit, async { Ok(remote.backend.delete_many(&any).await) }).await;
        match answers.and_then(tally) {
            Ok((_, deferred)) => !deferred,
            Err(error) => {
                self.engine.remote_fault(&self.engine.root, Some(&any[0]), &error);
                false
            }
        }
    }
}

impl Drop for Update {
    fn drop(&mut self) {
        if self.stage == Stage::Ended {
            return;
        }
        self.fence();
        // Without a runtime the holds stay until their life ends: what they replaced is gone.
        if self.stage == Stage::Background || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let rest = Self {
            engine: Arc::clone(&engine),
            keys: std::mem::take(&mut self.keys),
            tags: std::mem::take(&mut self.tags),
            holds: std::mem::take(&mut self.holds),
            near: 0,
            stage: Stage::Background,
        };
        let worker = Arc::clone(&engine);
        engine.spawn(async move {
            if let Err(error) = rest.end().await {
                worker.remote_fault(&worker.root, None, &error);
            }
        });
    }
}

/// Places or renews holds, all at the same time; faults are counted.
async fn hold_all(engine: &Engine, remote: &Remote, holds: &mut [Hold]) {
    let limit = engine.root.strategy.remote_deadline;
    let each = holds.iter_mut().map(|hold| async {
        if let Err(error) = engine.within(limit, remote.hold(hold)).await {
            engine.remote_fault(&engine.root, Some(hold.key()), &error);
        }
    });
    join_all(each).await;
}

fn targets(keys: Vec<Key>, tags: Vec<Tag>) -> Vec<Target> {
    let mut targets = Vec::with_capacity(2);
    if !keys.is_empty() {
        targets.push(Target::Keys(keys));
    }
    if !tags.is_empty() {
        targets.push(Target::Tags(tags));
    }
    targets
}

/// Those for which something holds, and the others.
fn part<T: Clone>(all: &[T], holds: impl Fn(usize) -> bool) -> (Vec<T>, Vec<T>) {
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    for (place, item) in all.iter().enumerate() {
        if holds(place) { yes.push(item.clone()) } else { no.push(item.clone()) }
    }
    (yes, no)
}
