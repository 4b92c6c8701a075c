//! What a removal answers while the primary is away.

use std::{error::Error as StdError, fmt};

use larder_core::{Error, ErrorKind, Key};

/// The source of the error that a removal answers while the primary is away: it is remembered, or it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deferred {
    /// Whether the journal was full, so that nobody will carry out the removal.
    pub lost: bool,
}

impl Deferred {
    /// What an error says about a removal; `None` if it is about something else.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        error.source().and_then(|source| source.downcast_ref::<Self>()).copied()
    }

    pub(crate) fn error(operation: &'static str, key: &Key, lost: bool) -> Error {
        Error::new(ErrorKind::Unavailable, operation, "the primary is away").with_key(key).with_source(Self { lost })
    }
}

impl fmt::Display for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.lost {
            "the journal is full, so the removal is lost; raise `journal_keys`, or clear the region when the primary is back"
        } else {
            "the removal is remembered and carried out before the primary is read again"
        })
    }
}

impl StdError for Deferred {}
