//! How a key is rendered, on the stack.

use std::{fmt, sync::Arc};

use arrayvec::ArrayVec;
use xxhash_rust::xxh3::Xxh3;

use super::{
    Key, KeyHash, KeyPart, KeyPrefix, ToKey,
    block::{BLOCK, Block, are_plain, is_special},
    hash::Hashing,
};

/// The longest canonical key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// `%~` and 32 hexadecimal digits.
pub(super) const DIGEST_BYTES: usize = 34;

/// What every part of a key can be built on the stack with: no allocation up to [`MAX_KEY_BYTES`].
#[derive(Clone)]
pub struct KeyBuf {
    /// Whole characters.
    text: ArrayVec<u8, MAX_KEY_BYTES>,
    /// Of this text, unless it has overflowed.
    hashing: Hashing,
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
        Self { text: ArrayVec::new_const(), hashing: Hashing::new(), overflow: None }
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

    /// Begins a key with a prefix: as [`push_raw`](Self::push_raw), and quicker on an empty key.
    #[inline]
    pub fn start(&mut self, prefix: &KeyPrefix) {
        match prefix.short() {
            Some((head, hashing)) if self.text.is_empty() && self.text.try_extend_from_slice(head).is_ok() => {
                self.text.truncate(prefix.as_str().len());
                self.hashing = hashing.clone();
            }
            _ => self.push_raw(prefix.as_str()),
        }
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
        if !self.push_bytes(text.as_bytes()) {
            self.push_slowly(text);
        }
    }

    #[inline]
    pub(crate) fn push_part(&mut self, text: &str) {
        self.push_escaped(text, true);
    }

    /// In place, as most parts are short and have nothing to escape.
    #[inline(always)]
    fn push_escaped(&mut self, text: &str, colon_too: bool) {
        match Block::of(text.as_bytes()) {
            None => self.push_long(text, colon_too),
            Some(block) if !block.is_plain(colon_too) => self.push_escaping(text, colon_too),
            Some(block) if self.push_block(&block) => {}
            Some(_) => self.push_slowly(text),
        }
    }

    /// The same for what is longer than a block.
    #[inline(never)]
    fn push_long(&mut self, text: &str, colon_too: bool) {
        let bytes = text.as_bytes();
        if !is_plain(bytes, colon_too) {
            self.push_escaping(text, colon_too);
        } else if !self.push_blocks(bytes) {
            self.push_slowly(text);
        }
    }

    #[inline(always)]
    pub(crate) fn push_number(&mut self, number: u64) {
        let pushed = Block::of_number(number).is_some_and(|digits| self.push_block(&digits));
        if !pushed {
            self.push_any_number(number);
        }
    }

    /// What is longer than eight digits, or may not fit.
    #[inline(never)]
    fn push_any_number(&mut self, number: u64) {
        self.push_raw(itoa::Buffer::new().format(number));
    }

    /// Answers whether there was room, for what is short a whole block.
    #[inline]
    fn push_bytes(&mut self, bytes: &[u8]) -> bool {
        match Block::of(bytes) {
            Some(block) => self.push_block(&block),
            None => self.push_blocks(bytes),
        }
    }

    /// Answers whether there was room for a whole block.
    #[inline(always)]
    fn push_block(&mut self, block: &Block) -> bool {
        let begin = self.text.len();
        // Zeros too, and back again: a copy of a fixed size has nothing to decide.
        if self.text.try_extend_from_slice(&block.bytes()).is_err() {
            return false;
        }
        self.text.truncate(begin + block.len());
        self.hashing.push_block(begin, block);
        true
    }

    /// The same for more than one.
    fn push_blocks(&mut self, bytes: &[u8]) -> bool {
        let (blocks, rest) = bytes.as_chunks();
        self.text.remaining_capacity() >= bytes.len() + BLOCK
            && blocks.iter().all(|bytes| self.push_block(&Block::full(bytes)))
            && Block::of(rest).is_some_and(|block| self.push_block(&block))
    }

    /// What may not fit.
    #[cold]
    fn push_slowly(&mut self, text: &str) {
        let begin = self.text.len();
        if self.overflow.is_none() && self.text.try_extend_from_slice(text.as_bytes()).is_ok() {
            self.hashing.push(begin, text.as_bytes());
            return;
        }
        let head = &self.text;
        let overflow = self.overflow.get_or_insert_with(|| {
            let mut hasher = Xxh3::new();
            hasher.update(head);
            Box::new(Overflow { hasher })
        });
        overflow.hasher.update(text.as_bytes());
        for character in text.chars() {
            if self.text.try_extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()).is_err() {
                break;
            }
        }
    }

    #[inline(never)]
    fn push_escaping(&mut self, text: &str, colon_too: bool) {
        let mut rest = text;
        while let Some(place) = rest.find(|character| needs_escape(character, colon_too)) {
            let (plain, special) = rest.split_at(place);
            self.push_raw(plain);
            let end = special.ceil_char_boundary(1);
            for byte in special[..end].bytes() {
                let escape = [b'%', hex_digit(byte >> 4), hex_digit(byte & 15)];
                self.push_raw(std::str::from_utf8(&escape).expect("three ASCII bytes"));
            }
            rest = &special[end..];
        }
        self.push_raw(rest);
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
        let text = self.as_str();
        let mut end = MAX_KEY_BYTES - DIGEST_BYTES;
        while !text.is_char_boundary(end.min(text.len())) {
            end -= 1;
        }
        let head = text[..cut_before_escape(text, end)].to_owned();
        *self = Self::with_prefix(&head);
        self.push_raw(&format!("%~{:032X}", overflow.hasher.digest128()));
    }

    /// The canonical text; [`finish`](Self::finish) must have been called. O(length), as it is made sure that it is a text.
    ///
    /// # Panics
    /// Never: nothing but texts is appended.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only texts are appended")
    }

    /// The bytes of the canonical text, under the same condition.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The hash of the canonical text, which has been made along with it, under the same condition.
    #[inline]
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        debug_assert!(self.overflow.is_none(), "a key is finished before it is looked up");
        self.hashing.finish(self.text.len())
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
        Key(Arc::from(self.as_str()))
    }
}

/// A finished key text is taken as it is: what `key!` makes.
impl ToKey for KeyBuf {
    fn write_key(&self, out: &mut KeyBuf) {
        if !out.push_bytes(&self.text) {
            out.push_slowly(self.as_str());
        }
    }
}

impl Default for KeyBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBuf({:?})", self.as_str())
    }
}

/// Moves a cut so that it does not fall into a `%XX` escape.
fn cut_before_escape(text: &str, end: usize) -> usize {
    let end = end.min(text.len());
    (1..=2).find(|back| end >= *back && text.as_bytes()[end - back] == b'%').map_or(end, |back| end - back)
}

/// Of more than one block: the last one may overlap the one before it.
#[inline(always)]
fn is_plain(bytes: &[u8], colon_too: bool) -> bool {
    let blocks = bytes.as_chunks().0.iter().chain(bytes.last_chunk());
    blocks.fold(true, |plain, block| plain & are_plain(block, colon_too))
}

pub(crate) fn needs_escape(character: char, colon_too: bool) -> bool {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii() => is_special(byte, colon_too),
        _ => character.is_whitespace() || character.is_control(),
    }
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}
