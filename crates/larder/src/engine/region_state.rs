//! What the engine knows of a region: its prefix, its policy and its figures.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use larder_codec::{AnyCodec, Compression};
use larder_core::{Key, KeyBuf, KeyPrefix, MANY_TAGS, Result, Tag};
use larder_memory::AnyValue;
use larder_strategy::{CompressionChoice, Strategy};
use xxhash_rust::xxh3::xxh3_64;

use crate::stats::Counters;

/// The weigher of a region: bytes of a value.
pub(crate) type Weigher = Arc<dyn Fn(&AnyValue) -> u64 + Send + Sync>;

/// One region or cached function of one cache.
pub(crate) struct RegionState {
    /// What statistics call it.
    pub(crate) name: String,
    /// Canonical, with namespace and closing `:`; a cached function's default key head is part of it.
    pub(crate) prefix: KeyPrefix,
    pub(crate) strategy: Strategy,
    pub(crate) codec: AnyCodec,
    pub(crate) compression: Compression,
    /// Fingerprint of region and version, in every stored entry.
    pub(crate) schema: u32,
    pub(crate) weigher: Option<Weigher>,
    pub(crate) counters: Counters,
    /// What its entries carry without being told.
    own_tags: OnceLock<Vec<Tag>>,
    /// Whether it was said that entries have many tags.
    many_tags: AtomicBool,
}

impl RegionState {
    /// A region below a namespace; `path` is written as a person writes it.
    pub(crate) fn new(name: &str, prefix: String, region: &str, strategy: Strategy) -> Result<Self> {
        strategy.validate()?;
        let codec = AnyCodec::from_id(strategy.codec)?;
        let compression = match strategy.compression {
            CompressionChoice::None => Compression::none(),
            CompressionChoice::Lz4 => Compression::lz4(),
            CompressionChoice::Zstd => Compression::zstd(),
            other => {
                let message = format!("`compression` is {other}, which this release does not know");
                return Err(larder_core::Error::new(larder_core::ErrorKind::Config, "region", message));
            }
        }
        .with_threshold(strategy.compress_above_bytes);
        let schema = schema(region, strategy.version);
        Ok(Self {
            name: name.to_owned(),
            prefix: KeyPrefix::new(prefix),
            strategy,
            codec,
            compression,
            schema,
            weigher: None,
            counters: Counters::default(),
            own_tags: OnceLock::new(),
            many_tags: AtomicBool::new(false),
        })
    }

    /// The tags that every entry of this region carries: the namespace's and those of the region's levels.
    pub(crate) fn own_tags(&self, namespace_prefix: &str) -> &[Tag] {
        self.own_tags.get_or_init(|| {
            let below = self.prefix.as_str().strip_prefix(namespace_prefix).unwrap_or_default();
            let mut tags = vec![Tag::everything()];
            tags.extend(Tag::levels(below));
            tags
        })
    }

    /// Refuses more tags than an entry may carry, and says once a region that entries have many.
    ///
    /// # Errors
    /// [`InvalidArgument`](larder_core::ErrorKind::InvalidArgument), with the key and the number of tags.
    pub(crate) fn check_tags(&self, operation: &'static str, key: &Key, tags: &[Tag]) -> Result<()> {
        if tags.len() > MANY_TAGS && !self.many_tags.swap(true, Ordering::Relaxed) {
            crate::events::many_tags(&self.name, key, tags.len());
        }
        larder_core::check_tags(operation, tags).map_err(|error| error.with_key(key))
    }
}

/// The canonical prefix of a region: `namespace:region:`, or the namespace's own for the empty region.
pub(crate) fn region_prefix(namespace_prefix: &str, region: &str) -> String {
    let mut prefix = KeyBuf::with_prefix(namespace_prefix);
    if !region.is_empty() {
        prefix.path(region).separator();
    }
    prefix.finish();
    prefix.as_str().to_owned()
}

/// Equal for every process of the same region and version, whatever the compiler.
fn schema(region: &str, version: u32) -> u32 {
    let hash = xxh3_64(format!("{region}\n{version}").as_bytes());
    u32::try_from(hash & u64::from(u32::MAX)).expect("masked to 32 bits")
}

impl fmt::Debug for RegionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionState").field("name", &self.name).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
