//! The choices that a strategy is made of.

use std::{fmt, time::Duration};

use crate::span::Span;

/// When an entry that is still fresh is refreshed in the background, so that busy keys never go stale.
///
/// The moment is drawn once, when the entry is filled: a hit compares one number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum EarlyRefresh {
    /// Never before the TTL has passed.
    #[default]
    Off,
    /// From this share of the TTL on, above 0 and below 1: `Share(0.8)` of 60 s is 48 s.
    Share(f64),
    /// Earlier the longer the load took, at random, so that processes do not refresh together: at
    /// `expiry - cost * beta * -ln(U)` with `U` uniform in (0, 1]. `beta` above 0; 1 is the optimum of Vattani,
    /// Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015
    /// (doi 10.14778/2757807.2757813), more refreshes earlier.
    ///
    /// Never before half of the TTL: a load that takes as long as its TTL would else be repeated without a pause.
    XFetch {
        /// How eagerly, above 0.
        beta: f64,
    },
}

impl fmt::Display for EarlyRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Share(share) => write!(f, "at {}% of the TTL", round_percent(*share)),
            Self::XFetch { beta } => write!(f, "XFetch, beta {beta}"),
        }
    }
}

/// What happens when a load fails while a stale entry is at hand: the entry is served, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailSafe {
    /// How long after its TTL an entry is served in place of an error. At most the strategy's stale window, because
    /// nothing is kept beyond it.
    pub max_stale: Duration,
    /// How long after a failed load the loader is left alone and the stale entry served at once.
    pub throttle: Duration,
}

impl FailSafe {
    /// Serves entries up to `max_stale` after their TTL, with a throttle of 30 s.
    #[must_use]
    pub const fn new(max_stale: Duration) -> Self {
        Self { max_stale, throttle: Duration::from_secs(30) }
    }

    /// How long the loader is left alone after it failed; zero asks it again for every call.
    #[must_use]
    pub const fn throttle(mut self, throttle: Duration) -> Self {
        self.throttle = throttle;
        self
    }
}

impl fmt::Display for FailSafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, throttle {}", Span(self.max_stale), Span(self.throttle))
    }
}

/// Where entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Tiers {
    /// In this process only.
    Near,
    /// In the remote tier only: every hit is a round trip and decodes.
    Remote,
    /// In both.
    #[default]
    Both,
}

impl Tiers {
    /// Whether entries are kept in the process.
    #[must_use]
    pub const fn uses_near(self) -> bool {
        matches!(self, Self::Near | Self::Both)
    }

    /// Whether entries are kept in the remote tier.
    #[must_use]
    pub const fn uses_remote(self) -> bool {
        matches!(self, Self::Remote | Self::Both)
    }
}

impl fmt::Display for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near => "near",
            Self::Remote => "remote",
            Self::Both => "near and remote",
        })
    }
}

/// How payloads are compressed in the remote tier. Which of them works is decided by the features of the codec crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CompressionChoice {
    /// Not at all.
    #[default]
    None,
    /// LZ4: fast, compresses less.
    Lz4,
    /// Zstandard: slower, compresses more.
    Zstd,
}

impl fmt::Display for CompressionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// What a caller does when another process is loading the same key. A matter of efficiency, never of correctness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lease {
    /// Load too.
    Off,
    /// Wait for the other's value up to this bound, above zero; then load too. A stale entry is served meanwhile.
    Wait {
        /// The longest wait.
        bound: Duration,
    },
    /// Serve the stale entry if there is one and leave the load to the other, else load too.
    ServeStale,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Wait { bound } => write!(f, "wait up to {}", Span(*bound)),
            Self::ServeStale => f.write_str("serve stale"),
        }
    }
}

/// A share as a percentage with at most two decimals and no trailing zeros.
pub(crate) fn round_percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}
