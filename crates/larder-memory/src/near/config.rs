//! How large a near tier is, and how it is divided.

use larder_core::{Error, Result};

/// The smallest tier, in bytes.
const SMALLEST_TIER: u64 = 64 << 10;

/// Without an explicit number, no shard is smaller than this, so that a value of several MiB can be kept.
const SMALLEST_DEFAULT_SHARD: u64 = 8 << 20;

/// The size of a near tier.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearConfig {
    /// What all entries together may weigh, in bytes; at least 64 KiB.
    pub near_bytes: u64,
    /// About how many entries are expected; sizes the memory of evicted keys. By default one for each KiB.
    pub near_entries: Option<usize>,
    /// Into how many independently locked shards the tier is divided: a power of two. By default up to 4 for each core,
    /// none smaller than 8 MiB.
    pub near_shards: Option<usize>,
}

impl NearConfig {
    /// A tier of so many bytes.
    #[must_use]
    pub fn new(near_bytes: u64) -> Self {
        Self { near_bytes, near_entries: None, near_shards: None }
    }

    /// About how many entries are expected.
    #[must_use]
    pub fn near_entries(mut self, entries: usize) -> Self {
        self.near_entries = Some(entries);
        self
    }

    /// How many shards; more of them lessen contention, and the size of the largest entry.
    #[must_use]
    pub fn near_shards(mut self, shards: usize) -> Self {
        self.near_shards = Some(shards);
        self
    }

    pub(super) fn bytes(&self) -> Result<u64> {
        if self.near_bytes < SMALLEST_TIER {
            let message = format!("is {} bytes; give at least {SMALLEST_TIER} (64 KiB)", self.near_bytes);
            return Err(Error::config("near_bytes", message));
        }
        Ok(self.near_bytes)
    }

    pub(super) fn entries(&self) -> Result<usize> {
        match self.near_entries {
            Some(0) => Err(Error::config("near_entries", "is 0; give about the number of entries that will be kept")),
            Some(entries) => Ok(entries),
            None => Ok(usize::try_from(self.near_bytes >> 10).unwrap_or(usize::MAX)),
        }
    }

    pub(super) fn shards(&self) -> Result<u64> {
        if let Some(shards) = self.near_shards {
            let shards = shards as u64;
            if !shards.is_power_of_two() || shards > self.near_bytes / SMALLEST_TIER {
                let most = prev_power_of_two(self.near_bytes / SMALLEST_TIER);
                let message = format!("is {shards}; it must be a power of two, here at most {most} (64 KiB each)");
                return Err(Error::config("near_shards", message));
            }
            return Ok(shards);
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        let most = (self.near_bytes / SMALLEST_DEFAULT_SHARD).max(1);
        Ok(prev_power_of_two((4 * cores).min(most)))
    }
}

impl Default for NearConfig {
    /// 64 MiB.
    fn default() -> Self {
        Self::new(64 << 20)
    }
}

fn prev_power_of_two(number: u64) -> u64 {
    1 << number.max(1).ilog2()
}
