//! Sinks to test against: one that writes down what it is asked, one that holds entries.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use larder_core::{Error, ErrorKind, Invalidated, InvalidationSink, Key, Result, Status, Tag, Target};

/// Writes down every target; fails for those of a chosen kind.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    seen: Mutex<Vec<Target>>,
    failing: Option<fn(&Target) -> bool>,
    pub(crate) deferring: Option<fn(&Target) -> bool>,
}

impl Recorder {
    pub(crate) fn failing_for(failing: fn(&Target) -> bool) -> Self {
        Self { failing: Some(failing), ..Self::default() }
    }

    pub(crate) fn seen(&self) -> Vec<Target> {
        lock(&self.seen).clone()
    }
}

#[async_trait]
impl InvalidationSink for Recorder {
    async fn invalidate(&self, target: Target) -> Result<Invalidated> {
        lock(&self.seen).push(target.clone());
        if self.failing.is_some_and(|fails| fails(&target)) {
            return Err(Error::new(ErrorKind::Timeout, "unlink", "no answer within 50 ms"));
        }
        let mut done = Invalidated::done(1, 2);
        if self.deferring.is_some_and(|defers| defers(&target)) {
            done.status = Status::Deferred;
        }
        Ok(done)
    }

    async fn preview(&self, target: &Target) -> Result<Option<u64>> {
        if self.failing.is_some_and(|fails| fails(target)) {
            return Err(Error::new(ErrorKind::Unavailable, "scan", "connection refused"));
        }
        Ok(None)
    }

    fn namespace_prefix(&self) -> &str {
        "shop:"
    }
}

/// A cache of keys and tags in memory.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    entries: Mutex<BTreeMap<String, Vec<Tag>>>,
}

impl Shelf {
    pub(crate) fn with(keys: &[&str]) -> Self {
        let shelf = Self::default();
        keys.iter().for_each(|key| shelf.put(key, &[]));
        shelf
    }

    pub(crate) fn put(&self, key: &str, tags: &[Tag]) {
        let key = Key::with_prefix("shop:", key);
        lock(&self.entries).insert(key.as_str().to_owned(), tags.to_vec());
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        lock(&self.entries).keys().map(|key| key["shop:".len()..].to_owned()).collect()
    }
}

#[async_trait]
impl InvalidationSink for Shelf {
    async fn invalidate(&self, target: Target) -> Result<Invalidated> {
        let mut entries = lock(&self.entries);
        let before = entries.len();
        entries.retain(|key, tags| {
            let tagged = matches!(&target, Target::Tags(named) if named.iter().any(|tag| tags.contains(tag)));
            !tagged && !target.matches(key)
        });
        Ok(Invalidated::done(0, (before - entries.len()) as u64))
    }

    async fn preview(&self, target: &Target) -> Result<Option<u64>> {
        if matches!(target, Target::Tags(_)) {
            return Ok(None);
        }
        Ok(Some(lock(&self.entries).keys().filter(|key| target.matches(key)).count() as u64))
    }

    fn namespace_prefix(&self) -> &str {
        "shop:"
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
