//! What the attribute macros expand to. Not part of the public interface: it changes without notice.

use std::{
    fmt,
    future::Future,
    hash::Hash,
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub use larder_core::{Key, KeyBuf, KeyPart, Pattern, Tag, ToKey};
use larder_core::{Result, Target};
use larder_memory::AnyValue;
pub use larder_strategy::{Strategy, presets};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Cache, CacheInfo, Cacheable, Invalidated,
    call::{Slow, erase, erase_batch, flight_id, load_many},
    engine::{Fault, FlightResult, LoadRequest, NearRead, ReadOptions, RegionState, provenance, region_prefix},
    global,
    stats::Event,
    value::{Absent, AnyError, Failed, ValueOps},
};
pub use crate::{
    call::BatchOf,
    load_error::{ErrorSlot, LoadError, LoadFault, SharedError},
    loaded::Loaded,
    outcome::Outcome,
    specialise,
};

const CHUNK: usize = 64;
const CHUNKS: usize = 256;

static NEXT_SITE: AtomicUsize = AtomicUsize::new(0);

/// How a cached function's key is made.
#[derive(Debug, Clone, Copy)]
pub enum KeyStyle {
    /// From module, function and every argument; the text is that of the signature.
    Default {
        /// Argument types and return type, as written.
        fingerprint: &'static str,
    },
    /// From a template such as `ticker:{symbol}`.
    Template(&'static str),
    /// By a function.
    Function,
}

/// What is known of a cached function when it is compiled.
#[derive(Debug)]
pub struct SiteSpec {
    /// `module_path!()`.
    pub module: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// The region, if one was named.
    pub region: Option<&'static str>,
    /// The policy.
    pub strategy: Strategy,
    /// How the key is made.
    pub key: KeyStyle,
    /// Whether only the near tier is used.
    pub near_only: bool,
}

/// One cached function.
pub struct Site {
    spec: fn() -> SiteSpec,
    number: OnceLock<usize>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("number", &self.number.get()).finish_non_exhaustive()
    }
}

/// What a cache knows of the cached functions that were called on it: found by number, without a lock.
pub(crate) struct Sites {
    chunks: Box<[OnceLock<Chunk>]>,
}

type Chunk = Box<[OnceLock<Arc<RegionState>>]>;

impl Default for Sites {
    fn default() -> Self {
        Self { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }
}

impl Sites {
    #[inline]
    fn get(&self, number: usize) -> &OnceLock<Arc<RegionState>> {
        let chunk = self.chunks[number / CHUNK].get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        &chunk[number % CHUNK]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<RegionState>> {
        self.chunks.iter().filter_map(OnceLock::get).flat_map(|chunk| chunk.iter().filter_map(OnceLock::get))
    }
}

impl Site {
    /// A cached function.
    #[must_use]
    pub const fn new(spec: fn() -> SiteSpec) -> Self {
        Self { spec, number: OnceLock::new() }
    }

    #[inline]
    fn state<'c>(&'static self, cache: &'c Cache) -> &'c Arc<RegionState> {
        let number = *self.number.get_or_init(|| {
            let number = NEXT_SITE.fetch_add(1, Ordering::Relaxed);
            assert!(number < CHUNK * CHUNKS, "at most {} functions can be cached in one program", CHUNK * CHUNKS);
            number
        });
        cache.engine.sites.get(number).get_or_init(|| Arc::new(self.make(cache)))
    }

    #[cold]
    fn make(&self, cache: &Cache) -> RegionState {
        let spec = (self.spec)();
        let mut strategy = spec.strategy.clone();
        if spec.near_only {
            strategy = strategy.tiers(larder_strategy::Tiers::Near);
        }
        let region = spec.region.map_or_else(|| strategy.region.to_string(), str::to_owned);
        let mut prefix = region_prefix(&cache.engine.prefix, &region);
        if let KeyStyle::Default { fingerprint } = spec.key {
            let mut head = KeyBuf::with_prefix(&prefix);
            head.part(&format!("{}.{}", spec.module.replace("::", "."), spec.function.replace("::", ".")));
            head.push_raw(&format!("#{:08x}:", xxh3_64(fingerprint.as_bytes()) & 0xffff_ffff));
            head.finish();
            head.as_str().clone_into(&mut prefix);
        }
        let name = format!("{}::{}", spec.module, spec.function);
        RegionState::new(&name, prefix, &region, strategy)
            .unwrap_or_else(|error| panic!("the attribute on `{name}` is wrong: {error}"))
    }

    /// What the function's keys have in common.
    fn pattern(&'static self, cache: &Cache) -> Target {
        let state = self.state(cache);
        match (self.spec)().key {
            KeyStyle::Template(template) => match template.split_once('{') {
                None => Target::Keys(vec![Key::with_prefix(&state.prefix, template)]),
                Some((head, _)) => {
                    let mut prefix = KeyBuf::with_prefix(&state.prefix);
                    prefix.path(head);
                    prefix.finish();
                    Target::Pattern(Pattern::prefix(prefix.as_str()))
                }
            },
            KeyStyle::Default { .. } | KeyStyle::Function => Target::Region(state.prefix.clone()),
        }
    }

    /// The function's figures.
    pub fn info(&'static self, cache: Option<&Cache>) -> CacheInfo {
        on(cache, |cache| {
            let state = self.state(cache);
            let keys = self.pattern(cache);
            cache.info_of(state, |key| keys.matches(key))
        })
    }

    /// Drops what the function has cached, in both tiers. With a key function that shares its region with others, the
    /// whole region.
    ///
    /// # Errors
    /// Those of an invalidation.
    pub async fn clear(&'static self, cache: Option<&Cache>) -> Result<Invalidated> {
        let (cache, target) = on(cache, |cache| (cache.clone(), self.pattern(cache)));
        larder_core::InvalidationSink::invalidate(&cache, target).await
    }

    /// The key of a call.
    pub fn key(&'static self, cache: Option<&Cache>, render: impl FnOnce(&mut KeyBuf)) -> Key {
        on(cache, |cache| {
            let mut key = KeyBuf::with_prefix(&self.state(cache).prefix);
            render(&mut key);
            key.to_key()
        })
    }
}

#[inline]
fn on<R>(cache: Option<&Cache>, action: impl FnOnce(&Cache) -> R) -> R {
    match cache {
        Some(cache) => action(cache),
        None => global::with_current(action),
    }
}

/// What the near tier says about a call.
#[derive(Debug)]
pub enum Lookup<V> {
    /// A value, or the knowledge that there is none.
    Found(Outcome<Option<Arc<V>>>),
    /// The loader failed a moment ago, with this error.
    Failed(Arc<dyn std::any::Any + Send + Sync>),
    /// Nothing that can be used.
    Miss(Miss),
    /// A value that is to be refreshed in the background, by [`Miss::refresh`].
    Refresh(Outcome<Option<Arc<V>>>, Miss),
}

/// A call that the near tier has no fresh answer for.
#[derive(Debug)]
pub struct Miss {
    cache: Cache,
    region: Arc<RegionState>,
    key: Key,
    /// When the value was loaded that is to be refreshed.
    loaded_at: larder_core::Tick,
    patient: bool,
    /// The function always returns a value: that there is none is no answer.
    required: bool,
}

/// Looks into the near tier: no allocation, no lock that outlives it. `optional`: the function may return that there is no
/// value.
#[inline]
pub fn lookup<V: Send + Sync + 'static>(
    site: &'static Site,
    cache: Option<&Cache>,
    optional: bool,
    render: impl FnOnce(&mut KeyBuf),
) -> Lookup<V> {
    on(cache, |cache| {
        let region = site.state(cache);
        // Built in place: the buffer is too large to be moved for nothing.
        let mut key = KeyBuf::new();
        key.push_raw(&region.prefix);
        render(&mut key);
        key.finish();
        let engine = &cache.engine;
        let miss = |loaded_at| Miss {
            cache: cache.clone(),
            region: Arc::clone(region),
            key: key.to_key(),
            loaded_at,
            patient: false,
            required: !optional,
        };
        if !engine.is_enabled() || !region.strategy.tiers.uses_near() {
            return Lookup::Miss(miss(larder_core::Tick::ZERO));
        }
        let now = engine.timer.now();
        let (entry, refresh) = match engine.near_read(key.as_str(), now) {
            NearRead::Fresh(entry) | NearRead::Stale(entry) => (entry, false),
            NearRead::Refresh(entry) if now >= entry.fresh_until && region.strategy.soft_timeout.is_some() => {
                return Lookup::Miss(miss(larder_core::Tick::ZERO));
            }
            NearRead::Refresh(entry) => (entry, true),
            NearRead::Miss => return Lookup::Miss(miss(larder_core::Tick::ZERO)),
        };
        let outcome = provenance(&entry, now);
        let loaded_at = entry.meta.loaded_at;
        let found = match typed::<V>(entry.value) {
            Typed::Value(value) => Some(value),
            Typed::Absent if optional => None,
            // Another function's, which may return that there is no value.
            Typed::Absent => return Lookup::Miss(miss(larder_core::Tick::ZERO)),
            Typed::Failed(error) => {
                region.counters.count(Event::NearHit);
                return Lookup::Failed(error);
            }
            Typed::Other => {
                region.counters.count(Event::WrongType);
                crate::events::wrong_type(key.as_str(), std::any::type_name::<V>());
                return Lookup::Miss(miss(larder_core::Tick::ZERO));
            }
        };
        count_hit(region, outcome.stale);
        let outcome = outcome.map(|()| found);
        if refresh { Lookup::Refresh(outcome, miss(loaded_at)) } else { Lookup::Found(outcome) }
    })
}

/// Forgets a remembered failure whose error can be handed out only once, and was: the next call loads.
pub fn forget_failure(site: &'static Site, cache: Option<&Cache>, render: impl FnOnce(&mut KeyBuf)) {
    on(cache, |cache| {
        let mut key = KeyBuf::with_prefix(&site.state(cache).prefix);
        render(&mut key);
        let key = key.to_key();
        let engine = &cache.engine;
        if engine.near.get(key.as_str()).is_some_and(|entry| entry.value.is::<Failed>()) {
            engine.forget(&key);
        }
    });
}

#[inline]
pub(crate) fn count_hit(region: &RegionState, stale: bool) {
    region.counters.count(Event::NearHit);
    if stale {
        region.counters.count(Event::StaleHit);
    }
}

/// A value of the near tier, in its type.
pub(crate) enum Typed<V> {
    Value(Arc<V>),
    Absent,
    Failed(AnyError),
    Other,
}

#[inline(always)]
pub(crate) fn typed<V: Send + Sync + 'static>(value: AnyValue) -> Typed<V> {
    match value.downcast::<V>() {
        Ok(value) => Typed::Value(value),
        Err(other) if other.is::<Absent>() => Typed::Absent,
        Err(other) => match other.downcast::<Failed>() {
            Ok(failed) => Typed::Failed(Arc::clone(&failed.0)),
            Err(_) => Typed::Other,
        },
    }
}

impl Miss {
    fn request<V: 'static, E: 'static>(&self, ops: &'static ValueOps, tags: Vec<Tag>) -> LoadRequest {
        let options = ReadOptions { patient: self.patient, required: self.required, ..ReadOptions::default() };
        self.request_with::<V, E>(ops, tags, options)
    }

    fn request_with<V: 'static, E: 'static>(
        &self,
        ops: &'static ValueOps,
        tags: Vec<Tag>,
        options: ReadOptions,
    ) -> LoadRequest {
        LoadRequest {
            engine: Arc::clone(&self.cache.engine),
            region: Arc::clone(&self.region),
            key: self.key.clone(),
            ops,
            id: flight_id::<V, E>(ops, &options),
            tags: tags.into(),
            options,
        }
    }

    /// Whether to wait for the load for as long as it takes: its callers could not be told of a time-out.
    #[must_use]
    pub fn patient(mut self, patient: bool) -> Self {
        self.patient = patient;
        self
    }

    /// Loads in a task of its own; both tiers.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let request = self.request::<V, E>(ValueOps::of::<V>(), tags);
        Slow::load(request, |_| loader()).await
    }

    /// Loads in a task of its own; near tier only.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load_near<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let request = self.request::<V, E>(ValueOps::near::<V>(), tags);
        Slow::load(request, |_| loader()).await
    }

    /// Refreshes in the background; both tiers.
    pub fn refresh<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F)
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        self.request::<V, E>(ValueOps::of::<V>(), tags).refresh(erase(|_| loader()), self.loaded_at);
    }

    /// Refreshes in the background; near tier only.
    pub fn refresh_near<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F)
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        self.request::<V, E>(ValueOps::near::<V>(), tags).refresh(erase(|_| loader()), self.loaded_at);
    }

    /// Loads in the caller's task, with a loader that may borrow; both tiers.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load_inline<'a, V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'a,
    {
        let request = self.request::<V, E>(ValueOps::of::<V>(), tags);
        Slow::load_inline(request, |_| loader()).await
    }

    /// Loads in the caller's task, with a loader that may borrow; near tier only.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load_near_inline<'a, V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'a,
    {
        let request = self.request::<V, E>(ValueOps::near::<V>(), tags);
        Slow::load_inline(request, |_| loader()).await
    }

    /// Loads on the caller's thread, near tier only. Callers on other threads wait for it; a call from within another
    /// cached plain function does not wait but loads by itself, so that two functions that need each other cannot lock
    /// each other up.
    ///
    /// # Errors
    /// The function's own.
    pub fn load_sync<V, E>(self, tags: Vec<Tag>, load: impl FnOnce() -> Result<Loaded<V>, E>) -> Answer<V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let options = ReadOptions { on_thread: true, required: self.required, ..ReadOptions::default() };
        let request = self.request_with::<V, E>(ValueOps::near::<V>(), tags, options);
        crate::call::load_sync(&request, load)
    }
}

/// A cached function's load of many keys; the keys are rendered before this returns.
#[derive(Debug)]
#[must_use = "nothing is loaded until it is awaited"]
pub struct Batch<'k, K> {
    keys: &'k [K],
    rendered: Vec<Key>,
    miss: Miss,
}

impl<'k, K: Clone + Eq + Hash + Send + Sync + 'static> Batch<'k, K> {
    /// A call with these keys; `render` appends one's part of the key.
    pub fn new(
        site: &'static Site,
        cache: Option<&Cache>,
        keys: &'k [K],
        mut render: impl FnMut(&K, &mut KeyBuf),
    ) -> Self {
        on(cache, |cache| {
            let region = site.state(cache);
            let one = |key: &K| {
                let mut buffer = KeyBuf::with_prefix(&region.prefix);
                render(key, &mut buffer);
                buffer.to_key()
            };
            let rendered = keys.iter().map(one).collect();
            let miss = Miss {
                cache: cache.clone(),
                region: Arc::clone(region),
                key: Key::from_canonical(region.prefix.as_str()),
                loaded_at: larder_core::Tick::ZERO,
                patient: false,
                required: false,
            };
            Self { keys, rendered, miss }
        })
    }

    /// As [`Miss::patient`].
    pub fn patient(mut self, patient: bool) -> Self {
        self.miss.patient = patient;
        self
    }

    /// Loads what is missing; both tiers.
    pub async fn load<V, E, F, Fut>(self, loader: F) -> Vec<Answer<V, E>>
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
    {
        let request = self.miss.request::<V, E>(ValueOps::of::<V>(), Vec::new());
        load_many(request, self.rendered, erase_batch(self.keys, loader)).await
    }

    /// Loads what is missing; near tier only.
    pub async fn load_near<V, E, F, Fut>(self, loader: F) -> Vec<Answer<V, E>>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
    {
        let request = self.miss.request::<V, E>(ValueOps::near::<V>(), Vec::new());
        load_many(request, self.rendered, erase_batch(self.keys, loader)).await
    }
}

/// What a load gives a caller.
pub type Answer<V, E> = Result<Outcome<Option<Arc<V>>>, LoadError<E>>;

/// A flight's result in the caller's types.
pub(crate) fn in_types<V, E>(result: FlightResult) -> Answer<V, E>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(Fault::Larder(fault)) => return Err(fault.into()),
        // Only reads without a loader end with it, and they have other flights.
        Err(Fault::Remote(error)) => return Err(LoadError::Panicked(error.to_string().into())),
        Err(Fault::Loader(error)) => {
            return Err(match error.downcast::<E>() {
                Ok(error) => LoadError::Loader(error),
                // Flights are told apart by the error's type, so this is a remembered failure of another function.
                Err(_) => LoadError::Panicked("a remembered error is of another type".into()),
            });
        }
    };
    let Outcome { value, source, age, stale } = outcome;
    let value = match typed::<V>(value) {
        Typed::Value(value) => Some(value),
        Typed::Absent | Typed::Failed(_) | Typed::Other => None,
    };
    Ok(Outcome { value, source, age, stale })
}

/// Resumes a loader's panic in its caller; a fault that is no panic panics with its text.
pub fn resume_panic(fault: &LoadFault) -> ! {
    match fault {
        LoadFault::Panicked(message) => panic::resume_unwind(Box::new(message.to_string())),
        other => panic!("{other}"),
    }
}

/// Runs one test on a runtime, a cache and a clock of its own.
///
/// # Panics
/// If the runtime cannot be built, and when the test does.
#[cfg(feature = "macros")]
pub fn run_test<F, Fut>(test: F) -> Fut::Output
where
    F: FnOnce(Cache, crate::ManualClock) -> Fut,
    Fut: Future,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a single-threaded runtime needs nothing that could be missing");
    let clock = crate::ManualClock::new();
    runtime.block_on(async {
        let cache = Cache::builder().timer(Arc::new(clock.clone())).build().await;
        let cache = cache.expect("the settings of a test cache are valid");
        let test = test(cache.clone(), clock);
        global::with_cache(cache, test).await
    })
}

/// A stale window, and fail-safe within it.
pub fn with_stale(strategy: Strategy, window: Duration) -> Strategy {
    let safe = (!window.is_zero()).then(|| larder_strategy::FailSafe::new(window));
    strategy.stale_window(window).fail_safe(safe)
}

/// A hard time-out, and a longest load that is not shorter.
pub fn with_hard_timeout(strategy: Strategy, limit: Duration) -> Strategy {
    let longest = strategy.max_load.max(limit);
    strategy.hard_timeout(limit).max_load(longest)
}

/// A tag from a template.
pub fn tag(render: impl FnOnce(&mut KeyBuf)) -> Tag {
    let mut text = KeyBuf::new();
    render(&mut text);
    text.finish();
    Tag::new(&text)
}

/// Stores a value only if it meets the caller's condition.
pub fn on_condition<V>(loaded: Loaded<V>, condition: impl FnOnce(&V) -> bool) -> Loaded<V> {
    let keep = loaded.value.as_deref().is_none_or(condition);
    if keep { loaded } else { loaded.do_not_store() }
}
