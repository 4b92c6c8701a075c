//! The listener: what arrives on the bus, and what it says about the bus.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use larder_core::{Bus, BusEvent, Tag, Target, Timer};

use super::{Beat, Body, Coherence, Message, UNNUMBERED};
use crate::{engine::Engine, events};

/// Subscriptions that had to be given up follow each other no faster, so that a bus that loses messages all the time
/// does not keep the near tier from ever being filled.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_REOPEN_PAUSE: Duration = Duration::from_secs(5);

/// A subscription that has stood for so long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(30);

impl Engine {
    /// Starts to listen and to beat; ends with the cache.
    pub(crate) fn join_bus(self: &Arc<Self>, bus: Box<dyn Bus>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let bus: Arc<dyn Bus> = bus.into();
        *self.coherence.bus.lock() = Some(Arc::clone(&bus));
        // Only once: a cache has one bus.
        drop(self.coherence.speaker.set(Arc::downgrade(self)));
        let coherence = Arc::clone(&self.coherence);
        let listener = listen(Arc::downgrade(self), Arc::clone(&coherence), Arc::clone(&self.timer), bus);
        let beats = super::beat::beat(Arc::downgrade(self), coherence, Arc::clone(&self.timer));
        let tasks = [runtime.spawn(listener).abort_handle(), runtime.spawn(beats).abort_handle()];
        self.tasks.lock().extend(tasks);
    }

    fn hear(&self, event: BusEvent) {
        // A process that stood still hears late what was said meanwhile; it cannot know whether that was all.
        self.check_trust();
        match event {
            // One after another, without a loss between them, is a gap too.
            BusEvent::Confirmed => {
                self.distrust("it was subscribed to anew", false);
                self.coherence.subscribed();
                self.coherence.beat_soon.notify_one();
            }
            BusEvent::Lost => self.distrust("its link was lost", false),
            BusEvent::Message(message) => match Message::decode(&message) {
                Ok(message) => self.take(message),
                Err(reason) => {
                    self.coherence.ignored.fetch_add(1, Ordering::Relaxed);
                    events::bad_message(reason.0);
                }
            },
            _ => events::bad_message("an event of an unknown kind"),
        }
    }

    /// Ends trust where the link no longer deserves it.
    pub(super) fn check_trust(&self) {
        let now = self.timer.now();
        let reason = {
            let link = self.coherence.link.lock();
            if !link.trusted {
                return;
            }
            if !self.coherence.is_trusted(now) {
                "two heartbeats of this process did not come back"
            } else if link.origins.has_hole(link.interval * 2, now) {
                "a message of another process did not arrive"
            } else {
                return;
            }
        };
        self.distrust(reason, true);
    }

    fn take(&self, message: Message) {
        let Message { origin, sequence, body } = message;
        if origin == self.coherence.origin {
            // What began before trust does is not kept in it: it may have missed what was said before the subscription.
            if let Body::Beat(beat) = body
                && self.coherence.echoed(beat.number, || self.fence_all())
            {
                events::bus();
            }
            return;
        }
        let now = self.timer.now();
        {
            let mut link = self.coherence.link.lock();
            match &body {
                Body::Beat(beat) => {
                    link.origins.heard_of(origin, sequence, now);
                    link.origins.excuse(origin, &beat.void);
                }
                _ if sequence == UNNUMBERED => {}
                _ => link.origins.heard(origin, sequence, now),
            }
        }
        match body {
            Body::Keys(keys) => {
                self.apply_keys(&keys);
            }
            Body::Pattern(pattern) => {
                self.apply(&Target::Pattern(pattern));
            }
            Body::Part { prefix, part } => {
                self.apply(&Target::Part { prefix, part });
            }
            Body::Beat(beat) => self.compare_generation(&beat),
        }
    }

    fn compare_generation(&self, beat: &Beat) {
        let known = self.known_version(&Tag::everything());
        if beat.generation.zip(known).is_some_and(|(theirs, ours)| theirs != ours) {
            self.distrust("another process knows another generation of the namespace", true);
        }
    }

    /// The version of a marker that is known without asking.
    pub(super) fn known_version(&self, tag: &Tag) -> Option<u64> {
        let now = self.timer.now();
        let asked = self.tags.asked(self.coherence.period(now), now);
        self.tags.known(asked).of(tag).map(|version| version.value)
    }
}

/// Listens as long as the cache lives. A stream that is given up is opened anew: only a subscription that was sent
/// afterwards, and confirmed, brings trust back.
async fn listen(engine: Weak<Engine>, coherence: Arc<Coherence>, timer: Arc<dyn Timer>, bus: Arc<dyn Bus>) {
    let mut pause = Duration::ZERO;
    loop {
        let began = timer.now();
        let mut events = bus.events();
        loop {
            let event = tokio::select! {
                biased;
                () = coherence.reopen.notified() => break,
                event = events.next() => event,
            };
            let Some(engine) = engine.upgrade() else { return };
            match event {
                Some(event) => engine.hear(event),
                None => {
                    engine.distrust("its subscription ended", false);
                    break;
                }
            }
        }
        drop(events);
        let stood = timer.now().since(began) >= GOOD_AFTER;
        pause = if stood { Duration::ZERO } else { (pause * 2).clamp(REOPEN_PAUSE, LONGEST_REOPEN_PAUSE) };
        if !pause.is_zero() {
            timer.sleep(pause).await;
        }
    }
}
