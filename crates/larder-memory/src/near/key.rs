//! A key as it lies in its slot.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use quick_cache::Equivalent;

/// The longest text that is kept in the slot, in bytes.
const SHORT: usize = 38;

/// The text of a key. A short one lies in its slot, so that a look-up need not fetch it from elsewhere.
#[derive(Debug, Clone)]
pub(super) enum NearKey {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Arc<str>),
}

const _: () = assert!(size_of::<NearKey>() == 40, "what the tag and the length leave of five words");

impl NearKey {
    pub(super) fn new(text: Arc<str>) -> Self {
        match u8::try_from(text.len()) {
            Ok(length) if text.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(text),
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(text) => text.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Short { .. } => str::from_utf8(self.as_bytes()).expect("the whole of what was a text"),
            Self::Long(text) => text,
        }
    }
}

impl Hash for NearKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Text(self.as_bytes()).hash(state);
    }
}

impl PartialEq for NearKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for NearKey {}

impl PartialOrd for NearKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NearKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// A key that is looked up.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl Hash for Text<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Nothing else is hashed with it, so that its end needs no mark.
        state.write(self.0);
    }
}

impl Equivalent<NearKey> for Text<'_> {
    #[inline]
    fn equivalent(&self, key: &NearKey) -> bool {
        self.0 == key.as_bytes()
    }
}

impl<'a> From<&'a str> for Text<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}
