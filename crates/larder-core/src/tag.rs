//! Tags: names that entries carry, so that they can be invalidated together.

use std::{fmt, sync::Arc};

use crate::{Error, ErrorKind, Key, Result, ToKey};

/// The most tags that one entry may carry.
pub const MAX_TAGS: usize = 64;

/// The most tags that an entry may carry besides: those of its region and of its namespace.
pub const MAX_OWN_TAGS: usize = 8;

/// From this number of tags on, an entry is worth a warning: each costs a version in the entry and a comparison on a hit.
pub const MANY_TAGS: usize = 8;

const MARKER: &str = "%tag:";
const EVERYTHING: &str = "%all";
const ANY: &str = "%any";
const REGION: &str = "%region:";

/// Levels of a prefix that have a tag of their own.
const MAX_LEVELS: usize = 5;

/// The longest level that has one.
const MAX_LEVEL_BYTES: usize = 400;

/// A tag in canonical form, such as `symbol:BTCUSDT`. Written like a [`Key`]: a string is a path, a tuple is made of
/// parts. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// A tag from a path or parts.
    #[must_use]
    pub fn new<K: ToKey + ?Sized>(tag: &K) -> Self {
        Self(Arc::clone(Key::new(tag).as_arc()))
    }

    /// Text that is canonical already.
    #[must_use]
    pub fn from_canonical(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag that every entry of a namespace carries: its generation.
    #[must_use]
    pub fn everything() -> Self {
        Self::from_canonical(EVERYTHING)
    }

    /// The tag whose marker goes with every tag's: no tag was invalidated as long as it stands.
    #[must_use]
    pub fn any() -> Self {
        Self::from_canonical(ANY)
    }

    /// The tags of a canonical prefix below the namespace's (`""`, or ending in `:`), which every entry under it carries:
    /// one for each of its first levels, the outermost first. Who wrote under `api:v2:` carries `api:` and `api:v2:`.
    #[must_use]
    pub fn levels(prefix: &str) -> Vec<Self> {
        let ends = prefix.match_indices(':').map(|(at, _)| at + 1);
        let ends = ends.take(MAX_LEVELS).take_while(|end| *end <= MAX_LEVEL_BYTES);
        ends.map(|end| Self::from_canonical(format!("{REGION}{}", &prefix[..end]))).collect()
    }

    /// The tag whose invalidation clears everything below such a prefix: that of the prefix itself, or, where that lies
    /// too deep to have one, the innermost above it.
    #[must_use]
    pub fn of_prefix(prefix: &str) -> Self {
        Self::levels(prefix).pop().unwrap_or_else(Self::everything)
    }

    /// The prefix that this tag stands for, below the namespace's.
    #[must_use]
    pub fn as_prefix(&self) -> Option<&str> {
        self.0.strip_prefix(REGION)
    }

    /// Whether entries carry it by themselves. No user's tag is such a one: in their canonical text `%` begins an escape.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(&*self.0, EVERYTHING | ANY) || self.0.starts_with(REGION)
    }

    /// The tag whose marker this key is.
    #[must_use]
    pub fn of_marker(key: &Key, namespace_prefix: &str) -> Option<Self> {
        let name = key.as_str().strip_prefix(namespace_prefix)?.strip_prefix(MARKER)?;
        Some(Self::from_canonical(name))
    }

    /// The key of this tag's marker in a namespace (whose prefix is `""` or ends in `:`). No user key can equal it.
    #[must_use]
    pub fn marker(&self, namespace_prefix: &str) -> Key {
        Key::from_canonical(format!("{namespace_prefix}{MARKER}{}", self.0))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:?})", &*self.0)
    }
}

impl From<&str> for Tag {
    fn from(tag: &str) -> Self {
        Self::new(tag)
    }
}

impl From<String> for Tag {
    fn from(tag: String) -> Self {
        Self::new(&tag)
    }
}

/// Refuses more tags than an entry may carry.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`], with the number and the limit.
pub fn check_tags(operation: &'static str, tags: &[Tag]) -> Result<()> {
    if tags.len() <= MAX_TAGS {
        return Ok(());
    }
    let message = format!("`tags` has {} entries, at most {MAX_TAGS} are allowed; use fewer, coarser tags", tags.len());
    Err(Error::new(ErrorKind::InvalidArgument, operation, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_path_and_its_marker_is_no_users_key() {
        assert_eq!(Tag::from("symbol:BTCUSDT").as_str(), "symbol:BTCUSDT");
        assert_eq!(Tag::new(&("symbol", "BTC:USDT")).as_str(), "symbol:BTC%3AUSDT");
        let marker = Tag::from("a").marker("shop:");
        assert_eq!(marker.as_str(), "shop:%tag:a");
        assert_ne!(marker, Key::with_prefix("shop:", "%tag:a"));
    }

    #[test]
    fn the_tags_of_a_prefix_are_its_levels_and_no_users_tags() {
        let names = |prefix: &str| Tag::levels(prefix).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("api:v2:"), ["%region:api:", "%region:api:v2:"]);
        assert!(names("").is_empty());
        assert_eq!(names("a:b:c:d:e:f:g:").len(), MAX_LEVELS);
        assert_eq!(Tag::of_prefix("a:b:c:d:e:f:").as_prefix(), Some("a:b:c:d:e:"));
        assert_eq!(Tag::of_prefix(""), Tag::everything());
        assert_eq!(Tag::of_prefix(&format!("{}:", "x".repeat(500))), Tag::everything());
        assert!(Tag::of_prefix("api:").is_own() && Tag::any().is_own());
        for user in ["%all", "%any", "%region:api:"] {
            assert!(!Tag::from(user).is_own());
        }
    }

    #[test]
    fn a_marker_tells_its_tag() {
        let tag = Tag::of_prefix("api:");
        assert_eq!(Tag::of_marker(&tag.marker("shop:"), "shop:"), Some(tag));
        assert_eq!(Tag::of_marker(&Key::with_prefix("shop:", "%tag:a"), "shop:"), None);
    }
}
