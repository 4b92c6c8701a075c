//! Cached functions, and what each cache knows of them.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use larder_core::{Key, KeyBuf, Pattern, Result, Target};
use larder_strategy::Strategy;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Cache, CacheInfo, Invalidated,
    engine::{RegionState, region_prefix},
    global,
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
    pub(super) fn state<'c>(&'static self, cache: &'c Cache) -> &'c Arc<RegionState> {
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
                None => Target::Keys(vec![Key::with_prefix(state.prefix.as_str(), template)]),
                Some((head, _)) => {
                    let mut prefix = KeyBuf::with_prefix(state.prefix.as_str());
                    prefix.path(head);
                    prefix.finish();
                    Target::Pattern(Pattern::prefix(prefix.as_str()))
                }
            },
            KeyStyle::Default { .. } | KeyStyle::Function => Target::Region(state.prefix.as_str().to_owned()),
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
            let mut key = KeyBuf::with_prefix(self.state(cache).prefix.as_str());
            render(&mut key);
            key.to_key()
        })
    }
}

#[inline]
pub(super) fn on<R>(cache: Option<&Cache>, action: impl FnOnce(&Cache) -> R) -> R {
    match cache {
        Some(cache) => action(cache),
        None => global::with_current(action),
    }
}
