//! Invalidations between processes, over the bus, in their first form.
//!
//! While the bus is trusted, near entries live as long as their strategy says, and every invalidation or write of another
//! process removes them. While it is not (there is none, or its link was lost) they live for the blind TTL at most. Trust
//! begins only with a confirmed subscription, and both its beginning and its end empty the near tier and fence all loads.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use larder_core::{Bus, BusEvent, Key, Pattern, Result, Tag, Target};
use parking_lot::Mutex;

use crate::{engine::Engine, events};

/// The first line of every message.
const PROTOCOL: &str = "larder 1";

/// This process's part in the bus.
#[derive(Debug)]
pub(crate) struct Coherence {
    origin: u64,
    blind_ttl: Duration,
    trusted: AtomicBool,
    bus: Mutex<Option<Arc<dyn Bus>>>,
}

impl Coherence {
    pub(crate) fn new(blind_ttl: Duration) -> Self {
        Self { origin: fastrand::u64(..), blind_ttl, trusted: AtomicBool::new(false), bus: Mutex::new(None) }
    }

    /// Identifies this cache among the processes of a namespace.
    pub(crate) fn origin(&self) -> u64 {
        self.origin
    }

    /// Whether messages of other processes arrive.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Acquire)
    }

    /// How long near entries may live while they may miss a message; `None` while they cannot.
    pub(crate) fn blind_ttl(&self) -> Option<Duration> {
        (!self.is_trusted()).then_some(self.blind_ttl)
    }
}

impl Engine {
    /// Starts to listen; ends with the cache.
    pub(crate) fn join_bus(self: &Arc<Self>, bus: Box<dyn Bus>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let bus: Arc<dyn Bus> = bus.into();
        *self.coherence.bus.lock() = Some(Arc::clone(&bus));
        let task = runtime.spawn(listen(Arc::downgrade(self), bus));
        self.tasks.lock().push(task.abort_handle());
    }

    /// Tells the other processes. A message that cannot be sent is counted: they serve old near copies until theirs end.
    pub(crate) async fn announce(&self, target: &Target) {
        let bus = self.coherence.bus.lock().clone();
        let Some(bus) = bus else { return };
        let message = Bytes::from(encode(self.coherence.origin, target));
        let sent = self.within(self.root.strategy.remote_deadline, async { bus.publish(message).await });
        if let Err(error) = sent.await {
            self.remote_fault(&self.root, None, &error);
        }
    }

    fn hear(&self, event: BusEvent) {
        match event {
            BusEvent::Confirmed => self.trust(true),
            BusEvent::Lost => self.trust(false),
            BusEvent::Message(message) => match decode(&message) {
                Ok((origin, _)) if origin == self.coherence.origin => {}
                Ok((_, target)) => {
                    self.apply(&target);
                }
                Err(reason) => events::bad_message(reason),
            },
            _ => events::bad_message("an event of an unknown kind"),
        }
    }

    fn trust(&self, trusted: bool) {
        // Both ends of a gap: what was stored or begun before may have missed a message.
        self.coherence.trusted.store(trusted, Ordering::Release);
        self.forget_where(|_| true);
        events::bus(trusted);
    }

    /// Carries an invalidation out in this process; answers how many near entries were dropped.
    pub(crate) fn apply(&self, target: &Target) -> u64 {
        match target {
            Target::Keys(keys) => keys.iter().map(|key| u64::from(self.forget(key))).sum(),
            Target::Tags(tags) => {
                tags.iter().for_each(|tag| self.tags.invalidate(tag));
                0
            }
            Target::Everything => self.forget_where(|_| true),
            other => self.forget_where(|key| other.matches(key)),
        }
    }
}

async fn listen(engine: Weak<Engine>, bus: Arc<dyn Bus>) {
    let mut events = bus.events();
    drop(bus);
    while let Some(event) = events.next().await {
        let Some(engine) = engine.upgrade() else { return };
        engine.hear(event);
    }
    if let Some(engine) = engine.upgrade() {
        engine.hear(BusEvent::Lost);
    }
}

/// A message is lines of text: protocol, origin, kind, then one item a line. Canonical keys hold no line breaks.
fn encode(origin: u64, target: &Target) -> String {
    let (kind, items): (_, Vec<&str>) = match target {
        Target::Keys(keys) => ("keys", keys.iter().map(Key::as_str).collect()),
        Target::Tags(tags) => ("tags", tags.iter().map(Tag::as_str).collect()),
        Target::Pattern(pattern) => ("pattern", vec![pattern.as_str()]),
        Target::Part { prefix, part } => ("part", vec![prefix, part]),
        Target::Region(prefix) => ("region", vec![prefix]),
        _ => ("everything", Vec::new()),
    };
    let mut text = format!("{PROTOCOL}\n{origin:016x}\n{kind}");
    for item in items {
        text.push('\n');
        text.push_str(item);
    }
    text
}

fn decode(message: &[u8]) -> std::result::Result<(u64, Target), &'static str> {
    let text = std::str::from_utf8(message).map_err(|_| "it is no text")?;
    let mut lines = text.split('\n');
    if lines.next() != Some(PROTOCOL) {
        return Err("it is of another version of the protocol");
    }
    let origin = lines.next().and_then(|origin| u64::from_str_radix(origin, 16).ok()).ok_or("it names no origin")?;
    let kind = lines.next().ok_or("it names no kind")?;
    let items: Vec<&str> = lines.collect();
    let target = match (kind, items.as_slice()) {
        ("keys", keys) => Target::Keys(keys.iter().map(|key| Key::from_canonical(*key)).collect()),
        ("tags", tags) => Target::Tags(tags.iter().map(|tag| Tag::from_canonical(*tag)).collect()),
        ("pattern", [pattern]) => Target::Pattern(Pattern::from_canonical(*pattern)),
        ("part", [prefix, part]) => Target::Part { prefix: (*prefix).to_owned(), part: (*part).to_owned() },
        ("region", [prefix]) => Target::Region((*prefix).to_owned()),
        ("everything", []) => Target::Everything,
        _ => return Err("it is of an unknown kind"),
    };
    Ok((origin, target))
}

/// The channel of a namespace.
pub(crate) fn channel(prefix: &str) -> String {
    format!("{prefix}%bus")
}

/// Opens the bus of a backend, if it has one.
pub(crate) async fn open(backend: &dyn larder_core::Backend, prefix: &str) -> Result<Option<Box<dyn Bus>>> {
    match backend.as_bus() {
        Some(source) => source.open_bus(&channel(prefix)).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_message_survives_the_journey() {
        for target in [
            Target::Keys(vec![Key::new("a:1"), Key::new("b c")]),
            Target::Tags(vec![Tag::from("symbol:BTC")]),
            Target::Pattern(Pattern::new("a:*").unwrap()),
            Target::Part { prefix: "n:api:".into(), part: "BTC".into() },
            Target::Region("n:api:".into()),
            Target::Everything,
        ] {
            let message = encode(7, &target);
            assert_eq!(decode(message.as_bytes()), Ok((7, target)));
        }
    }

    #[test]
    fn messages_of_other_versions_and_kinds_are_refused() {
        for message in ["", "larder 2\n0\nkeys", "larder 1\nx\nkeys", "larder 1\n0\nnews", "larder 1\n0\npattern"] {
            assert!(decode(message.as_bytes()).is_err(), "{message}");
        }
        assert!(decode(&[0xff]).is_err());
    }
}
