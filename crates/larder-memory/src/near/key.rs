//! A key as it lies in its slot.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use quick_cache::Equivalent;

/// The longest text that is kept in the slot, in bytes. Types of the field for short texts end at 24, and with a namespace and
/// a region in front many keys are longer.
const SHORT: usize = 38;

/// The text of a key. A short one lies in its slot, so that a look-up need not fetch it from elsewhere. Each text has one form
/// only, filled up with zeros, so that forms compare as texts do; their order means nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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

/// As of the text, by which it is looked up.
impl Hash for NearKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// By bytes: a look-up has no need to know that they are a text.
impl Equivalent<NearKey> for str {
    #[inline]
    fn equivalent(&self, key: &NearKey) -> bool {
        self.as_bytes() == key.as_bytes()
    }
}
