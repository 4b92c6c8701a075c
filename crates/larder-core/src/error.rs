//! The one error of Larder's crates: what failed, on which operation and key, and why.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

use crate::Key;

/// What went wrong, coarse enough to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The backend could not be reached, or the connection broke.
    Unavailable,
    /// A deadline passed. A write may or may not have happened.
    Timeout,
    /// User or password was refused, or the user lacks a right.
    Auth,
    /// The server only accepts reads (a replica after a failover).
    ReadOnly,
    /// The server is still loading its data.
    Loading,
    /// The server is at its memory limit and evicts nothing.
    OutOfMemory,
    /// Keys of one command lie in different cluster slots.
    CrossSlot,
    /// A replica lost its primary.
    PrimaryDown,
    /// The peer said something that the protocol does not allow.
    Protocol,
    /// A bound on concurrent work was reached; nothing was sent.
    Overloaded,
    /// The key is not acceptable.
    InvalidKey,
    /// An argument is out of its range.
    InvalidArgument,
    /// A setting is wrong or missing.
    Config,
    /// The value is larger than the configured limit; nothing was sent.
    TooLarge,
    /// The stored value is of another kind (a counter read as an entry, or the reverse).
    KindMismatch,
    /// A counter would leave the range of a signed 64-bit integer; it is unchanged.
    Overflow,
    /// The key does not exist, and the operation needs it to.
    NotFound,
    /// A value could not be encoded.
    Encode,
    /// Stored bytes could not be decoded.
    Decode,
    /// The backend cannot do this.
    Unsupported,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// A short lower-case name, for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::ReadOnly => "read_only",
            Self::Loading => "loading",
            Self::OutOfMemory => "out_of_memory",
            Self::CrossSlot => "cross_slot",
            Self::PrimaryDown => "primary_down",
            Self::Protocol => "protocol",
            Self::Overloaded => "overloaded",
            Self::InvalidKey => "invalid_key",
            Self::InvalidArgument => "invalid_argument",
            Self::Config => "config",
            Self::TooLarge => "too_large",
            Self::KindMismatch => "kind_mismatch",
            Self::Overflow => "overflow",
            Self::NotFound => "not_found",
            Self::Encode => "encode",
            Self::Decode => "decode",
            Self::Unsupported => "unsupported",
            Self::Other => "other",
        }
    }

    /// Whether the same call may succeed later without anything being changed by hand.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Unavailable
                | Self::Timeout
                | Self::ReadOnly
                | Self::Loading
                | Self::OutOfMemory
                | Self::PrimaryDown
                | Self::Overloaded
        )
    }

    /// Whether the error speaks of the backend's health, so that a circuit breaker should count it.
    /// A wrong key, a wrong type or a refused argument does not.
    #[must_use]
    pub const fn is_backend_fault(self) -> bool {
        self.is_transient() && !matches!(self, Self::Overloaded) || matches!(self, Self::Auth | Self::Protocol)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of every Larder crate. Cheap to clone; displays on one line.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    key: Option<Key>,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind, from an operation (`"get_many"`), with a message that says what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, operation, key: None, message: message.into(), source: None }))
    }

    /// A setting or argument that is wrong: names the field and says what would be right.
    #[must_use]
    pub fn config(field: &'static str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Config, "config", format!("`{field}`: {message}"))
    }

    /// An operation that this backend does not offer.
    #[must_use]
    pub fn unsupported(operation: &'static str, backend: &str) -> Self {
        Self::new(ErrorKind::Unsupported, operation, format!("the {backend} backend does not offer this"))
    }

    /// Names the key that was meant.
    #[must_use]
    pub fn with_key(mut self, key: &Key) -> Self {
        self.0.key = Some(key.clone());
        self
    }

    /// Keeps the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, as the trait names it.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key, where one key was meant.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.0.key.as_ref()
    }

    /// The message without kind, operation and key.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later without anything being changed by hand.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed ({})", self.0.operation, self.0.kind)?;
        if let Some(key) = &self.0.key {
            write!(f, " for key {key}")?;
        }
        if !self.0.message.is_empty() {
            write!(f, ": {}", self.0.message)?;
        }
        if let Some(source) = &self.0.source {
            // Other libraries' texts may have several lines.
            write!(f, ": {}", source.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "))?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// `Result` with Larder's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_names_operation_kind_key_and_cause() {
        let error = Error::new(ErrorKind::Timeout, "get_many", "no answer within 50 ms")
            .with_key(&Key::new("user:7"))
            .with_source(std::io::Error::other("socket"));
        assert_eq!(error.to_string(), "get_many failed (timeout) for key user:7: no answer within 50 ms: socket");
        assert!(error.is_transient());
        assert!(error.source().is_some());
    }

    #[test]
    fn a_cause_of_several_lines_becomes_one() {
        let error = Error::new(ErrorKind::Protocol, "get_many", "").with_source("one\n  two\n".to_owned());
        assert_eq!(error.to_string(), "get_many failed (protocol): one two");
    }

    #[test]
    fn a_breaker_counts_outages_and_not_the_callers_mistakes() {
        assert!(ErrorKind::OutOfMemory.is_backend_fault());
        assert!(ErrorKind::Auth.is_backend_fault());
        assert!(!ErrorKind::KindMismatch.is_backend_fault());
        assert!(!ErrorKind::Overloaded.is_backend_fault());
    }
}
