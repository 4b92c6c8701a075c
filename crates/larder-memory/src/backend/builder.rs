//! The settings of a memory backend.

use std::{fmt, sync::Arc};

use larder_core::{Clock, Error, Result, SystemClock};

use super::MemoryBackend;

/// The smallest and the default bound, in bytes.
const LEAST_BYTES: u64 = 64 << 10;
pub(super) const DEFAULT_BYTES: u64 = 64 << 20;

/// The default and the largest limit of one value, in bytes; the latter is Redis's.
pub(super) const DEFAULT_VALUE_BYTES: usize = 8 << 20;
const MOST_VALUE_BYTES: usize = 512 << 20;

/// Settings of a [`MemoryBackend`].
#[must_use = "call `build` to get the backend"]
pub struct MemoryBackendBuilder {
    max_bytes: u64,
    max_value_bytes: Option<usize>,
    clock: Option<Arc<dyn Clock>>,
}

impl MemoryBackendBuilder {
    pub(super) fn new() -> Self {
        Self { max_bytes: DEFAULT_BYTES, max_value_bytes: None, clock: None }
    }

    /// What all entries together may take, in bytes: values, keys, and a constant for each entry. At least 64 KiB, by
    /// default 64 MiB. Between two upkeeps it may be exceeded by an eighth
    /// and one value.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The largest value, in bytes; a larger one is refused. From 1 to 512 MiB and at most `max_bytes`, by default
    /// 8 MiB or a quarter of `max_bytes`, whichever is less.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = Some(bytes);
        self
    }

    /// Where time comes from, by default the machine's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Builds the backend.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting and what would be right.
    pub fn build(self) -> Result<MemoryBackend> {
        if self.max_bytes < LEAST_BYTES {
            let message = format!("is {} bytes; give at least {LEAST_BYTES} (64 KiB)", self.max_bytes);
            return Err(Error::config("max_bytes", message));
        }
        let room = usize::try_from(self.max_bytes).unwrap_or(usize::MAX);
        let max_value_bytes = self.max_value_bytes.unwrap_or_else(|| DEFAULT_VALUE_BYTES.min(room / 4));
        let most = MOST_VALUE_BYTES.min(room);
        if !(1..=most).contains(&max_value_bytes) {
            let message = format!("is {max_value_bytes} bytes; with this `max_bytes` it must be from 1 to {most}");
            return Err(Error::config("max_value_bytes", message));
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        Ok(MemoryBackend::assemble(self.max_bytes, max_value_bytes, clock))
    }
}

impl fmt::Debug for MemoryBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackendBuilder")
            .field("max_bytes", &self.max_bytes)
            .field("max_value_bytes", &self.max_value_bytes)
            .field("clock", &self.clock)
            .finish()
    }
}
