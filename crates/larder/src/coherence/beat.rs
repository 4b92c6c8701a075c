//! Heartbeats: each process says regularly that it is there, on the way that its invalidations take.
//!
//! One's own heartbeat that comes back proves that the link hears what the data connections say. Others learn from it how
//! many messages there were, and which generation the namespace has. At the same time the versions that are known are
//! compared with what the markers hold, the oldest first, so that a marker that was evicted or overwritten is noticed.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use larder_core::{GetOptions, Key, Tag, Tick, Timer};

use super::{BEAT, BEATS_A_SECOND, Beat, Body, Coherence, MOST_VOID, Message};
use crate::engine::Engine;

/// Known versions that are compared at one beat.
const COMPARED: usize = 128;

/// Heartbeats of one's own whose return is waited for.
const AWAITED: usize = 4;

/// Wall clock and monotonic clock may differ by so much between two beats: more, and the machine slept.
const SLEPT: Duration = Duration::from_secs(1);

/// Beats as long as the cache lives.
pub(super) async fn beat(engine: Weak<Engine>, coherence: Arc<Coherence>, timer: Arc<dyn Timer>) {
    loop {
        let interval = {
            let Some(engine) = engine.upgrade() else { return };
            engine.check_trust();
            engine.check_clocks();
            engine.send_beat().await;
            engine.set_interval()
        };
        tokio::select! {
            () = timer.sleep(interval) => {}
            () = coherence.beat_soon.notified() => {}
        }
    }
}

impl Engine {
    async fn send_beat(&self) {
        let bus = self.coherence.bus.lock().clone();
        // The fallback finds out by itself whether the remote tier is back.
        let Some(bus) = bus.filter(|_| !self.is_away()) else { return };
        let generation = self.compare_versions().await;
        let (number, void, message) = self.coherence.next_beat(generation, self.timer.now());
        let sent = self.within(self.root.strategy.remote_deadline, async { bus.publish(message).await });
        if let Err(error) = sent.await {
            crate::events::degraded("heartbeat", &error);
            self.coherence.beat_failed(number, void);
        }
    }

    /// Compares known versions with what the markers hold; answers the generation's.
    async fn compare_versions(&self) -> Option<u64> {
        let remote = self.remote.as_ref()?;
        let asked = remote.asked();
        // A marker whose removal is only remembered still stands there, and must not be taken for valid.
        let learns = self.fallback.as_ref().is_none_or(|fallback| fallback.is_calm());
        let all = Tag::everything();
        let mut known = asked.period().map_or_else(Vec::new, |period| self.tags.oldest(COMPARED, period));
        let generation = known.iter().position(|(tag, _)| *tag == all).map(|at| known.swap_remove(at).1);
        let markers: Vec<Key> =
            std::iter::once(&all).chain(known.iter().map(|(tag, _)| tag)).map(|tag| tag.marker(&self.prefix)).collect();
        let read = async { Ok(remote.primary.get_many(&markers, GetOptions::new()).await) };
        let answers = self.within(self.root.strategy.remote_deadline, read).await.ok()?;
        let mut versions = answers
            .into_iter()
            .map(|answer| answer.map(|found| found.and_then(|found| crate::engine::version(&found.value))));
        let now = versions.next()?.ok()?;
        if generation.is_some() && now != generation && self.known_version(&all) == generation {
            self.distrust("the namespace has another generation than was known", true);
        } else if now.is_some() && learns {
            self.tags.learn(&all, now, asked);
        }
        for ((tag, known), version) in known.into_iter().zip(versions) {
            match version {
                // Near entries have the version that is gone.
                Ok(version) if version != Some(known) && self.known_version(&tag) == Some(known) => {
                    self.apply_keys(&[tag.marker(&self.prefix)]);
                }
                Ok(version) if learns => self.tags.learn(&tag, version, asked),
                _ => {}
            }
        }
        now
    }

    /// A machine that slept may have missed what was said meanwhile.
    fn check_clocks(&self) {
        let (tick, wall) = (self.timer.now(), self.timer.wall());
        let before = self.coherence.link.lock().clocks.replace((tick, wall));
        let Some((before, then)) = before else { return };
        let (monotonic, by_the_wall) = (tick.since(before), wall.remaining(then));
        if monotonic.abs_diff(by_the_wall) > SLEPT || then > wall + SLEPT {
            self.distrust("the wall clock was moved, or the machine slept", true);
        }
    }

    /// The pause until the next beat, by how many processes were heard.
    fn set_interval(&self) -> Duration {
        let mut link = self.coherence.link.lock();
        let recent = link.interval * 3;
        let processes = link.origins.within(recent, self.timer.now()) + 1;
        let shares = u32::try_from(processes.div_ceil(BEATS_A_SECOND)).unwrap_or(u32::MAX);
        link.interval = BEAT.saturating_mul(shares);
        link.interval
    }
}

impl Coherence {
    fn next_beat(&self, generation: Option<u64>, now: Tick) -> (u64, Vec<u64>, Bytes) {
        let mut link = self.link.lock();
        link.beats += 1;
        let number = link.beats;
        if link.sent.len() == AWAITED {
            link.sent.pop_front();
        }
        link.sent.push_back((number, now));
        let void = std::mem::take(&mut link.void);
        let sequence = self.sequence.load(Ordering::Relaxed);
        let beat = Beat { number, generation, void: void.clone() };
        let message = Message { origin: self.origin, sequence, body: Body::Beat(beat) };
        (number, void, Bytes::from(message.encode()))
    }

    /// The beat did not go out.
    fn beat_failed(&self, number: u64, void: Vec<u64>) {
        let mut link = self.link.lock();
        link.sent.retain(|(sent, _)| *sent != number);
        link.void.extend(void);
        link.void.truncate(MOST_VOID);
    }
}
