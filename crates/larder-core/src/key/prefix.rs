//! What many keys begin with.

use std::fmt;

use super::hash::Hashing;

/// How much of a prefix is copied at once, in bytes.
const SHORT: usize = 32;

/// What many keys begin with, such as a region's prefix, prepared for [`KeyBuf::start`](super::KeyBuf::start).
#[derive(Clone)]
pub struct KeyPrefix {
    text: String,
    /// The text, zeros behind it, if there is room.
    short: [u8; SHORT],
    hashing: Hashing,
}

impl KeyPrefix {
    /// Canonical text, empty or ending in `:`. O(length).
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let mut short = [0; SHORT];
        if let Some(short) = short.get_mut(..text.len()) {
            short.copy_from_slice(text.as_bytes());
        }
        let mut hashing = Hashing::new();
        hashing.push(0, text.as_bytes());
        Self { text, short, hashing }
    }

    /// The canonical text.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A text that is not longer than [`SHORT`], and its hash so far.
    #[inline(always)]
    pub(super) fn short(&self) -> Option<(&[u8; SHORT], &Hashing)> {
        (self.text.len() <= SHORT).then_some((&self.short, &self.hashing))
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPrefix({:?})", self.text)
    }
}
