//! Why the exchange gave no answer.

use std::{error::Error, fmt, time::Duration};

/// Why the exchange gave no answer. Cheap enough to clone for every caller that waits for the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The exchange does not know the symbol, or not in this interval.
    NotFound {
        /// The exchange's words.
        reason: String,
    },
    /// The exchange, or the client itself, takes the request for malformed.
    BadRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// The exchange kept refusing.
    RateLimited {
        /// How long it asked to wait the last time.
        retry_after: Duration,
        /// How often the request was sent.
        tries: u32,
    },
    /// The exchange could not be reached, did not answer in time, or failed.
    Unavailable {
        /// What happened the last time.
        reason: String,
        /// How often the request was sent.
        tries: u32,
    },
    /// The exchange answered with something else than was asked for.
    BadAnswer {
        /// What is wrong with it.
        reason: String,
    },
}

impl ExchangeError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable { .. })
    }

    pub(super) fn after(self, sent: u32) -> Self {
        match self {
            Self::RateLimited { retry_after, .. } => Self::RateLimited { retry_after, tries: sent },
            Self::Unavailable { reason, .. } => Self::Unavailable { reason, tries: sent },
            other => other,
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { reason } => write!(f, "the exchange does not have it: {reason}"),
            Self::BadRequest { reason } => write!(f, "the exchange was asked wrongly: {reason}"),
            Self::RateLimited { retry_after, tries } => {
                write!(f, "the exchange refused {tries} times and asks to wait {} ms", retry_after.as_millis())
            }
            Self::Unavailable { reason, tries } => {
                write!(f, "the exchange is unavailable after {tries} tries: {reason}")
            }
            Self::BadAnswer { reason } => write!(f, "the exchange's answer cannot be used: {reason}"),
        }
    }
}

impl Error for ExchangeError {}
