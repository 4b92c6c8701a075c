//! Compression of payloads above a threshold.

use std::borrow::Cow;

use larder_core::{Error, ErrorKind, Result, envelope::CompressionId};

/// Payloads below 1 KiB stay as they are: they fit one network packet either way, and there is little to repeat in them, so
/// that what is saved does not pay for the time.
pub const DEFAULT_THRESHOLD: usize = 1024;

/// The level that zstd's authors recommend for general use, and the highest that does not ask for much memory.
const ZSTD_LEVEL: i32 = 3;
const ZSTD_HIGHEST: i32 = 19;

/// LZ4 turns a byte into at most 255.
#[cfg(feature = "lz4")]
const LZ4_GROWTH: usize = 255;

/// Which payloads are compressed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    id: CompressionId,
    threshold: usize,
    level: i32,
}

impl Default for Compression {
    fn default() -> Self {
        Self::none()
    }
}

impl Compression {
    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self { id: CompressionId::NONE, threshold: DEFAULT_THRESHOLD, level: ZSTD_LEVEL }
    }

    /// LZ4: quick.
    #[must_use]
    pub const fn lz4() -> Self {
        Self { id: CompressionId::LZ4, threshold: DEFAULT_THRESHOLD, level: ZSTD_LEVEL }
    }

    /// Zstandard: small.
    #[must_use]
    pub const fn zstd() -> Self {
        Self { id: CompressionId::ZSTD, threshold: DEFAULT_THRESHOLD, level: ZSTD_LEVEL }
    }

    /// Payloads of fewer bytes stay as they are.
    #[must_use]
    pub const fn with_threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// The level of Zstandard, from 1 (quick) to 19 (small), by default 3. The other kinds have no levels.
    #[must_use]
    pub const fn with_level(mut self, level: i32) -> Self {
        self.level = level;
        self
    }

    /// Whether this program can compress so.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], which names the cargo feature that is missing; [`ErrorKind::Config`] for a level that
    /// there is not.
    pub fn check(self) -> Result<()> {
        if !(1..=ZSTD_HIGHEST).contains(&self.level) {
            let message = format!("is {}; zstd has levels from 1 to {ZSTD_HIGHEST} here", self.level);
            return Err(Error::config("level", message));
        }
        match self.id {
            CompressionId::NONE => Ok(()),
            #[cfg(feature = "lz4")]
            CompressionId::LZ4 => Ok(()),
            #[cfg(feature = "zstd")]
            CompressionId::ZSTD => Ok(()),
            other => Err(missing(other)),
        }
    }

    /// The payload as it is stored: compressed if that makes it smaller.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn compress(self, payload: Vec<u8>) -> Result<(CompressionId, Vec<u8>)> {
        self.check()?;
        if self.id == CompressionId::NONE || payload.len() < self.threshold {
            return Ok((CompressionId::NONE, payload));
        }
        let compressed = self.shrink(&payload)?;
        if compressed.len() < payload.len() { Ok((self.id, compressed)) } else { Ok((CompressionId::NONE, payload)) }
    }

    #[cfg_attr(not(any(feature = "lz4", feature = "zstd")), expect(unused_variables, reason = "nothing can compress"))]
    fn shrink(self, payload: &[u8]) -> Result<Vec<u8>> {
        match self.id {
            #[cfg(feature = "lz4")]
            CompressionId::LZ4 => Ok(lz4_flex::block::compress(payload)),
            #[cfg(feature = "zstd")]
            CompressionId::ZSTD => zstd::bulk::compress(payload, self.level)
                .map_err(|error| Error::new(ErrorKind::Encode, "compress", "zstd").with_source(error)),
            other => Err(missing(other)),
        }
    }
}

/// The payload before compression. Allocates at most `plain_len` bytes, and nothing if that is more than `limit`.
///
/// # Errors
/// [`ErrorKind::Decode`] for bytes that are not what they claim to be, [`ErrorKind::TooLarge`] beyond the limit,
/// [`ErrorKind::Unsupported`] if the cargo feature is missing.
pub fn decompress(id: CompressionId, bytes: &[u8], plain_len: usize, limit: usize) -> Result<Cow<'_, [u8]>> {
    if plain_len > limit {
        let message = format!("the payload has {plain_len} bytes, the limit is {limit}");
        return Err(Error::new(ErrorKind::TooLarge, "decompress", message));
    }
    let plain: Cow<'_, [u8]> = match id {
        CompressionId::NONE => Cow::Borrowed(bytes),
        #[cfg(feature = "lz4")]
        CompressionId::LZ4 => {
            if plain_len > bytes.len().saturating_mul(LZ4_GROWTH) {
                let message = format!("lz4: {} bytes cannot hold {plain_len}", bytes.len());
                return Err(Error::new(ErrorKind::Decode, "decompress", message));
            }
            let plain = lz4_flex::block::decompress(bytes, plain_len)
                .map_err(|error| Error::new(ErrorKind::Decode, "decompress", "lz4").with_source(error))?;
            Cow::Owned(plain)
        }
        #[cfg(feature = "zstd")]
        CompressionId::ZSTD => {
            let plain = zstd::bulk::decompress(bytes, plain_len)
                .map_err(|error| Error::new(ErrorKind::Decode, "decompress", "zstd").with_source(error))?;
            Cow::Owned(plain)
        }
        other => return Err(missing(other)),
    };
    if plain.len() == plain_len {
        return Ok(plain);
    }
    let message = format!("the payload has {} bytes, its header says {plain_len}", plain.len());
    Err(Error::new(ErrorKind::Decode, "decompress", message))
}

fn missing(id: CompressionId) -> Error {
    let name = id.name();
    let message = if name == "unknown" {
        format!("compression {} is of a newer release", id.0)
    } else {
        format!("compression {name} is not compiled in; turn on the cargo feature `{name}`")
    };
    Error::new(ErrorKind::Unsupported, "compression", message)
}
