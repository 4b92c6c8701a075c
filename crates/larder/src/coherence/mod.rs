//! Coherence between processes: who may trust that it hears of every invalidation, and what follows if it may not.
//!
//! A cache *trusts* the bus from a subscription that it has sent and seen confirmed, and a heartbeat of its own that has come
//! back since, until something may have been missed:
//! the link was lost, its own heartbeats do not come back, a number in another's messages is missing, the namespace's
//! generation is not the one it knows, the machine slept, the server was replaced. Trust begins and ends with the next
//! **period**: a number that every near entry carries, so that all of them are dead at once, and with fencing all loads.
//! Versions of markers are known within one period only.
//!
//! No task is relied on for the end of trust: a hit compares the clock with the tick until which its own last heartbeat
//! vouches for the link ([`Coherence::serves`]).

mod beat;
mod listen;
mod message;
mod origins;
mod outbox;
mod track;

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use larder_core::{Announcement, Bus, Guard, Key, Result, Tag, Target, Tick, UnixMillis};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use self::message::{Beat, Body, Message, UNNUMBERED, portions};
use self::{origins::Origins, outbox::Outbox};
use crate::{
    engine::{Engine, Meta},
    events,
};

/// The pause between heartbeats of few processes.
const BEAT: Duration = Duration::from_secs(1);

/// Heartbeats of all processes together in a second, at most: with more processes each beats more seldom.
const BEATS_A_SECOND: usize = 50;

/// This process's part in the bus.
#[derive(Debug)]
pub(crate) struct Coherence {
    origin: u64,
    channel: String,
    blind_ttl: Duration,
    /// Whether others are told and heard.
    speaks: bool,
    /// Whether the store tells of every change, where it was asked to: without that, near entries live as if the bus were
    /// not trusted. Its end is the end of a period, so that hits need not ask.
    tracks: AtomicBool,
    /// Grows with every beginning and end of trust, and when everything is invalidated.
    period: AtomicU64,
    /// Until when the last heartbeat that came back vouches for the link, in ticks; 0 without trust.
    trusted_until: AtomicU64,
    /// The period of which the near tier was last cleaned up.
    cleaned: AtomicU64,
    /// How many messages were sent.
    sequence: AtomicU64,
    /// Messages of other versions of the protocol, or unreadable ones.
    ignored: AtomicU64,
    bus: Mutex<Option<Arc<dyn Bus>>>,
    link: Mutex<Link>,
    /// The cache, once it has a bus.
    speaker: OnceLock<Weak<Engine>>,
    outbox: Outbox,
    reopen: Notify,
    beat_soon: Notify,
}

/// Numbers of own messages that a heartbeat names. If there are more, the others miss some and distrust the bus.
const MOST_VOID: usize = 256;

/// What is known of the link.
#[derive(Debug)]
struct Link {
    /// A subscription was confirmed, and not given up or lost since.
    subscribed: bool,
    trusted: bool,
    interval: Duration,
    beats: u64,
    /// Own heartbeats that have not come back yet, and when they were sent.
    sent: VecDeque<(u64, Tick)>,
    origins: Origins,
    /// Own messages that may not have been sent, and whose removals are remembered.
    void: Vec<u64>,
    /// What both clocks said when they were last compared.
    clocks: Option<(Tick, UnixMillis)>,
}

impl Coherence {
    pub(crate) fn new(prefix: &str, blind_ttl: Duration, speaks: bool) -> Self {
        let link = Link {
            subscribed: false,
            trusted: false,
            interval: BEAT,
            beats: 0,
            sent: VecDeque::new(),
            origins: Origins::default(),
            void: Vec::new(),
            clocks: None,
        };
        Self {
            origin: fastrand::u64(..),
            channel: channel(prefix),
            blind_ttl,
            speaks,
            tracks: AtomicBool::new(true),
            period: AtomicU64::new(1),
            trusted_until: AtomicU64::new(0),
            cleaned: AtomicU64::new(1),
            sequence: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            bus: Mutex::new(None),
            link: Mutex::new(link),
            speaker: OnceLock::new(),
            outbox: Outbox::default(),
            reopen: Notify::new(),
            beat_soon: Notify::new(),
        }
    }

    /// Who sends messages: nobody without a bus.
    fn speaker(&self) -> Option<Arc<Engine>> {
        self.speaker.get()?.upgrade()
    }

    /// Identifies this cache among the processes of a namespace.
    pub(crate) fn origin(&self) -> u64 {
        self.origin
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    pub(crate) fn speaks(&self) -> bool {
        self.speaks
    }

    /// The store is to tell of every change, and does not do so yet.
    pub(crate) fn await_tracking(&self) {
        self.tracks.store(false, Ordering::Release);
    }

    /// Messages that were ignored because they were of another version, or unreadable.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// Whether messages of other processes arrive.
    #[inline]
    pub(crate) fn is_trusted(&self, now: Tick) -> bool {
        now.as_nanos() < self.trusted_until.load(Ordering::Acquire)
    }

    /// The present period, if the bus is trusted.
    pub(crate) fn period(&self, now: Tick) -> Option<u64> {
        let period = self.period.load(Ordering::Acquire);
        self.is_trusted(now).then_some(period)
    }

    /// Whether a near entry is of this period, and the link was good until now if that is what the entry relies on.
    #[inline]
    pub(crate) fn serves(&self, meta: &Meta, now: Tick) -> bool {
        self.is_present(meta) && (!meta.bus().relies_on_bus() || self.is_trusted(now))
    }

    /// Whether a near entry is of this period.
    #[inline]
    pub(crate) fn is_present(&self, meta: &Meta) -> bool {
        meta.bus().is_of(self.period.load(Ordering::Acquire))
    }

    /// What a near entry that is kept now remembers: the period, and whether it relies on the bus.
    pub(crate) fn vouch(&self, now: Tick) -> (u64, bool) {
        // The period first: if it ends in between, the entry is dead.
        (self.period.load(Ordering::Acquire), self.is_trusted(now) && self.tracks.load(Ordering::Acquire))
    }

    /// How long near entries may live while they may miss a message.
    pub(crate) fn blind_ttl(&self) -> Duration {
        self.blind_ttl
    }

    /// The next period: every near entry and every known version is outdated.
    pub(crate) fn next_period(&self) {
        self.period.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether near entries of earlier periods were not cleaned up yet. They count as cleaned up then.
    pub(crate) fn is_to_clean(&self) -> bool {
        let period = self.period.load(Ordering::Acquire);
        self.cleaned.swap(period, Ordering::AcqRel) != period
    }

    /// A message with its number.
    pub(crate) fn compose(&self, body: Body) -> (u64, Bytes) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let message = Message { origin: self.origin, sequence, body };
        (sequence, Bytes::from(message.encode()))
    }

    /// A message that will never come: the others miss it.
    fn skip_a_number(&self) {
        self.sequence.fetch_add(1, Ordering::Relaxed);
    }

    /// What is said of removals in an outage, and when they are made up for, as often as that is tried. Without a number: nobody
    /// misses it, and it stands for no other message.
    pub(crate) fn removal(&self, keys: &[Key]) -> Bytes {
        Bytes::from(Message { origin: self.origin, sequence: UNNUMBERED, body: Body::Keys(keys.to_vec()) }.encode())
    }

    /// A message may not have been sent, but its removals are remembered and will be told of.
    pub(crate) fn void(&self, sequence: u64) {
        let mut link = self.link.lock();
        if link.void.len() < MOST_VOID {
            link.void.push(sequence);
        }
    }

    /// A subscription was confirmed: from here on everything is heard.
    fn subscribed(&self) {
        let mut link = self.link.lock();
        link.subscribed = true;
        link.sent.clear();
        link.origins = Origins::default();
    }

    /// Ends the period; answers whether it was one of trust.
    fn end_trust(&self) -> bool {
        let mut link = self.link.lock();
        self.trusted_until.store(0, Ordering::Release);
        self.next_period();
        link.subscribed = false;
        std::mem::replace(&mut link.trusted, false)
    }

    /// One's own heartbeat came back: it vouches for the link since it was sent. Answers whether trust begins with it;
    /// `before` runs first then, under the lock.
    fn echoed(&self, number: u64, before: impl FnOnce()) -> bool {
        let mut link = self.link.lock();
        let Some(at) = link.sent.iter().position(|(sent, _)| *sent == number) else { return false };
        let (_, sent) = link.sent[at];
        link.sent.drain(..=at);
        let begins = link.subscribed && !link.trusted;
        if begins {
            before();
            link.trusted = true;
            self.next_period();
        }
        if link.trusted {
            let until = (sent + link.patience()).as_nanos();
            self.trusted_until.fetch_max(until, Ordering::AcqRel);
        }
        begins
    }
}

impl Link {
    /// How long a heartbeat vouches: until the second one after it should have come back.
    fn patience(&self) -> Duration {
        self.interval * 5 / 2
    }
}

/// The number of a message, and what it names.
type Said = (u64, Vec<Key>);

/// The messages of a removal on their way, in the order in which they were made. Dropped before it was answered, none of them may have been sent: what they tell of
/// is remembered.
pub(crate) struct Sending<'a> {
    coherence: &'a Arc<Coherence>,
    said: Arc<Mutex<Vec<Said>>>,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(coherence: &'a Arc<Coherence>) -> Self {
        Self { coherence, said: Arc::default() }
    }

    pub(crate) fn announcement(&self) -> Announcement {
        let (coherence, said) = (Arc::clone(self.coherence), Arc::clone(&self.said));
        Arc::new(move |keys| {
            let (number, message) = coherence.compose(Body::Keys(keys.to_vec()));
            said.lock().push((number, keys.to_vec()));
            message
        })
    }

    /// A message went out if every key was removed that it names, unless another one was made for a key afterwards.
    pub(crate) fn answered(self, keys: &[Key], answers: &[Result<bool>]) {
        let failed = keys.iter().zip(answers).filter(|(_, answer)| answer.is_err());
        let mut unsent: HashSet<Key> = failed.map(|(key, _)| key.clone()).collect();
        for (number, keys) in std::mem::take(&mut *self.said.lock()).into_iter().rev() {
            if keys.iter().any(|key| unsent.contains(key)) {
                self.coherence.void(number);
            }
            unsent.extend(keys);
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        for (number, _) in self.said.lock().drain(..) {
            self.coherence.void(number);
        }
    }
}

impl Engine {
    /// Tells the other processes of a removal that is not confirmed: if it came through, old copies must not stay in their
    /// near tiers until it is repeated from the journal.
    pub(crate) async fn announce_unsure(&self, keys: &[Key]) {
        if !self.is_away() {
            self.announce(keys).await;
        }
    }

    /// Answers whether it was sent, or there is nobody to hear it. A number that was not sent is missed by the others.
    pub(crate) async fn publish_message(&self, body: Body) -> bool {
        let bus = self.coherence.bus.lock().clone();
        let Some(bus) = bus else { return true };
        let (_, message) = self.coherence.compose(body);
        let sent = self.within(self.root.strategy.remote_deadline, async { bus.publish(message).await });
        sent.await.inspect_err(|error| self.remote_fault(&self.root, None, error)).is_ok()
    }

    /// Messages may have been missed: nothing that was kept or asked for until now is served or kept any more. With `reopen`
    /// only a new subscription brings trust back.
    pub(crate) fn distrust(&self, reason: &'static str, reopen: bool) {
        let was_trusted = self.coherence.end_trust();
        self.fence_all();
        if reopen {
            self.coherence.reopen.notify_one();
        }
        if was_trusted {
            events::distrusted(reason);
        }
    }

    /// Fences and detaches everything that is under way.
    fn fence_all(&self) {
        self.flights.raise_where(|_| true);
        self.serving.forget(|_| true);
        if let Some(fallback) = &self.fallback {
            fallback.forget_all();
        }
    }

    /// What must hold before anything is read from a new connection to the remote tier: its server is the one that it was.
    pub(crate) fn guard(self: &Arc<Self>) -> Guard {
        let engine = Arc::downgrade(self);
        Guard {
            record: Key::from_canonical(format!("{}%run", self.prefix)),
            generation: Tag::everything().marker(&self.prefix),
            changed: Arc::new(move || {
                if let Some(engine) = engine.upgrade() {
                    engine.distrust("the server was restarted or replaced", true);
                }
            }),
        }
    }

    /// Carries an invalidation out in this process; answers how many near entries were dropped.
    pub(crate) fn apply(&self, target: &Target) -> u64 {
        match target {
            Target::Keys(keys) => self.apply_keys(keys),
            Target::Tags(tags) => self.apply_keys(&self.tag_markers(tags)),
            Target::Region(prefix) => self.apply_keys(&[self.tag_of(prefix).marker(&self.prefix)]),
            Target::Everything => self.apply_keys(&[Tag::everything().marker(&self.prefix)]),
            other => {
                if let Some(fallback) = &self.fallback {
                    fallback.forget_all();
                }
                self.forget_where(|key| other.matches(key))
            }
        }
    }

    /// The markers that an invalidation of tags removes: the common one first, so that where the removals are not one step a
    /// load that makes a tag's marker anew finds that the common one has changed. None for no tags.
    pub(crate) fn tag_markers(&self, tags: &[Tag]) -> Vec<Key> {
        let any = (!tags.is_empty()).then(Tag::any);
        any.iter().chain(tags).map(|tag| tag.marker(&self.prefix)).collect()
    }

    /// Keys are dropped; markers are carried out as what they stand for.
    pub(crate) fn apply_keys(&self, keys: &[Key]) -> u64 {
        let dropped = keys.iter().map(|key| self.apply_key(key)).sum();
        if let Some(fallback) = &self.fallback {
            fallback.forget(keys);
        }
        dropped
    }

    fn apply_key(&self, key: &Key) -> u64 {
        let Some(tag) = Tag::of_marker(key, &self.prefix) else { return u64::from(self.forget(key)) };
        self.tags.invalidate(&tag);
        if tag == Tag::everything() {
            self.coherence.next_period();
            return self.forget_where(|_| true);
        }
        match tag.as_prefix() {
            Some(prefix) => {
                let prefix = format!("{}{prefix}", self.prefix);
                self.forget_where(|key| key.starts_with(&prefix))
            }
            None => 0,
        }
    }

    /// The tag whose marker clears everything below a canonical prefix.
    pub(crate) fn tag_of(&self, prefix: &str) -> Tag {
        Tag::of_prefix(prefix.strip_prefix(self.prefix.as_str()).unwrap_or_default())
    }
}

/// The channel of a namespace.
pub(crate) fn channel(prefix: &str) -> String {
    format!("{prefix}%bus")
}

/// Opens the bus of a backend, if it has one.
pub(crate) async fn open(backend: &dyn larder_core::Backend, channel: &str) -> Result<Option<Box<dyn Bus>>> {
    match backend.as_bus() {
        Some(source) => source.open_bus(channel).await.map(Some),
        None => Ok(None),
    }
}
