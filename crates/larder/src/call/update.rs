//! `cache.update()`: the change of a source with its invalidation around it.

use std::{
    collections::HashSet,
    future::Future,
    hash::Hash,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::pin,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use larder_core::{Error, ErrorKind, Invalidated, Key, Result, Tag, ToKey};

use crate::{Cache, engine};

/// What changes with a source: keys and tags. [`run`](Self::run) changes it.
///
/// ```
/// # use larder::Cache;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cache = Cache::builder().namespace("shop").build().await?;
/// # async fn save() -> Result<u64, std::io::Error> { Ok(7) }
/// let saved = cache.update().key(("user", 7)).tag("users").run(|| async { save().await }).await?;
/// assert_eq!(saved.value, 7);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens until it is run"]
#[derive(Debug)]
pub struct Update<'a> {
    cache: &'a Cache,
    keys: Vec<Key>,
    tags: Vec<Tag>,
}

/// The source has been changed.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "`invalidated` says whether the other processes have been reached"]
pub struct Updated<T> {
    /// What the change returned.
    pub value: T,
    /// What was removed, and whether it has reached the remote tier: `Deferred` while that is away, and then it is done as
    /// soon as it is back. An error if that is not certain either, or if an argument was wrong.
    pub invalidated: Result<Invalidated>,
}

impl<'a> Update<'a> {
    pub(crate) fn new(cache: &'a Cache) -> Self {
        Self { cache, keys: Vec::new(), tags: Vec::new() }
    }

    /// One key, as a path below the namespace or a tuple of parts.
    pub fn key(self, key: impl ToKey) -> Self {
        self.keys([key])
    }

    /// Several keys.
    pub fn keys<K: ToKey>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        let prefix = &self.cache.engine.prefix;
        self.keys.extend(keys.into_iter().map(|key| Key::with_prefix(prefix, &key)));
        self
    }

    /// Every entry that carries a tag.
    pub fn tag(self, tag: impl Into<Tag>) -> Self {
        self.tags([tag])
    }

    /// Every entry that carries one of these tags.
    pub fn tags<T: Into<Tag>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Runs `change`, which changes the source *and commits it*, with the keys and tags on hold, and invalidates them.
    ///
    /// Under the hold readers in every process load and store nothing, so that none keeps what it read before the change;
    /// entries under the tags are misses meanwhile. Hold only what the change concerns. Two round trips before the change
    /// and one or two after it. Changes of the same key may run at the same time: the hold ends with the last of them.
    ///
    /// The invalidation happens however the change ends: if it fails, panics (the panic goes on) or this future is dropped
    /// (then in a task of its own), since the source may have been changed. If the process dies, the hold ends after 10 s
    /// and leaves a miss. If the remote tier does not answer, the change runs all the same and the invalidation is
    /// [`Deferred`](larder_core::Status::Deferred).
    ///
    /// # Errors
    /// That of `change`, and nothing else.
    pub async fn run<T, E, F, Fut>(mut self, change: F) -> std::result::Result<Updated<T>, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = std::result::Result<T, E>>,
    {
        let (keys, tags, mistake) = self.checked();
        let mut held = Box::pin(engine::Update::begin(&self.cache.engine, keys, tags)).await;
        let result = {
            let change = pin!(AssertUnwindSafe(async { change().await }).catch_unwind());
            let renewal = pin!(held.renew_for_ever());
            match select(change, renewal).await {
                Either::Left((result, _)) => result,
                Either::Right((never, _)) => match never {},
            }
        };
        let invalidated = Box::pin(held.end()).await;
        if let Err(error) = &invalidated {
            self.cache.engine.remote_fault(&self.cache.root, None, error);
        }
        let value = result.unwrap_or_else(|panic| resume_unwind(panic))?;
        let invalidated = invalidated.and_then(|invalidated| mistake.map_or(Ok(invalidated), Err));
        Ok(Updated { value, invalidated })
    }

    /// Keys and tags once each, and what is wrong with them.
    fn checked(&mut self) -> (Vec<Key>, Vec<Tag>, Option<Error>) {
        let (keys, mut tags) = (once_each(&mut self.keys), once_each(&mut self.tags));
        let named = tags.len();
        tags.retain(|tag| !tag.as_str().is_empty());
        let mistake = if tags.len() < named {
            Some("`tag` is empty; name the tag")
        } else if keys.is_empty() && tags.is_empty() {
            Some("nothing was named; call `key` or `tag` first")
        } else {
            None
        };
        (keys, tags, mistake.map(|message| Error::new(ErrorKind::InvalidArgument, "update", message)))
    }
}

fn once_each<T: Clone + Eq + Hash>(items: &mut Vec<T>) -> Vec<T> {
    let mut seen = HashSet::with_capacity(items.len());
    items.drain(..).filter(|item| seen.insert(item.clone())).collect()
}

impl Cache {
    /// Changes the source of keys and tags, with its invalidation around it; whatever the handle's prefix, it is about the
    /// whole namespace. See [`Update`].
    pub fn update(&self) -> Update<'_> {
        Update::new(self)
    }
}
