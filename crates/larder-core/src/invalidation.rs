//! What is invalidated, said once for the near tier, the remote tier, the bus and the command line.

use std::fmt;

use async_trait::async_trait;

use crate::{Key, Pattern, Result, Tag};

/// What an invalidation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Exactly these keys.
    Keys(Vec<Key>),
    /// Every entry that carries one of these tags.
    Tags(Vec<Tag>),
    /// Every key that matches.
    Pattern(Pattern),
    /// Every key below a region's canonical prefix that has exactly this part between its separators, never a part of
    /// which it is only a substring. Prefix and part are canonical text.
    Part {
        /// Canonical prefix with its closing `:`.
        prefix: String,
        /// The whole part.
        part: String,
    },
    /// Every key of a region; the text is the region's canonical prefix with its closing `:`.
    Region(String),
    /// The whole namespace.
    Everything,
}

impl Target {
    /// Whether the target names this canonical key; tags do not name keys.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Self::Keys(keys) => keys.iter().any(|named| named.as_str() == key),
            Self::Tags(_) => false,
            Self::Pattern(pattern) => pattern.matches(key),
            Self::Part { prefix, part } => {
                key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.split(':').any(|candidate| candidate == part))
            }
            Self::Region(prefix) => key.starts_with(prefix.as_str()),
            Self::Everything => true,
        }
    }

    /// The pattern to scan for, a superset of what [`matches`](Self::matches) accepts; `None` for keys and tags, which
    /// need no scan. `namespace_prefix` bounds `Everything`.
    #[must_use]
    pub fn scan_pattern(&self, namespace_prefix: &str) -> Option<Pattern> {
        match self {
            Self::Keys(_) | Self::Tags(_) => None,
            Self::Pattern(pattern) => Some(pattern.clone()),
            Self::Part { prefix, part } => Some(Pattern::from_canonical(format!("{prefix}*{part}*"))),
            Self::Region(prefix) => Some(Pattern::prefix(prefix)),
            Self::Everything => Some(Pattern::prefix(namespace_prefix)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) if keys.len() == 1 => write!(f, "key {}", keys[0]),
            Self::Keys(keys) => write!(f, "{} keys", keys.len()),
            Self::Tags(tags) => {
                f.write_str("tags")?;
                tags.iter().try_for_each(|tag| write!(f, " {tag}"))
            }
            Self::Pattern(pattern) => write!(f, "pattern {pattern}"),
            Self::Part { prefix, part } => write!(f, "part {part} below {prefix}"),
            Self::Region(prefix) => write!(f, "region {prefix}"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

/// Whether an invalidation has reached the remote tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It has, or there is no remote tier.
    Done,
    /// The remote tier is away or did not answer: this process has dropped its own copies and will remove the remote
    /// ones as soon as it can.
    Deferred,
}

/// What an invalidation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidated {
    /// Entries dropped from this process's near tier, as far as they were counted: what is dropped lazily, by epoch, is
    /// not.
    pub near: u64,
    /// Keys or tag markers removed from the remote tier.
    pub remote: u64,
    /// Whether it has reached the remote tier.
    pub status: Status,
}

impl Invalidated {
    /// What was removed, and that it is complete.
    #[must_use]
    pub fn done(near: u64, remote: u64) -> Self {
        Self { near, remote, status: Status::Done }
    }

    /// Both together; deferred if one of them is.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let status = if other.status == Status::Deferred { Status::Deferred } else { self.status };
        Self { near: self.near + other.near, remote: self.remote + other.remote, status }
    }
}

/// How far the scan for a wide target has come: it goes in pages, and a page's keys are removed before the next is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Scanned {
    /// Pages so far.
    pub pages: u64,
    /// Keys looked at: those that the store listed.
    pub looked_at: u64,
    /// Keys removed.
    pub removed: u64,
}

impl Scanned {
    /// One page more.
    pub fn add(&mut self, looked_at: u64, removed: u64) {
        self.pages += 1;
        self.looked_at += looked_at;
        self.removed += removed;
    }
}

/// Whoever can invalidate: the cache, or a test's recorder.
#[async_trait]
pub trait InvalidationSink: Send + Sync {
    /// Carries the invalidation out. After `Done` no later call in this process gets what was cached before. When the
    /// future is dropped the invalidation may be half done; asking again is always safe.
    async fn invalidate(&self, target: Target) -> Result<Invalidated>;

    /// The same, telling `_watch` after each page how far a scan has come; who does not scan has nothing to tell. Dropped, it stops between two pages: what was removed
    /// stays removed.
    async fn invalidate_watched(
        &self,
        target: Target,
        _watch: &mut (dyn FnMut(Scanned) + Send),
    ) -> Result<Invalidated> {
        self.invalidate(target).await
    }

    /// How many keys of the remote tier the target would touch; changes nothing. Tags are not counted (their members are
    /// kept nowhere) and answer `None`.
    async fn preview(&self, target: &Target) -> Result<Option<u64>>;

    /// The canonical prefix of the namespace, `""` or ending in `:`.
    fn namespace_prefix(&self) -> &str;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_matched_whole_and_never_as_a_substring() {
        let target = Target::Part { prefix: "shop:api:".into(), part: "BTC".into() };
        assert!(target.matches("shop:api:ticker:BTC"));
        assert!(target.matches("shop:api:BTC:1h"));
        assert!(!target.matches("shop:api:ticker:BTCUSDT"));
        assert!(!target.matches("shop:db:BTC"));
        let scan = target.scan_pattern("shop:").unwrap();
        assert!(scan.matches("shop:api:ticker:BTC"));
    }
}
