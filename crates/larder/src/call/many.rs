//! Reading many keys with one loader.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, IntoFuture},
    hash::Hash,
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use larder_core::{Key, Tag, ToKey};

use super::{Place, counted, erase_loaded, flight_id};
use crate::{
    Cache, Cacheable, LoadError, Loaded,
    engine::{Answers, BatchLoader, BatchRequest, LoadRequest, ReadOptions},
    outcome::Outcome,
    private::{Answer, in_types},
    value::{AnyError, ValueOps},
};

/// What a read of many keys answers for one of them: its value, that there is none, or why it could not be loaded.
pub type ManyAnswer<V, E> = Result<Option<Arc<V>>, LoadError<E>>;

/// What a batch's loader says of its keys: for each a value or an error. A key that it leaves out has no value.
pub type BatchOf<K, V, E> = HashMap<K, Result<Loaded<V>, E>>;

/// A read of many keys with one loader for those that are missing: options, then `.await` for a
/// [`ManyAnswer`] for each key, in the order in which they were given.
///
/// One pass over the near tier, one round trip to the remote tier for the rest, and one call of the loader for what is in
/// neither and what nobody else is loading. Loads of other callers are waited for. Each key stands for itself: an error
/// of one leaves the others alone. The loader runs in a task of its own: dropping the future stalls nobody, and what the
/// loader returns is stored all the same. It is called again for keys whose load by another process or caller did not come
/// about.
#[must_use = "a read does nothing until it is awaited"]
pub struct LoadMany<'a, K, V, E, F> {
    place: Place<'a>,
    keys: Vec<K>,
    loader: F,
    ops: &'static ValueOps,
    options: ReadOptions,
    tags: Vec<Tag>,
    types: PhantomData<fn() -> (V, E)>,
}

impl<'a, K, V, E, F, Fut> LoadMany<'a, K, V, E, F>
where
    K: ToKey + Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
{
    pub(crate) fn new(place: Place<'a>, keys: Vec<K>, loader: F, ops: &'static ValueOps) -> Self {
        Self { place, keys, loader, ops, options: ReadOptions::default(), tags: Vec::new(), types: PhantomData }
    }

    /// How long the values are fresh, in place of the strategy's TTL. Zero: they are not stored.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl = Some(ttl);
        self
    }

    /// Adds a tag to every value, at most [`MAX_TAGS`](larder_core::MAX_TAGS).
    pub fn tag(mut self, tag: impl Into<Tag>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Neither reads nor fills the near tier.
    pub fn skip_near(mut self) -> Self {
        self.options.skip_near = true;
        self
    }

    /// Neither reads nor fills the remote tier.
    pub fn skip_remote(mut self) -> Self {
        self.options.skip_remote = true;
        self
    }

    /// Loads all keys even if there are fresh values.
    pub fn force_refresh(mut self) -> Self {
        self.options.force_refresh = true;
        self
    }

    /// Values that are at hand are answered in place of errors, time-outs and overload.
    pub fn allow_stale(mut self) -> Self {
        self.options.allow_stale = true;
        self
    }

    /// How long the call waits at most, where that is less than the strategy's hard time-out. Keys that have not come by
    /// then answer [`TimedOut`](LoadError::TimedOut); their load goes on.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.options.deadline = Some(limit);
        self
    }

    /// Neither tier is filled with what this call loads.
    pub fn no_store(mut self) -> Self {
        self.options.no_store = true;
        self
    }

    async fn answers(self) -> Vec<Answer<V, E>> {
        let Self { place, keys, loader, ops, options, tags, .. } = self;
        let rendered = keys.iter().map(|key| place.key(key)).collect();
        let id = flight_id::<V, E>(place.region, ops, &options);
        let request = LoadRequest {
            engine: Arc::clone(&place.cache.engine),
            region: Arc::clone(place.region),
            // Each key's request has that key.
            key: Key::from_canonical(place.region.prefix.as_str()),
            ops,
            id,
            tags: LoadRequest::shared(tags),
            options,
        };
        load_many(request, rendered, erase(&keys, loader)).await
    }
}

/// Reads and loads many keys, which may repeat; answers in their order.
pub(crate) async fn load_many<V, E>(request: LoadRequest, keys: Vec<Key>, loader: BatchLoader) -> Vec<Answer<V, E>>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    if !request.engine.is_enabled() {
        return uncached(&loader, keys.len()).await;
    }
    // A key that was given twice is asked for once.
    let mut places: Vec<usize> = Vec::with_capacity(keys.len());
    let mut unique: Vec<Key> = Vec::with_capacity(keys.len());
    let mut first: Vec<usize> = Vec::with_capacity(keys.len());
    let mut known: HashMap<Key, usize> = HashMap::with_capacity(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        places.push(*known.entry(key).or_insert_with_key(|key| {
            unique.push(key.clone());
            first.push(index);
            unique.len() - 1
        }));
    }
    let loader: BatchLoader =
        Arc::new(move |wanted: Vec<usize>| loader(wanted.into_iter().map(|place| first[place]).collect()));
    let region = Arc::clone(&request.region);
    let results = BatchRequest { request, keys: unique, loader }.run().await;
    places.into_iter().map(|at| counted(&region, in_types(results[at].clone()))).collect()
}

/// A typed loader of places in a list of keys.
pub(crate) fn erase<K, V, E, F, Fut>(keys: &[K], loader: F) -> BatchLoader
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
{
    let keys: Arc<[K]> = keys.into();
    Arc::new(move |places: Vec<usize>| {
        let wanted: Vec<K> = places.iter().map(|&place| keys[place].clone()).collect();
        let loading = loader.clone()(wanted.clone());
        Box::pin(async move { in_order(&wanted, loading.await) })
    })
}

/// What the loader returned, for each of its keys.
fn in_order<K, V, E>(wanted: &[K], returned: Result<BatchOf<K, V, E>, E>) -> Answers
where
    K: Eq + Hash,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut found = match returned {
        Ok(found) => found,
        Err(error) => {
            let error = Arc::new(error) as AnyError;
            return wanted.iter().map(|_| Err(Arc::clone(&error))).collect();
        }
    };
    let answer = |key| match found.remove(key) {
        Some(Ok(loaded)) => Ok(erase_loaded(loaded)),
        Some(Err(error)) => Err(Arc::new(error) as AnyError),
        None => Ok(erase_loaded(Loaded::<V>::nothing())),
    };
    wanted.iter().map(answer).collect()
}

async fn uncached<V, E>(loader: &BatchLoader, keys: usize) -> Vec<Answer<V, E>>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let answers = loader((0..keys).collect()).await;
    let result = |answer: Result<crate::engine::LoadedAny, AnyError>| match answer {
        Ok(loaded) => in_types(Ok(Outcome::loaded(loaded.value.unwrap_or_else(|| Arc::new(crate::value::Absent))))),
        Err(error) => in_types(Err(crate::engine::Fault::Loader(error))),
    };
    answers.into_iter().map(result).collect()
}

impl<'a, K, V, E, F, Fut> IntoFuture for LoadMany<'a, K, V, E, F>
where
    K: ToKey + Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
{
    type Output = Vec<ManyAnswer<V, E>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answers = self.answers().await;
            answers.into_iter().map(|answer| answer.map(|outcome| outcome.value)).collect()
        })
    }
}

impl<K, V, E, F> fmt::Debug for LoadMany<'_, K, V, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadMany")
            .field("region", &self.place.region)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// The future of a batch's plain loader.
pub type BatchFuture<K, V, E> = BoxFuture<'static, Result<BatchOf<K, V, E>, E>>;

impl Cache {
    /// Reads many values, and loads those that are missing with one call; `.await` gives `Vec<ManyAnswer<V, E>>` in the
    /// order of the keys. A key that the loader leaves out has no value. See [`LoadMany`].
    ///
    /// ```
    /// # use std::{collections::HashMap, io, sync::Arc};
    /// # use larder::Cache;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cache = Cache::in_memory();
    /// let squares = cache
    ///     .get_or_load_many([2_u64, 3], |missing| async {
    ///         Ok::<_, io::Error>(missing.into_iter().map(|n| (n, n * n)).collect::<HashMap<_, _>>())
    ///     })
    ///     .await;
    /// assert_eq!(squares[1].as_ref().unwrap(), &Some(Arc::new(9)));
    /// # }
    /// ```
    #[expect(clippy::type_complexity, reason = "the loader's type cannot be named")]
    pub fn get_or_load_many<K, V, E, F, Fut>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> LoadMany<'_, K, V, E, impl FnOnce(Vec<K>) -> BatchFuture<K, V, E> + Clone + Send + Sync + 'static>
    where
        K: ToKey + Clone + Eq + Hash + Send + Sync + 'static,
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
    {
        LoadMany::new(self.place(), keys.into_iter().collect(), plain(loader), ValueOps::of::<V>())
    }

    /// The same for a loader that says for each key how its value is stored, or why there is none.
    pub fn get_or_load_many_with<K, V, E, F, Fut>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> LoadMany<'_, K, V, E, F>
    where
        K: ToKey + Clone + Eq + Hash + Send + Sync + 'static,
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
    {
        LoadMany::new(self.place(), keys.into_iter().collect(), loader, ValueOps::of::<V>())
    }
}

/// A loader that returns values, as one that also says how they are stored.
pub(crate) fn plain<K, V, E, F, Fut>(
    loader: F,
) -> impl FnOnce(Vec<K>) -> BatchFuture<K, V, E> + Clone + Send + Sync + 'static
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
{
    move |keys| {
        Box::pin(async move {
            let found = loader(keys).await?;
            Ok(found.into_iter().map(|(key, value)| (key, Ok(Loaded::new(value)))).collect())
        })
    }
}
