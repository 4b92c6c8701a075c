//! Keys: one canonical text for the near tier, the remote tier, the bus and the command line.
//!
//! A key is `namespace:region:key`. A `&str` is a *path*: its `:` separate parts. A tuple, an integer or an argument
//! interpolated into a key template is made of *parts*, in which `:` is escaped too, so that `("a:b", "c")` and
//! `("a", "b:c")` differ and user input never acts as a separator or a pattern.
//!
//! Escaped, as `%` and two upper-case hexadecimal digits per byte: `* ? [ ] { } \ %`, white space and control characters.
//! A `%` followed by anything else never comes from user input; Larder marks its own keys with it.
//!
//! A key of more than [`MAX_KEY_BYTES`] keeps its head and ends in `%~` and the 128-bit XXH3 digest of the whole text.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

use arrayvec::ArrayString;
use xxhash_rust::xxh3::Xxh3;

/// The longest canonical key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// `%~` and 32 hexadecimal digits.
const DIGEST_BYTES: usize = 34;

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
        if text.bytes().all(|byte| is_plain(byte, colon_too)) {
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
        let mut whole = self.clone();
        whole.finish();
        Key(Arc::from(whole.text.as_str()))
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

#[inline]
fn is_plain(byte: u8, colon_too: bool) -> bool {
    matches!(byte, b'!'..=b'~')
        && !matches!(byte, b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'\\' | b'%')
        && !(colon_too && byte == b':')
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

/// An owned canonical key. Cheap to clone; compares, hashes and displays as its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// A key without a namespace, for using a backend by itself.
    #[must_use]
    pub fn new<K: ToKey + ?Sized>(key: &K) -> Self {
        KeyBuf::render("", key).to_key()
    }

    /// A key behind a canonical prefix, `""` or ending in `:`.
    #[must_use]
    pub fn with_prefix<K: ToKey + ?Sized>(prefix: &str, key: &K) -> Self {
        KeyBuf::render(prefix, key).to_key()
    }

    /// Text that is canonical already: it came from a scan, a message, or a person who copied it from one. It is
    /// taken as it is, whatever it contains, since other programs may have written keys that Larder would not.
    #[must_use]
    pub fn from_canonical(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical text, shared.
    #[must_use]
    pub fn as_arc(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key of another program may hold control characters, which must not reach a terminal or a log.
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                fmt::Write::write_char(f, character)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", &*self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What can be passed where a key is asked for: a path (`&str`, `String`), a number, or a tuple of parts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as a cache key",
    label = "not a key",
    note = "keys are strings, integers, tuples of parts, `key!(\"user:{{id}}\")`, or types that derive `KeyPart`"
)]
pub trait ToKey {
    /// Appends the key. Two different keys must append different text.
    fn write_key(&self, out: &mut KeyBuf);
}

/// One part of a key, between two separators: an argument of a cached function, a field of a tuple.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a cache key",
    label = "no `KeyPart` for this argument",
    note = "derive it (`#[derive(KeyPart)]`), leave the argument out of the key (`skip(name)`), or give a `key = \"..\"`"
)]
pub trait KeyPart {
    /// Whether a value may be rendered as the absence of one; `Option` uses it to keep `Some(None)` and `None` apart.
    const NULLABLE: bool = false;

    /// Appends the part, escaped. Two different values of a type must append different text, and none may append a `:`.
    fn write_part(&self, out: &mut KeyBuf);
}

impl ToKey for str {
    #[inline]
    fn write_key(&self, out: &mut KeyBuf) {
        out.push_escaped(self, false);
    }
}

impl ToKey for String {
    #[inline]
    fn write_key(&self, out: &mut KeyBuf) {
        out.push_escaped(self, false);
    }
}

impl ToKey for Cow<'_, str> {
    fn write_key(&self, out: &mut KeyBuf) {
        out.push_escaped(self, false);
    }
}

impl<K: ToKey + ?Sized> ToKey for &K {
    #[inline]
    fn write_key(&self, out: &mut KeyBuf) {
        (**self).write_key(out);
    }
}

/// A finished key text is taken as it is: what `key!` makes.
impl ToKey for KeyBuf {
    fn write_key(&self, out: &mut KeyBuf) {
        out.push_raw(&self.text);
    }
}

impl KeyPart for str {
    #[inline]
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_escaped(self, true);
    }
}

impl KeyPart for String {
    #[inline]
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_escaped(self, true);
    }
}

impl KeyPart for Cow<'_, str> {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_escaped(self, true);
    }
}

impl KeyPart for char {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_escaped(self.encode_utf8(&mut [0; 4]), true);
    }
}

impl KeyPart for bool {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_raw(if *self { "true" } else { "false" });
    }
}

impl KeyPart for () {
    fn write_part(&self, _out: &mut KeyBuf) {}
}

macro_rules! integer_keys {
    ($($type:ty),*) => {$(
        impl KeyPart for $type {
            #[inline]
            fn write_part(&self, out: &mut KeyBuf) {
                out.push_raw(itoa::Buffer::new().format(*self));
            }
        }

        impl ToKey for $type {
            #[inline]
            fn write_key(&self, out: &mut KeyBuf) {
                self.write_part(out);
            }
        }
    )*};
}

integer_keys!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

macro_rules! non_zero_keys {
    ($($type:ident),*) => {$(
        impl KeyPart for std::num::$type {
            fn write_part(&self, out: &mut KeyBuf) {
                self.get().write_part(out);
            }
        }
    )*};
}

non_zero_keys!(NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize, NonZeroI32, NonZeroI64);

macro_rules! displayed_keys {
    ($($type:ty),*) => {$(
        impl KeyPart for $type {
            fn write_part(&self, out: &mut KeyBuf) {
                out.push_escaped(&self.to_string(), true);
            }
        }
    )*};
}

displayed_keys!(f32, f64, std::net::IpAddr, std::net::Ipv4Addr, std::net::Ipv6Addr, std::net::SocketAddr);

impl<P: KeyPart> KeyPart for Option<P> {
    const NULLABLE: bool = true;

    fn write_part(&self, out: &mut KeyBuf) {
        match self {
            None => out.push_raw("%n"),
            Some(value) => {
                if P::NULLABLE {
                    out.push_raw("%s");
                }
                value.write_part(out);
            }
        }
    }
}

impl<P: KeyPart> KeyPart for [P] {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_raw("%(");
        for part in self {
            part.write_part(out);
            out.push_raw("%,");
        }
        out.push_raw("%)");
    }
}

impl<P: KeyPart> KeyPart for Vec<P> {
    fn write_part(&self, out: &mut KeyBuf) {
        self.as_slice().write_part(out);
    }
}

impl<P: KeyPart, const N: usize> KeyPart for [P; N] {
    fn write_part(&self, out: &mut KeyBuf) {
        self.as_slice().write_part(out);
    }
}

macro_rules! pointer_parts {
    ($($pointer:ty),*) => {$(
        impl<P: KeyPart + ?Sized> KeyPart for $pointer {
            const NULLABLE: bool = P::NULLABLE;

            #[inline]
            fn write_part(&self, out: &mut KeyBuf) {
                (**self).write_part(out);
            }
        }
    )*};
}

pointer_parts!(&P, Box<P>, Arc<P>, std::rc::Rc<P>);

macro_rules! tuple_keys {
    ($(($first:ident $(, $rest:ident)*)),*) => {$(
        impl<$first: KeyPart, $($rest: KeyPart),*> ToKey for ($first, $($rest,)*) {
            #[inline]
            fn write_key(&self, out: &mut KeyBuf) {
                #[expect(non_snake_case, reason = "the type parameters name the fields")]
                let ($first, $($rest,)*) = self;
                $first.write_part(out);
                $(
                    out.separator();
                    $rest.write_part(out);
                )*
            }
        }

        impl<$first: KeyPart, $($rest: KeyPart),*> KeyPart for ($first, $($rest,)*) {
            fn write_part(&self, out: &mut KeyBuf) {
                #[expect(non_snake_case, reason = "the type parameters name the fields")]
                let ($first, $($rest,)*) = self;
                out.push_raw("%(");
                $first.write_part(out);
                $(
                    out.push_raw("%,");
                    $rest.write_part(out);
                )*
                out.push_raw("%)");
            }
        }
    )*};
}

tuple_keys!(
    (A),
    (A, B),
    (A, B, C),
    (A, B, C, D),
    (A, B, C, D, E),
    (A, B, C, D, E, F),
    (A, B, C, D, E, F, G),
    (A, B, C, D, E, F, G, H)
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text<K: ToKey + ?Sized>(key: &K) -> String {
        Key::new(key).as_str().to_owned()
    }

    #[test]
    fn a_path_keeps_its_separators_and_a_part_does_not() {
        assert_eq!(text("user:7"), "user:7");
        assert_eq!(text(&("user:7", 3)), "user%3A7:3");
        assert_ne!(text(&("a:b", "c")), text(&("a", "b:c")));
    }

    #[test]
    fn everything_special_is_escaped() {
        assert_eq!(text("a*?[]{}\\% \n\u{a0}é"), "a%2A%3F%5B%5D%7B%7D%5C%25%20%0A%C2%A0é");
    }

    #[test]
    fn absent_and_present_parts_differ_at_every_depth() {
        let none: Option<Option<&str>> = None;
        assert_eq!(text(&(none, 1)), "%n:1");
        assert_eq!(text(&(Some(None::<&str>), 1)), "%s%n:1");
        assert_eq!(text(&(Some(Some("%n")), 1)), "%s%25n:1");
        assert_eq!(text(&(Some(5), 1)), "5:1");
    }

    #[test]
    fn lists_cannot_be_confused_with_their_elements() {
        assert_ne!(text(&(vec!["a,b"],)), text(&(vec!["a", "b"],)));
        assert_ne!(text(&(vec!["a"],)), text(&("a",)));
    }

    #[test]
    fn a_long_key_keeps_its_head_and_ends_in_a_digest_of_all_of_it() {
        let long = "x".repeat(2000);
        let key = Key::with_prefix("shop:", &long);
        assert_eq!(key.as_str().len(), MAX_KEY_BYTES);
        assert!(key.as_str().starts_with("shop:xxx"));
        assert!(key.as_str()[MAX_KEY_BYTES - DIGEST_BYTES..].starts_with("%~"));
        let other = Key::with_prefix("shop:", &format!("{long}y"));
        assert_ne!(key, other);
        assert_eq!(Key::with_prefix("", &"y".repeat(512)).as_str(), "y".repeat(512));
    }

    #[test]
    fn a_long_key_is_never_cut_within_an_escape() {
        for shift in 0..6 {
            let key = Key::new(&format!("{}{}", "a".repeat(shift), "*é".repeat(300)));
            let head = key.as_str().split("%~").next().unwrap();
            for escape in head.split('%').skip(1) {
                assert!(escape.len() >= 2 && escape.is_char_boundary(2), "{head}");
                assert_eq!(&escape[..2], "2A");
            }
        }
    }

    proptest! {
        #[test]
        fn different_pairs_of_parts_give_different_keys(a in ".{0,6}", b in ".{0,6}", c in ".{0,6}", d in ".{0,6}") {
            prop_assert_eq!((&a, &b) == (&c, &d), text(&(a.as_str(), b.as_str())) == text(&(c.as_str(), d.as_str())));
        }

        #[test]
        fn chunks_of_text_make_the_same_digest_as_the_whole(parts in proptest::collection::vec("[a-zé]{0,90}", 1..20)) {
            let whole = parts.concat();
            let mut pieces = KeyBuf::new();
            for part in &parts {
                pieces.path(part);
            }
            pieces.finish();
            let at_once = KeyBuf::render("", &whole);
            prop_assert_eq!(pieces.as_str(), at_once.as_str());
            prop_assert!(pieces.as_str().len() <= MAX_KEY_BYTES);
        }
    }
}
