//! A typed view of the keys below a prefix, with a policy of its own.

use std::{collections::HashMap, fmt, future::Future, hash::Hash, marker::PhantomData, sync::Arc, time::Duration};

use larder_core::{InvalidationSink, Key, Remaining, Result, SetOutcome, Target, ToKey, Ttl};
use larder_strategy::Strategy;

use crate::{
    Cache, CacheInfo, Cacheable, Invalidated, Loaded, Previous,
    cache::{LoadedFuture, plain},
    call::{BatchFuture, Get, Load, LoadMany, Place, Set, TryGet, TrySet, batch},
    engine::{RegionState, Weigher, region_prefix},
    value::ValueOps,
};

/// A typed view of a cache: key prefix, key type, value type, strategy, statistics. Cheap to clone.
pub struct Region<K: ?Sized, V> {
    cache: Cache,
    state: Arc<RegionState>,
    types: PhantomData<fn(&K) -> V>,
}

impl<K: ?Sized, V> Clone for Region<K, V> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), state: Arc::clone(&self.state), types: PhantomData }
    }
}

impl<K: ?Sized, V> fmt::Debug for Region<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("name", &self.state.name).finish_non_exhaustive()
    }
}

/// Configures a [`Region`].
#[must_use = "a region is made by `build`"]
pub struct RegionBuilder<K: ?Sized, V> {
    cache: Cache,
    name: String,
    strategy: Option<Strategy>,
    ttl: Option<Duration>,
    weigher: Option<Weigher>,
    types: PhantomData<fn(&K) -> V>,
}

impl<K: ?Sized, V> fmt::Debug for RegionBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: ToKey + ?Sized, V: Cacheable> RegionBuilder<K, V> {
    pub(crate) fn new(cache: &Cache, name: &str) -> Self {
        Self {
            cache: cache.clone(),
            name: name.to_owned(),
            strategy: None,
            ttl: None,
            weigher: None,
            types: PhantomData,
        }
    }

    /// The policy; the cache's own without it.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// The TTL, in place of the strategy's.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How many bytes a value takes in memory, where it has not been encoded.
    pub fn weigher(mut self, bytes: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(move |value| value.downcast_ref::<V>().map_or(0, &bytes)));
        self
    }

    /// Makes the region. Regions of one name share their statistics; the first one's policy counts for all.
    ///
    /// # Errors
    /// For a name that is empty, and a strategy that is not valid.
    pub fn build(self) -> Result<Region<K, V>> {
        let engine = &self.cache.engine;
        if self.name.is_empty() {
            return Err(larder_core::Error::config("region", "a region needs a name, such as `users`"));
        }
        let mut strategy = self.strategy.unwrap_or_else(|| engine.root.strategy.clone());
        if let Some(ttl) = self.ttl {
            strategy = strategy.ttl(ttl);
        }
        let prefix = region_prefix(&engine.prefix, &self.name);
        let mut state = RegionState::new(&self.name, prefix, &self.name, strategy)?;
        state.weigher = self.weigher;
        let state = Arc::clone(engine.regions.lock().entry(self.name).or_insert_with(|| Arc::new(state)));
        Ok(Region { cache: self.cache, state, types: PhantomData })
    }
}

impl<K: ToKey + ?Sized, V: Cacheable> Region<K, V> {
    fn place(&self) -> Place<'_> {
        Place::new(&self.cache, &self.state)
    }

    /// Reads a value; `.await` gives `Option<Arc<V>>`.
    pub fn get<'a>(&'a self, key: &'a K) -> Get<'a, &'a K, V> {
        Get::new(self.place(), key, ValueOps::of::<V>())
    }

    /// Reads a value; `.await` gives `Result<Option<Arc<V>>>`.
    pub fn try_get<'a>(&'a self, key: &'a K) -> TryGet<'a, &'a K, V> {
        TryGet(self.get(key))
    }

    /// Writes a value; `.await` answers whether it was stored.
    pub fn set<'a>(&'a self, key: &'a K, value: V) -> Set<'a, &'a K> {
        Set::new(self.place(), key, Arc::new(value), ValueOps::of::<V>())
    }

    /// Writes a value; `.await` gives `Result<SetOutcome>`.
    pub fn try_set<'a>(&'a self, key: &'a K, value: V) -> TrySet<'a, &'a K> {
        TrySet::new(self.set(key, value))
    }

    /// Writes a value if the key is absent.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn add(&self, key: &K, value: V) -> Result<SetOutcome> {
        self.try_set(key, value).only_if_absent().await
    }

    /// Reads a value or loads it; `.await` gives `Result<Arc<V>, LoadError<E>>`.
    #[expect(clippy::type_complexity, reason = "the loader's type cannot be named, and boxing it would cost every hit")]
    pub fn get_or_load<'a, E, F, Fut>(
        &'a self,
        key: &'a K,
        loader: F,
    ) -> Load<'a, &'a K, V, E, impl FnOnce(Option<Previous<V>>) -> LoadedFuture<V, E> + Send + 'static>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        Load::new(self.place(), key, plain(loader), ValueOps::of::<V>())
    }

    /// The same for a loader that says how its value is stored.
    pub fn get_or_load_with<'a, E, F, Fut>(
        &'a self,
        key: &'a K,
        loader: F,
    ) -> Load<'a, &'a K, V, E, impl FnOnce(Option<Previous<V>>) -> Fut + Send + 'static>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        Load::new(self.place(), key, |_| loader(), ValueOps::of::<V>())
    }

    /// The same for a loader that can use the value it is to replace; see
    /// [`Cache::get_or_revalidate`](crate::Cache::get_or_revalidate).
    pub fn get_or_revalidate<'a, E, F, Fut>(&'a self, key: &'a K, loader: F) -> Load<'a, &'a K, V, E, F>
    where
        E: Send + Sync + 'static,
        F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        Load::new(self.place(), key, loader, ValueOps::of::<V>())
    }

    /// Reads many values, and loads those that are missing with one call; see
    /// [`Cache::get_or_load_many`](crate::Cache::get_or_load_many).
    #[expect(clippy::type_complexity, reason = "the loader's type cannot be named")]
    pub fn get_or_load_many<'a, E, F, Fut>(
        &'a self,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> LoadMany<'a, K, V, E, impl FnOnce(Vec<K>) -> BatchFuture<K, V, E> + Clone + Send + Sync + 'static>
    where
        K: Clone + Eq + Hash + Send + Sync + Sized + 'static,
        E: Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
    {
        LoadMany::new(self.place(), keys.into_iter().collect(), batch(loader), ValueOps::of::<V>())
    }

    /// How long a key has left.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn ttl(&self, key: &K) -> Result<Option<Remaining>> {
        self.cache.engine.ttl(&self.place().key(key)).await
    }

    /// Changes how long a key lives from now on; answers whether it was there.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn expire(&self, key: &K, ttl: Duration) -> Result<bool> {
        self.cache.engine.expire(&self.state, &self.place().key(key), Ttl::For(ttl)).await
    }

    /// Removes a key; answers whether it was there.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn delete(&self, key: &K) -> Result<bool> {
        Ok(self.cache.engine.delete(&self.state, &[self.place().key(key)]).await? > 0)
    }

    /// Invalidates every entry of the region and of those below it, in both tiers and in the other processes. O(1) in the
    /// remote tier: one marker is removed, and the bytes go with their TTL, or when they are loaded anew.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn clear(&self) -> Result<Invalidated> {
        InvalidationSink::invalidate(&self.cache, Target::Region(self.state.prefix.as_str().to_owned())).await
    }

    /// The region's figures.
    #[must_use]
    pub fn info(&self) -> CacheInfo {
        self.cache.info_of(&self.state, |key| key.starts_with(self.state.prefix.as_str()))
    }

    /// The canonical key of a user's key.
    #[must_use]
    pub fn key(&self, key: &K) -> Key {
        self.place().key(key)
    }
}
