//! How a key is rendered, on the stack.

use std::{fmt, sync::Arc};

use arrayvec::ArrayString;
use xxhash_rust::xxh3::Xxh3;

use super::{Key, KeyPart, ToKey};

/// The longest canonical key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// `%~` and 32 hexadecimal digits.
pub(super) const DIGEST_BYTES: usize = 34;

/// What every part of a key can be built on the stack with: no allocation up to [`MAX_KEY_BYTES`].
#[derive(Clone)]
pub struct KeyBuf {
    text: ArrayString<MAX_KEY_BYTES>,
    overflow: Option<Box<Overflow>>,
}

/// A key that has outgrown the buffer: the digest of all its text so far.
#[derive(Clone)]
struct Overflow {
    hasher: Xxh3,
}

impl KeyBuf {
    /// An empty key.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { text: ArrayString::new_const(), overflow: None }
    }

    /// A key that begins with canonical text, such as a region's prefix; it is taken as it is.
    #[inline]
    #[must_use]
    pub fn with_prefix(prefix: &str) -> Self {
        let mut key = Self::new();
        key.push_raw(prefix);
        key
    }

    /// Renders a key behind a prefix: `prefix` is canonical text, empty or ending in `:`. O(length).
    #[inline]
    #[must_use]
    pub fn render<K: ToKey + ?Sized>(prefix: &str, key: &K) -> Self {
        let mut buffer = Self::with_prefix(prefix);
        key.write_key(&mut buffer);
        buffer.finish();
        buffer
    }

    /// Appends a separator.
    #[inline]
    pub fn separator(&mut self) -> &mut Self {
        self.push_raw(":");
        self
    }

    /// Appends a path: everything special but `:` is escaped.
    #[inline]
    pub fn path(&mut self, path: &str) -> &mut Self {
        self.push_escaped(path, false);
        self
    }

    /// Appends one part: `:` is escaped too.
    #[inline]
    pub fn part<P: KeyPart + ?Sized>(&mut self, part: &P) -> &mut Self {
        part.write_part(self);
        self
    }

    /// Appends canonical text as it is. For prefixes and templates, never for user input.
    #[inline]
    pub fn push_raw(&mut self, text: &str) {
        if self.overflow.is_none() && self.text.try_push_str(text).is_ok() {
            return;
        }
        self.push_overflowing(text);
    }

    #[cold]
    fn push_overflowing(&mut self, text: &str) {
        let head = &self.text;
        let overflow = self.overflow.get_or_insert_with(|| {
            let mut hasher = Xxh3::new();
            hasher.update(head.as_bytes());
            Box::new(Overflow { hasher })
        });
        overflow.hasher.update(text.as_bytes());
        for character in text.chars() {
            if self.text.try_push(character).is_err() {
                break;
            }
        }
    }

    #[inline]
    pub(crate) fn push_escaped(&mut self, text: &str, colon_too: bool) {
        let wanted = plain_where(colon_too);
        // To the end in any case: with nothing to decide at each byte it is several times as quick.
        if text.bytes().fold(wanted, |plain, byte| plain & PLAIN[usize::from(byte)]) == wanted {
            self.push_raw(text);
        } else {
            self.push_escaping(text, colon_too);
        }
    }

    fn push_escaping(&mut self, text: &str, colon_too: bool) {
        let mut utf8 = [0_u8; 4];
        for character in text.chars() {
            let encoded = character.encode_utf8(&mut utf8);
            if needs_escape(character, colon_too) {
                for byte in encoded.bytes() {
                    let escape = [b'%', hex_digit(byte >> 4), hex_digit(byte & 15)];
                    self.push_raw(std::str::from_utf8(&escape).expect("three ASCII bytes"));
                }
            } else {
                self.push_raw(encoded);
            }
        }
    }

    /// Closes an over-long key with its digest. Called once, after the last part; later calls change nothing.
    #[inline]
    pub fn finish(&mut self) {
        if self.overflow.is_some() {
            self.finish_overflow();
        }
    }

    #[cold]
    fn finish_overflow(&mut self) {
        let Some(overflow) = self.overflow.take() else { return };
        let mut end = MAX_KEY_BYTES - DIGEST_BYTES;
        while !self.text.is_char_boundary(end.min(self.text.len())) {
            end -= 1;
        }
        self.text.truncate(cut_before_escape(&self.text, end));
        let digest = format!("%~{:032X}", overflow.hasher.digest128());
        self.text.push_str(&digest);
    }

    /// The canonical text; [`finish`](Self::finish) must have been called.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// An owned key of this text. Allocates once.
    #[must_use]
    pub fn to_key(&self) -> Key {
        if self.overflow.is_some() {
            let mut whole = self.clone();
            whole.finish();
            return whole.to_key();
        }
        // Without a copy of the buffer.
        Key(Arc::from(self.text.as_str()))
    }
}

/// A finished key text is taken as it is: what `key!` makes.
impl ToKey for KeyBuf {
    fn write_key(&self, out: &mut KeyBuf) {
        out.push_raw(&self.text);
    }
}

impl Default for KeyBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBuf({:?})", self.text.as_str())
    }
}

/// Moves a cut so that it does not fall into a `%XX` escape.
fn cut_before_escape(text: &str, end: usize) -> usize {
    let end = end.min(text.len());
    (1..=2).find(|back| end >= *back && text.as_bytes()[end - back] == b'%').map_or(end, |back| end - back)
}

const PLAIN_IN_PATH: u8 = 1;
const PLAIN_IN_PART: u8 = 2;

/// Where each byte stands for itself. All others, among them every byte of what is not ASCII, are looked at as characters.
static PLAIN: [u8; 256] = {
    let mut plain = [0; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        plain[byte as usize] = match byte {
            b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'\\' | b'%' => 0,
            b':' => PLAIN_IN_PATH,
            _ => PLAIN_IN_PATH | PLAIN_IN_PART,
        };
        byte += 1;
    }
    plain
};

#[inline]
fn is_plain(byte: u8, colon_too: bool) -> bool {
    PLAIN[usize::from(byte)] & plain_where(colon_too) != 0
}

#[inline]
fn plain_where(colon_too: bool) -> u8 {
    if colon_too { PLAIN_IN_PART } else { PLAIN_IN_PATH }
}

pub(crate) fn needs_escape(character: char, colon_too: bool) -> bool {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii() => !is_plain(byte, colon_too),
        _ => character.is_whitespace() || character.is_control(),
    }
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_bytes_those_stand_for_themselves_that_neither_keys_nor_patterns_give_a_meaning() {
        for byte in 0..=u8::MAX {
            let plain = byte.is_ascii_graphic() && !b"*?[]{}\\%".contains(&byte);
            assert_eq!(is_plain(byte, false), plain, "{byte}");
            assert_eq!(is_plain(byte, true), plain && byte != b':', "{byte}");
        }
    }
}
