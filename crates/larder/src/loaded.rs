//! What a loader may say about the value that it loaded, and what it may know of the one before.

use std::{sync::Arc, time::Duration};

use larder_core::Tag;
use larder_memory::AnyValue;

/// A loaded value with wishes about how it is stored. Plain loaders return the value itself.
#[derive(Debug, Clone)]
#[must_use]
pub struct Loaded<V> {
    pub(crate) value: Option<Arc<V>>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) store: bool,
}

impl<V> Loaded<V> {
    /// A value.
    pub fn new(value: V) -> Self {
        Self::from_arc(Arc::new(value))
    }

    /// A value that is shared already.
    pub fn from_arc(value: Arc<V>) -> Self {
        Self { value: Some(value), ttl: None, tags: Vec::new(), store: true }
    }

    /// There is no such value. Stored only where the strategy says for how long (`cache_none`).
    pub fn nothing() -> Self {
        Self { value: None, ttl: None, tags: Vec::new(), store: true }
    }

    /// The value, or nothing.
    pub fn optional(value: Option<V>) -> Self {
        value.map_or_else(Self::nothing, Self::new)
    }

    /// Gives it to the callers and stores it nowhere.
    pub fn do_not_store(mut self) -> Self {
        self.store = false;
        self
    }

    /// How long it is fresh, in place of the call's or the strategy's TTL. Zero: not stored.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a tag to those of the call.
    pub fn tag(mut self, tag: impl Into<Tag>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// The value that a load is to replace: fresh, where it is refreshed early or by force, or stale.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Previous<V> {
    /// The value.
    pub value: Arc<V>,
    /// How long ago it was loaded, as far as this process knows.
    pub age: Duration,
    tags: Vec<Tag>,
}

impl<V> Previous<V> {
    /// What a loader returns whose source says that the value has not changed: it begins its life anew, with the tags that
    /// it had.
    pub fn not_modified(self) -> Loaded<V> {
        Loaded { tags: self.tags, ..Loaded::from_arc(self.value) }
    }
}

/// A [`Previous`] without its type.
#[derive(Debug, Clone)]
pub(crate) struct PreviousAny {
    pub(crate) value: AnyValue,
    pub(crate) age: Duration,
    pub(crate) tags: Vec<Tag>,
}

impl PreviousAny {
    /// In the caller's type; `None` for the memory that there was no value.
    pub(crate) fn typed<V: Send + Sync + 'static>(self) -> Option<Previous<V>> {
        let value = self.value.downcast::<V>().ok()?;
        Some(Previous { value, age: self.age, tags: self.tags })
    }
}
