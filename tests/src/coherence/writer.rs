//! The writer: one task for each region, so that what happens to a key happens in one order.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use larder::Status;
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::sleep};

use super::{
    Deed, KEYS, REGION_KEYS, names,
    source::{Answered, now},
    worker::{Value, Word, Worker},
};

/// What was deferred, until it is known to be done.
#[derive(Debug, Default)]
struct Pending {
    records: Vec<Answered>,
    /// Tasks that may still write.
    writing: u32,
}

/// What became of a deed.
enum Answer {
    Done,
    Deferred,
    Failed,
}

struct Writer {
    worker: Arc<Worker>,
    pending: Arc<Mutex<Pending>>,
    region: u32,
    rng: fastrand::Rng,
}

/// Starts the tasks that write, and those that tell the readers.
pub(super) fn start(worker: &Arc<Worker>, tasks: &mut JoinSet<io::Result<()>>) {
    let regions = KEYS / REGION_KEYS;
    let pending = Arc::new(Mutex::new(Pending { records: Vec::new(), writing: regions }));
    for region in 0..regions {
        let rng = worker.rng(0x80 + u64::from(region));
        let writer = Writer { worker: Arc::clone(worker), pending: Arc::clone(&pending), region, rng };
        tasks.spawn(writer.write_on());
    }
    for process in 1..worker.job.processes {
        tasks.spawn(answer_questions(Arc::clone(worker), process));
    }
    tasks.spawn(make_up(Arc::clone(worker), pending));
}

impl Writer {
    async fn write_on(mut self) -> io::Result<()> {
        if self.worker.job.incarnation > 0 {
            // What the one before had not been answered, or only deferred, is unknown.
            let keys: Vec<u32> = (0..REGION_KEYS).map(|key| self.region * REGION_KEYS + key).collect();
            self.change(Deed::Again, &keys).await?;
        }
        while !self.worker.quiet.load(Ordering::SeqCst) {
            let (deed, keys) = self.choose();
            self.change(deed, &keys).await?;
            sleep(Duration::from_micros(self.rng.u64(500..15_000))).await;
        }
        self.pending.lock().writing -= 1;
        Ok(())
    }

    /// What to do next, and which keys have changed.
    fn choose(&mut self) -> (Deed, Vec<u32>) {
        let first = self.region * REGION_KEYS;
        let key = first + self.rng.u32(..REGION_KEYS);
        let (deed, candidates): (_, Vec<u32>) = match self.rng.u8(..100) {
            0..45 => (Deed::Key, vec![key]),
            45..60 => (Deed::Tag, (key / 4 * 4..key / 4 * 4 + 4).collect()),
            60..68 => (Deed::LateTag, (first..first + REGION_KEYS).filter(|other| other % 2 == key % 2).collect()),
            68..71 => (Deed::Region, (first..first + REGION_KEYS).collect()),
            71..88 => (Deed::Set, vec![key]),
            _ => (Deed::Delete, vec![key]),
        };
        let keys = candidates.into_iter().filter(|other| *other == key || self.rng.bool()).collect();
        (deed, keys)
    }

    /// Changes the source, does the deed, and notes what was answered. What fails is followed by invalidations, as a user
    /// would have it.
    async fn change(&mut self, deed: Deed, keys: &[u32]) -> io::Result<()> {
        let versions = keys.iter().map(|key| self.worker.shared.source.change(*key)).collect::<io::Result<Vec<_>>>()?;
        self.worker.count(|counts| *counts.deeds.entry(deed).or_default() += 1);
        let mut done = deed;
        let mut answer = self.attempt(deed, keys, &versions).await;
        while matches!(answer, Answer::Failed) {
            self.worker.count(|counts| counts.failed += 1);
            sleep(Duration::from_millis(20)).await;
            done = Deed::Again;
            answer = self.attempt(done, keys, &versions).await;
        }
        let deferred = matches!(answer, Answer::Deferred);
        let answered = |(key, version): (&u32, u64)| Answered { key: *key, version, deed: done, deferred, at: now() };
        let records: Vec<Answered> = keys.iter().zip(versions).map(answered).collect();
        self.worker.promises.own(&records);
        let mut pending = self.pending.lock();
        if deferred {
            self.worker.count(|counts| counts.deferred += 1);
            pending.records.extend(records);
            return Ok(());
        }
        self.worker.count(|counts| counts.done += 1);
        self.worker.shared.log.append(&records)
    }

    async fn attempt(&self, deed: Deed, keys: &[u32], versions: &[u64]) -> Answer {
        let invalidate = self.worker.cache.invalidate();
        let answer = match deed {
            Deed::Key | Deed::Again => invalidate.keys(keys.iter().map(|key| names::path(*key))).await,
            Deed::Tag => invalidate.tag(names::tag(keys[0])).await,
            Deed::LateTag => invalidate.tag(names::late_tag(keys[0])).await,
            Deed::Region => invalidate.region(&names::region(self.region)).await,
            Deed::Set | Deed::Delete => return self.write(deed, keys[0], versions[0]).await,
        };
        match answer.map(|invalidated| invalidated.status) {
            Ok(Status::Done) => Answer::Done,
            Ok(Status::Deferred) => Answer::Deferred,
            _ => Answer::Failed,
        }
    }

    /// Writes and deletions do not say whether they were deferred; they were not if all was well before and after.
    async fn write(&self, deed: Deed, key: u32, version: u64) -> Answer {
        let region = &self.worker.regions[self.region as usize];
        let name = names::key(key);
        let before = self.worker.is_calm().await;
        let answered = if deed == Deed::Set {
            let value = Value { key, version, by: self.worker.job.process, at: now() };
            let set = region.try_set(&name, value).tag(names::tag(key)).tag(names::late_tag(key)).await;
            set.is_ok_and(larder::SetOutcome::is_stored)
        } else {
            region.delete(&name).await.is_ok()
        };
        match answered {
            false => Answer::Failed,
            true if before && self.worker.is_calm().await => Answer::Done,
            true => Answer::Deferred,
        }
    }
}

/// Notes that what was deferred is done, when the cache has nothing left to make up for.
async fn make_up(worker: Arc<Worker>, pending: Arc<Mutex<Pending>>) -> io::Result<()> {
    loop {
        let waiting = pending.lock().records.len();
        if waiting > 0 && worker.is_calm().await {
            let mut pending = pending.lock();
            let records: Vec<Answered> =
                pending.records.drain(..waiting).map(|record| Answered { at: now(), ..record }).collect();
            worker.shared.log.append(&records)?;
            worker.count(|counts| counts.done += records.len() as u64);
        }
        let finished = {
            let pending = pending.lock();
            pending.writing == 0 && pending.records.is_empty()
        };
        if finished {
            worker.say(Word::Quiet);
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Answers a reader that wants to know that it has heard all.
async fn answer_questions(worker: Arc<Worker>, process: u32) -> io::Result<()> {
    let beacons = &worker.shared.beacons;
    let mut answered = 0;
    loop {
        sleep(Duration::from_millis(2)).await;
        let question = beacons.asked(process)?;
        if question == answered {
            continue;
        }
        beacons.promise(process, question, worker.shared.log.len())?;
        while !beacons.lit(process, question)? && beacons.asked(process)? == question {
            sleep(Duration::from_millis(2)).await;
        }
        // A deferred message has not been sent: it is asked for again until it is, or the reader has given up.
        while beacons.lit(process, question)? && beacons.asked(process)? == question {
            let removed = worker.cache.invalidate().key(names::beacon(process).as_str()).await;
            if removed.is_ok_and(|removed| removed.status == Status::Done) {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        answered = question;
    }
}
