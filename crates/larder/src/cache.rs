//! The cache that applications hold.

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use larder_core::{Counter, Key, Pattern, Remaining, Result, Target, ToKey, Ttl};
use larder_invalidation::Invalidate;

use crate::{
    CacheBuilder, CacheInfo, Cacheable, Invalidated, LoadError, Loaded, Near, Previous, RegionBuilder, Stats,
    call::{Load, Place, Set, load_optional},
    engine::{Engine, RegionState, Written},
    raw::{Raw, RawValue},
    value::ValueOps,
};

/// How long [`Cache::shutdown`] waits.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// A cache: a typed near tier in this process and, where one is configured, a remote tier that processes share.
///
/// A handle; clones are the same cache. All methods may be called from many tasks at once. Methods that read and write
/// values degrade: a fault of the remote tier is counted, logged and treated as a miss; their `try_` twins tell it.
/// Invalidations and counters always return a `Result`.
#[derive(Clone)]
pub struct Cache {
    pub(crate) engine: Arc<Engine>,
    /// The namespace itself, or the prefix that this handle works below.
    pub(crate) root: Arc<RegionState>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.fmt(f)
    }
}

impl Cache {
    /// Starts to configure a cache.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// A near cache of 64 MiB in the namespace `larder`, without a remote tier.
    ///
    /// # Panics
    /// Never: the default settings are valid.
    #[must_use]
    pub fn in_memory() -> Self {
        CacheBuilder::default().near_only().expect("the default settings are valid")
    }

    /// A cache that stores nothing: every read is a miss and every load runs.
    #[must_use]
    pub fn disabled() -> Self {
        let cache = Self::in_memory();
        cache.set_enabled(false);
        cache
    }

    /// Turns the cache off or on at run time. What it holds stays and may be old when it is turned on again: clear it.
    pub fn set_enabled(&self, enabled: bool) {
        self.engine.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Whether the cache is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.engine.is_enabled()
    }

    /// Makes this the cache of cached functions in the whole process.
    ///
    /// # Errors
    /// If one was installed before.
    pub fn install_global(&self) -> Result<()> {
        crate::global::install(self)
    }

    /// The same cache below a prefix, a path such as `custom` or `api:binance`: `cache.prefix("custom").get("key")` reads
    /// `custom:key`. Keys, patterns, counters and statistics of the handle are those of the prefix; it is the
    /// [region](Self::region) of that name without its types. Prefixes and regions of a handle lie below its own:
    /// `cache.prefix("api").prefix("binance")` is `cache.prefix("api:binance")`.
    ///
    /// # Panics
    /// Never: a prefix has the policy of the cache, which is valid.
    #[must_use]
    pub fn prefix(&self, prefix: &str) -> Self {
        let name = self.name_below(prefix);
        let root = self.engine.region(&name).expect("the policy of the cache was checked when it was built");
        Self { engine: Arc::clone(&self.engine), root }
    }

    /// The name of a region below this handle's prefix.
    fn name_below(&self, name: &str) -> String {
        if Arc::ptr_eq(&self.root, &self.engine.root) {
            name.to_owned()
        } else if name.is_empty() {
            self.root.name.clone()
        } else {
            format!("{}:{name}", self.root.name)
        }
    }

    /// The same cache without its remote tier: for values that only live in this process, and need no serde.
    #[must_use]
    pub fn near(&self) -> Near<'_> {
        Near::new(self)
    }

    /// Bytes under a key as they are, without a codec.
    #[must_use]
    pub fn raw(&self) -> Raw<'_> {
        Raw::new(self)
    }

    /// Stores bytes as they are; `.await` answers whether they were stored.
    pub fn set_raw<K: ToKey>(&self, key: K, bytes: impl Into<Bytes>) -> Set<'_, K> {
        Set::new(self.place(), key, Arc::new(RawValue(bytes.into())), RawValue::ops())
    }

    /// A typed view of the keys below a prefix, that of this handle included.
    pub fn region<K: ToKey + ?Sized, V: Cacheable>(&self, name: &str) -> RegionBuilder<K, V> {
        RegionBuilder::new(self, &self.name_below(name))
    }

    /// Reads a value or loads it; `.await` gives `Result<Arc<V>, LoadError<E>>`. See [`Load`].
    #[expect(clippy::type_complexity, reason = "the loader's type cannot be named, and boxing it would cost every hit")]
    pub fn get_or_load<K, V, E, F, Fut>(
        &self,
        key: K,
        loader: F,
    ) -> Load<'_, K, V, E, impl FnOnce(Option<Previous<V>>) -> LoadedFuture<V, E> + Send + 'static>
    where
        K: ToKey,
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        Load::new(self.place(), key, plain(loader), ValueOps::of::<V>())
    }

    /// The same for a loader that says how its value is stored: TTL, tags, or not at all.
    pub fn get_or_load_with<K, V, E, F, Fut>(
        &self,
        key: K,
        loader: F,
    ) -> Load<'_, K, V, E, impl FnOnce(Option<Previous<V>>) -> Fut + Send + 'static>
    where
        K: ToKey,
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        Load::new(self.place(), key, |_| loader(), ValueOps::of::<V>())
    }

    /// The same for a loader that can use the value it is to replace, where there is one that may still be served: it may
    /// ask its source whether that has changed, and return [`Previous::not_modified`].
    pub fn get_or_revalidate<K, V, E, F, Fut>(&self, key: K, loader: F) -> Load<'_, K, V, E, F>
    where
        K: ToKey,
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        Load::new(self.place(), key, loader, ValueOps::of::<V>())
    }

    /// The same for a value that may not exist: its absence is remembered if the strategy says so (`cache_none`).
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn get_or_load_optional<K, V, E, F, Fut>(
        &self,
        key: K,
        loader: F,
    ) -> std::result::Result<Option<Arc<V>>, LoadError<E>>
    where
        K: ToKey,
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        let loader = move |_| async move { Ok(Loaded::optional(loader().await?)) };
        let load = Load::<_, V, E, _>::new(self.place(), key, loader, ValueOps::of::<V>());
        Ok(load_optional(load).await?.value)
    }

    /// Reads or loads with a loader that borrows. The caller itself runs it: when its future is dropped, the next caller
    /// that waits for the key loads in its place.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn get_or_load_inline<'a, K, V, E, F, Fut>(
        &self,
        key: K,
        loader: F,
    ) -> std::result::Result<Arc<V>, LoadError<E>>
    where
        K: ToKey,
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<V, E>> + Send + 'a,
    {
        let outcome = crate::call::inline::<V, E, _, _>(self.place(), &key, loader).await?;
        outcome.value.ok_or_else(|| LoadError::Panicked("the key holds the absence of a value".into()))
    }

    /// Reads many values: one look into the near tier, one round trip for the rest. Answers in the order of the keys.
    pub async fn get_many<K: ToKey, V: Cacheable>(&self, keys: &[K]) -> Vec<Option<Arc<V>>> {
        crate::batch::get_many(self.place(), keys, ValueOps::of::<V>(), false).await.unwrap_or_else(|error| {
            crate::events::degraded("get_many", &error);
            vec![None; keys.len()]
        })
    }

    /// Reads many values.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn try_get_many<K: ToKey, V: Cacheable>(&self, keys: &[K]) -> Result<Vec<Option<Arc<V>>>> {
        crate::batch::get_many(self.place(), keys, ValueOps::of::<V>(), true).await
    }

    /// Writes many values in one round trip; answers how many were stored. `ttl` as in [`Set::ttl`]; `None` leaves it to
    /// the strategy.
    pub async fn set_many<K: ToKey, V: Cacheable>(
        &self,
        items: impl IntoIterator<Item = (K, V)>,
        ttl: Option<Duration>,
    ) -> usize {
        let written = crate::batch::set_many(self.place(), items, ttl).await.unwrap_or_else(|error| {
            crate::events::degraded("set_many", &error);
            Written::default()
        });
        written.stored
    }

    /// Writes many values in one round trip.
    ///
    /// # Errors
    /// The first of the remote tier; the other values may be stored. While it is away,
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable), as from [`TrySet`](crate::TrySet).
    pub async fn try_set_many<K: ToKey, V: Cacheable>(
        &self,
        items: impl IntoIterator<Item = (K, V)>,
        ttl: Option<Duration>,
    ) -> Result<usize> {
        let written = crate::batch::set_many(self.place(), items, ttl).await?;
        if written.stood_in > 0 { Err(self.engine.away("set_many")) } else { Ok(written.stored) }
    }

    /// Whether the key is there, in either tier.
    pub async fn exists<K: ToKey>(&self, key: K) -> bool {
        self.try_ttl(key)
            .await
            .unwrap_or_else(|error| {
                crate::events::degraded("exists", &error);
                None
            })
            .is_some()
    }

    /// Whether the key is there, in either tier.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn try_exists<K: ToKey>(&self, key: K) -> Result<bool> {
        Ok(self.try_ttl(key).await?.is_some())
    }

    /// How long a key has left; `None` if it is not there.
    pub async fn ttl<K: ToKey>(&self, key: K) -> Option<Remaining> {
        self.try_ttl(key).await.unwrap_or_else(|error| {
            crate::events::degraded("ttl", &error);
            None
        })
    }

    /// How long a key has left; `None` if it is not there.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn try_ttl<K: ToKey>(&self, key: K) -> Result<Option<Remaining>> {
        self.engine.ttl(&self.place().key(&key)).await
    }

    /// Changes how long a key lives from now on; zero removes it. Answers whether it was there.
    ///
    /// # Errors
    /// Those of the remote tier. The near copy is gone in any case.
    pub async fn expire<K: ToKey>(&self, key: K, ttl: Duration) -> Result<bool> {
        self.engine.expire(&self.root, &self.place().key(&key), Ttl::For(ttl)).await
    }

    /// A key no longer expires. Answers whether it was there.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn persist<K: ToKey>(&self, key: K) -> Result<bool> {
        self.engine.expire(&self.root, &self.place().key(&key), Ttl::Forever).await
    }

    /// Gives a key the strategy's TTL again. Answers whether it was there.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn touch<K: ToKey>(&self, key: K) -> Result<bool> {
        let ttl = self.root.strategy.ttl;
        self.engine.expire(&self.root, &self.place().key(&key), Ttl::For(ttl)).await
    }

    /// Removes a key from both tiers; answers whether it was in one. A fault of the remote tier answers `false`.
    pub async fn delete<K: ToKey>(&self, key: K) -> bool {
        self.try_delete(key).await.unwrap_or_else(|error| {
            crate::events::degraded("delete", &error);
            false
        })
    }

    /// Removes a key from both tiers; answers whether it was in one.
    ///
    /// # Errors
    /// Those of the remote tier: the key may still be there. The near copy is gone in any case.
    pub async fn try_delete<K: ToKey>(&self, key: K) -> Result<bool> {
        Ok(self.engine.delete(&self.root, &[self.place().key(&key)]).await? > 0)
    }

    /// Removes keys from both tiers in one round trip; answers how many there were.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn delete_many<K: ToKey>(&self, keys: impl IntoIterator<Item = K>) -> Result<u64> {
        let keys: Vec<Key> = keys.into_iter().map(|key| self.place().key(&key)).collect();
        self.engine.delete(&self.root, &keys).await
    }

    /// Removes every key that matches a glob, such as `user:*`, below this handle's namespace and prefix. O(size of the
    /// store), in pages.
    ///
    /// # Errors
    /// For an empty glob or a bare `*`, and those of the remote tier.
    pub async fn delete_pattern(&self, glob: &str) -> Result<Invalidated> {
        let target = Target::Pattern(Pattern::new(glob)?.within(self.root.prefix.as_str()));
        larder_core::InvalidationSink::invalidate(self, target).await
    }

    /// Invalidates everything that was written through this handle and those below its prefix, in both tiers and in the other
    /// processes. O(1) in the remote tier: one marker is removed, and the bytes go with their TTL, or when they are loaded
    /// anew. Counters and locks stay. O(entries) in the near tier.
    ///
    /// # Errors
    /// Those of the remote tier.
    pub async fn clear(&self) -> Result<Invalidated> {
        larder_core::InvalidationSink::invalidate(self, Target::Region(self.root.prefix.as_str().to_owned())).await
    }

    /// Starts an invalidation; whatever the handle's prefix, it is about the whole namespace.
    pub fn invalidate(&self) -> Invalidate<'_> {
        Invalidate::new(self)
    }

    /// Ends the cache's work within 10 s: see [`shutdown_within`](Self::shutdown_within).
    pub async fn shutdown(&self) -> usize {
        self.shutdown_within(SHUTDOWN_LIMIT).await
    }

    /// Turns the cache off, waits until the loads under way have ended and what they loaded is stored, at most `limit`, and
    /// aborts the rest; then the tasks of upkeep and bus end too. Answers how many loads were aborted: callers that wait for
    /// one get [`LoadError::TimedOut`].
    ///
    /// Calls that come afterwards find nothing and run their loaders themselves. Dropping the future leaves the cache turned
    /// off and the loads running. A cache that is dropped without this lets its loads run to their end, which comes after
    /// the strategy's `max_load` at the latest.
    pub async fn shutdown_within(&self, limit: Duration) -> usize {
        self.set_enabled(false);
        let aborted = self.engine.drain(limit).await;
        self.engine.end_tasks();
        aborted
    }

    /// Adds `amount` to a counter and answers the new count. A counter that is not there starts at 0.
    ///
    /// # Errors
    /// Those of the remote tier, overflow, and a key that holds something else.
    pub async fn increment<K: ToKey>(&self, key: K, amount: i64) -> Result<i64> {
        self.increment_with_ttl(key, amount, None).await
    }

    /// The same; a counter that this call makes lives for `ttl`.
    ///
    /// # Errors
    /// As [`increment`](Self::increment).
    pub async fn increment_with_ttl<K: ToKey>(&self, key: K, amount: i64, ttl: Option<Duration>) -> Result<i64> {
        let key = self.place().key(&key);
        let counter = self.counters("increment")?;
        self.engine.within(self.root.strategy.remote_deadline, counter.increment(&key, amount, ttl)).await
    }

    /// A counter's value; `None` if there is no such counter.
    ///
    /// # Errors
    /// As [`increment`](Self::increment).
    pub async fn counter<K: ToKey>(&self, key: K) -> Result<Option<i64>> {
        let key = self.place().key(&key);
        let counter = self.counters("counter")?;
        self.engine.within(self.root.strategy.remote_deadline, counter.count(&key)).await
    }

    fn counters(&self, operation: &'static str) -> Result<&dyn Counter> {
        self.engine.store().counter_power(operation)
    }

    /// The keys below this handle's namespace and prefix that match a glob, at most `limit`, canonical. O(size of the store).
    ///
    /// # Errors
    /// For an empty glob or a bare `*`, and those of the remote tier.
    pub async fn keys(&self, glob: &str, limit: usize) -> Result<Vec<Key>> {
        let pattern = Pattern::new(glob)?.within(self.root.prefix.as_str());
        self.engine.list(&pattern, limit).await
    }

    /// What the cache has done, all regions and cached functions together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Sets all figures to zero.
    pub fn clear_stats(&self) {
        self.engine.clear_stats();
    }

    /// The figures of every region and cached function that was used, by name.
    #[must_use]
    pub fn regions(&self) -> Vec<CacheInfo> {
        let engine = &self.engine;
        let mut states: Vec<Arc<RegionState>> = engine.regions.lock().values().cloned().collect();
        states.extend(engine.sites.all().cloned());
        let mut infos: Vec<CacheInfo> =
            states.iter().map(|state| self.info_of(state, |key| key.starts_with(state.prefix.as_str()))).collect();
        infos.sort_by(|one, other| one.name.cmp(&other.name));
        infos
    }

    pub(crate) fn info_of(&self, state: &RegionState, named: impl Fn(&str) -> bool) -> CacheInfo {
        let mut entries = 0;
        let now = self.engine.timer.now();
        self.engine.near.for_each(|key, entry| {
            entries += u64::from(now < entry.stale_until && named(key));
        });
        CacheInfo { name: state.name.clone(), ttl: state.strategy.ttl, entries, stats: state.counters.stats() }
    }

    /// The namespace, as it was configured.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.engine.prefix.trim_end_matches(':')
    }

    /// The canonical key of a user's key.
    #[must_use]
    pub fn key<K: ToKey>(&self, key: K) -> Key {
        self.place().key(&key)
    }

    pub(crate) fn of(engine: Arc<Engine>) -> Self {
        Self { root: Arc::clone(&engine.root), engine }
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place::new(self, &self.root)
    }
}

/// The future of a plain loader whose value is stored as the strategy says.
pub type LoadedFuture<V, E> = futures_util::future::BoxFuture<'static, Result<Loaded<V>, E>>;

pub(crate) fn plain<V, E, F, Fut>(loader: F) -> impl FnOnce(Option<Previous<V>>) -> LoadedFuture<V, E> + Send + 'static
where
    V: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
{
    move |_| Box::pin(async move { loader().await.map(Loaded::new) })
}
