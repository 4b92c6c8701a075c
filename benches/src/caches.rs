//! Larder's near tier and the maps that it is compared with, filled with the same values.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use larder::{Cache, Region, cached};
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;

use crate::workload::{Document, KEYS, ready};

/// How large the values are.
pub(crate) const VALUE_BYTES: usize = 1024;

/// Longer than any run.
const TTL: Duration = Duration::from_secs(24 * 3600);

#[cached(ttl = "1d", jitter = 0.0, key = "cached:{id}")]
async fn document(id: u64) -> Arc<Document> {
    Arc::new(Document::of_bytes(id, VALUE_BYTES))
}

/// Keys as an application holds them, and as the near tier does. The maps own copies of their own. Made once, so that those of
/// all fills lie side by side alike.
#[derive(Debug)]
pub struct Keys {
    paths: Vec<String>,
    canonical: Vec<String>,
}

impl Keys {
    /// All of them.
    #[must_use]
    pub fn render() -> Arc<Self> {
        let paths = (0..KEYS).map(|id| format!("document:{id}")).collect();
        Arc::new(Self { paths, canonical: (0..KEYS).map(|id| format!("larder:documents:{id}")).collect() })
    }
}

/// The caches, each by itself and with [`KEYS`] documents of 1 KiB; every read of them is a hit.
#[derive(Debug)]
pub struct Caches {
    by_path: Cache,
    by_number: Region<u64, Document>,
    by_pair: Region<(&'static str, u64), Document>,
    keys: Arc<Keys>,
    quick: quick_cache::sync::Cache<Arc<str>, Arc<Document>>,
    moka: moka::sync::Cache<Arc<str>, Arc<Document>>,
}

impl Caches {
    /// Makes and fills them, in an order that a seed decides: it decides what lies beside what in memory. The cached function
    /// gets the process's default cache, of which its earlier values are removed.
    ///
    /// # Errors
    /// If a value that was just written is not there.
    pub fn fill(keys: &Arc<Keys>, seed: u64) -> Result<Self> {
        let caches = Self {
            by_path: Cache::in_memory(),
            by_number: Cache::in_memory().region("documents").ttl(TTL).build()?,
            by_pair: Cache::in_memory().region("pairs").ttl(TTL).build()?,
            keys: Arc::clone(keys),
            quick: quick_cache::sync::Cache::new(2 * KEYS as usize),
            moka: moka::sync::Cache::new(2 * u64::from(KEYS)),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut order: Vec<u32> = (0..KEYS).collect();
        order.shuffle(&mut Pcg64::seed_from_u64(seed));
        runtime.block_on(async {
            document::cache_clear().await?;
            for id in order {
                caches.put(id).await;
            }
            anyhow::Ok(())
        })?;
        caches.check()?;
        Ok(caches)
    }

    async fn put(&self, id: u32) {
        let (index, id) = (id as usize, u64::from(id));
        // Each cache its own values, so that none finds them warm in the processor's cache on behalf of another.
        let value = || Document::of_bytes(id, VALUE_BYTES);
        self.quick.insert(self.keys.canonical[index].as_str().into(), Arc::new(value()));
        self.moka.insert(self.keys.canonical[index].as_str().into(), Arc::new(value()));
        self.by_number.set(&id, value()).await;
        self.by_pair.set(&("documents", id), value()).await;
        self.by_path.set(self.keys.paths[index].as_str(), value()).ttl(TTL).await;
        document(id).await;
    }

    fn check(&self) -> Result<()> {
        for id in 0..KEYS {
            let found = [self.quick(id), self.moka(id), self.by_number(id), self.by_pair(id), self.by_path(id)];
            for (place, found) in found.into_iter().enumerate() {
                found.with_context(|| format!("cache {place} does not hold document {id}"))?;
            }
        }
        Ok(())
    }

    /// A key as the near tier holds it.
    #[cfg(feature = "rivals")]
    pub(crate) fn canonical(&self, id: u32) -> &str {
        &self.keys.canonical[id as usize]
    }

    /// A look into `quick_cache` with a key that was rendered beforehand.
    #[inline]
    #[must_use]
    pub fn quick(&self, id: u32) -> Option<Arc<Document>> {
        self.quick.get(self.keys.canonical[id as usize].as_str())
    }

    /// A look into `quick_cache` by an application that has a number and has to render its key.
    #[inline]
    #[must_use]
    pub fn quick_formatted(&self, id: u32) -> Option<Arc<Document>> {
        self.quick.get(format!("larder:documents:{id}").as_str())
    }

    /// A look into moka with a key that was rendered beforehand.
    #[inline]
    #[must_use]
    pub fn moka(&self, id: u32) -> Option<Arc<Document>> {
        self.moka.get(self.keys.canonical[id as usize].as_str())
    }

    /// A near hit in a region whose keys are numbers.
    #[inline]
    #[must_use]
    pub fn by_number(&self, id: u32) -> Option<Arc<Document>> {
        ready(self.by_number.get(&u64::from(id)).into_future())
    }

    /// A near hit in a region whose keys are pairs.
    #[inline]
    #[must_use]
    pub fn by_pair(&self, id: u32) -> Option<Arc<Document>> {
        ready(self.by_pair.get(&("documents", u64::from(id))).into_future())
    }

    /// A near hit by a path.
    #[inline]
    #[must_use]
    pub fn by_path(&self, id: u32) -> Option<Arc<Document>> {
        ready(self.by_path.get(self.keys.paths[id as usize].as_str()).into_future())
    }

    /// A near hit of a cached function.
    ///
    /// # Panics
    /// If it is none.
    #[inline]
    #[must_use]
    pub fn cached_function(&self, id: u32) -> Arc<Document> {
        ready(document(u64::from(id)))
    }
}
