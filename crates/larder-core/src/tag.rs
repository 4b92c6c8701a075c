//! Tags: names that entries carry, so that they can be invalidated together.

use std::{fmt, sync::Arc};

use crate::{Error, ErrorKind, Key, Result, ToKey};

/// The most tags that one entry may carry.
pub const MAX_TAGS: usize = 64;

/// From this number of tags on, an entry is worth a warning: each costs a version in the entry and a comparison on a hit.
pub const MANY_TAGS: usize = 8;

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

    /// The key of this tag's marker in a namespace (whose prefix is `""` or ends in `:`). No user key can equal it.
    #[must_use]
    pub fn marker(&self, namespace_prefix: &str) -> Key {
        Key::from_canonical(format!("{namespace_prefix}%tag:{}", self.0))
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
}
