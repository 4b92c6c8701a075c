//! A key as it lies in its slot.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use larder_core::{Key, KeyBuf, KeyHash};
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

impl Hash for NearKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyHash::of(self.as_bytes()).hash(state);
    }
}

/// A key that is looked up: canonical text, or a key that was just rendered, and hashed along with it. It is compared by bytes,
/// which need not be known to be a text.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hash: KeyHash,
}

impl<'a> From<&'a str> for Sought<'a> {
    fn from(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), hash: KeyHash::of(text) }
    }
}

impl<'a> From<&'a String> for Sought<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

impl<'a> From<&'a Key> for Sought<'a> {
    fn from(key: &'a Key) -> Self {
        key.as_str().into()
    }
}

impl<'a> From<&'a KeyBuf> for Sought<'a> {
    #[inline]
    fn from(key: &'a KeyBuf) -> Self {
        Self { bytes: key.as_bytes(), hash: key.key_hash() }
    }
}

impl Hash for Sought<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl Equivalent<NearKey> for Sought<'_> {
    #[inline]
    fn equivalent(&self, key: &NearKey) -> bool {
        self.bytes == key.as_bytes()
    }
}

/// Takes the hash of a key as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct TakeHash(u64);

impl Hasher for TakeHash {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are hashed to one number");
    }
}
