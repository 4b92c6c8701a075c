//! The cache without its remote tier: for values that need no serde.

use std::{future::Future, sync::Arc};

use larder_core::{Result, ToKey};

use crate::{
    Cache, Loaded, Previous,
    cache::{LoadedFuture, plain},
    call::{Get, Load, Set},
    value::ValueOps,
};

/// The near tier of a cache, with the cache's own interface. Values need only be `Send + Sync + 'static`.
///
/// It shares keys with the cache: an entry that was written here is read as the near copy there.
#[derive(Debug, Clone, Copy)]
pub struct Near<'a> {
    cache: &'a Cache,
}

impl<'a> Near<'a> {
    pub(crate) fn new(cache: &'a Cache) -> Self {
        Self { cache }
    }

    /// Reads a value; `.await` gives `Option<Arc<V>>` without suspending.
    pub fn get<K: ToKey, V: Send + Sync + 'static>(&self, key: K) -> Get<'a, K, V> {
        Get::new(self.cache.place(), key, ValueOps::near::<V>()).skip_remote()
    }

    /// Writes a value.
    pub fn set<K: ToKey, V: Send + Sync + 'static>(&self, key: K, value: V) -> Set<'a, K> {
        self.set_arc(key, Arc::new(value))
    }

    /// Writes a value that is shared already.
    pub fn set_arc<K: ToKey, V: Send + Sync + 'static>(&self, key: K, value: Arc<V>) -> Set<'a, K> {
        Set::new(self.cache.place(), key, value, ValueOps::near::<V>()).skip_remote()
    }

    /// Reads a value or loads it; `.await` gives `Result<Arc<V>, LoadError<E>>`.
    #[expect(clippy::type_complexity, reason = "the loader's type cannot be named, and boxing it would cost every hit")]
    pub fn get_or_load<K, V, E, F, Fut>(
        &self,
        key: K,
        loader: F,
    ) -> Load<'a, K, V, E, impl FnOnce(Option<Previous<V>>) -> LoadedFuture<V, E> + Send + 'static>
    where
        K: ToKey,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        Load::new(self.cache.place(), key, plain(loader), ValueOps::near::<V>()).skip_remote()
    }

    /// The same for a loader that says how its value is stored.
    pub fn get_or_load_with<K, V, E, F, Fut>(
        &self,
        key: K,
        loader: F,
    ) -> Load<'a, K, V, E, impl FnOnce(Option<Previous<V>>) -> Fut + Send + 'static>
    where
        K: ToKey,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        Load::new(self.cache.place(), key, |_| loader(), ValueOps::near::<V>()).skip_remote()
    }
}
