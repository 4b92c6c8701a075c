//! Compression of payloads above a threshold.

use std::borrow::Cow;

use larder_core::{Error, ErrorKind, Result, envelope::CompressionId};

/// Below 1 KiB the frame and the tables eat up what is saved.
pub const DEFAULT_THRESHOLD: usize = 1024;

/// The level that zstd's authors recommend for general use.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;

/// Which payloads are compressed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    id: CompressionId,
    threshold: usize,
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
        Self { id: CompressionId::NONE, threshold: DEFAULT_THRESHOLD }
    }

    /// LZ4: quick.
    #[must_use]
    pub const fn lz4() -> Self {
        Self { id: CompressionId::LZ4, threshold: DEFAULT_THRESHOLD }
    }

    /// Zstandard: small.
    #[must_use]
    pub const fn zstd() -> Self {
        Self { id: CompressionId::ZSTD, threshold: DEFAULT_THRESHOLD }
    }

    /// Payloads of fewer bytes stay as they are.
    #[must_use]
    pub const fn with_threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Whether this program can compress so.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], which names the cargo feature that is missing.
    pub fn check(self) -> Result<()> {
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
    /// [`ErrorKind::Unsupported`] if the cargo feature is missing.
    pub fn compress(self, payload: Vec<u8>) -> Result<(CompressionId, Vec<u8>)> {
        self.check()?;
        if self.id == CompressionId::NONE || payload.len() < self.threshold {
            return Ok((CompressionId::NONE, payload));
        }
        let compressed = shrink(self.id, &payload)?;
        if compressed.len() < payload.len() { Ok((self.id, compressed)) } else { Ok((CompressionId::NONE, payload)) }
    }
}

#[cfg_attr(not(any(feature = "lz4", feature = "zstd")), expect(unused_variables, reason = "nothing can compress"))]
fn shrink(id: CompressionId, payload: &[u8]) -> Result<Vec<u8>> {
    match id {
        #[cfg(feature = "lz4")]
        CompressionId::LZ4 => Ok(lz4_flex::block::compress(payload)),
        #[cfg(feature = "zstd")]
        CompressionId::ZSTD => zstd::bulk::compress(payload, ZSTD_LEVEL)
            .map_err(|error| Error::new(ErrorKind::Encode, "compress", "zstd").with_source(error)),
        other => Err(missing(other)),
    }
}

/// The payload before compression. Allocates at most `plain_len` bytes, which the caller has bounded.
///
/// # Errors
/// [`ErrorKind::Decode`] for bytes that are not what they claim to be, [`ErrorKind::Unsupported`] if the cargo feature is
/// missing.
pub(crate) fn decompress(id: CompressionId, bytes: &[u8], plain_len: usize) -> Result<Cow<'_, [u8]>> {
    let plain: Cow<'_, [u8]> = match id {
        CompressionId::NONE => Cow::Borrowed(bytes),
        #[cfg(feature = "lz4")]
        CompressionId::LZ4 => Cow::Owned(
            lz4_flex::block::decompress(bytes, plain_len)
                .map_err(|error| Error::new(ErrorKind::Decode, "decompress", "lz4").with_source(error))?,
        ),
        #[cfg(feature = "zstd")]
        CompressionId::ZSTD => Cow::Owned(
            zstd::bulk::decompress(bytes, plain_len)
                .map_err(|error| Error::new(ErrorKind::Decode, "decompress", "zstd").with_source(error))?,
        ),
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
