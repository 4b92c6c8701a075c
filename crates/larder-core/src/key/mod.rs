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

mod block;
mod buffer;
mod hash;
mod parts;
mod prefix;

use std::{borrow::Borrow, fmt, sync::Arc};

pub(crate) use self::buffer::needs_escape;
pub use self::{
    buffer::{KeyBuf, MAX_KEY_BYTES},
    hash::KeyHash,
    prefix::KeyPrefix,
};

/// What the keys begin with that Larder keeps for itself, behind the namespace.
const INTERNAL: [&str; 5] = ["%tag:", "%stats:", "%lease:", "%run", "%probe:"];

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

    /// Whether this is one of the keys that Larder keeps for itself in a namespace (whose prefix is `""` or ends in `:`):
    /// markers of tags, leases, statistics, the run of the server, probes. No user's key is: behind a `%` stands an escaped
    /// character there, an absent part or a list.
    #[must_use]
    pub fn is_internal(&self, namespace_prefix: &str) -> bool {
        let rest = self.0.strip_prefix(namespace_prefix);
        rest.is_some_and(|rest| INTERNAL.iter().any(|mark| rest.starts_with(mark)))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{buffer::DIGEST_BYTES, *};

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
    fn numbers_are_their_decimal_digits() {
        let ends = (0..20).map(|digits| 10_u64.pow(digits)).flat_map(|power| [power - 1, power, power + 1]);
        for number in (0..20_000).chain(ends).chain([u64::MAX]) {
            assert_eq!(text(&number), number.to_string());
            assert_eq!(text(&-i128::from(number)), (-i128::from(number)).to_string());
        }
        assert_eq!(text(&(u128::MAX, i64::MIN, 7_i8, -7_i8)), format!("{}:{}:7:-7", u128::MAX, i64::MIN));
    }

    #[test]
    fn a_key_that_ends_near_the_end_of_the_buffer_is_the_same_in_one_piece_and_in_many() {
        for length in MAX_KEY_BYTES - 70..MAX_KEY_BYTES + 70 {
            let whole: String = ('a'..='z').cycle().take(length).collect();
            let expected = KeyBuf::render("", &whole);
            assert_eq!(expected.as_str() == whole, length <= MAX_KEY_BYTES, "{length}");
            for piece in [1, 7, 8, 15, 16, 17, 33, 500] {
                let mut pieces = KeyBuf::new();
                for start in (0..length).step_by(piece) {
                    pieces.path(&whole[start..length.min(start + piece)]);
                }
                pieces.finish();
                assert_eq!(pieces.as_str(), expected.as_str(), "{length} by {piece}");
                assert_eq!(pieces.key_hash(), KeyHash::of(expected.as_str()), "{length} by {piece}");
            }
        }
    }

    #[test]
    fn what_comes_after_the_end_of_the_buffer_counts_even_where_it_would_fit_again() {
        for room in 1..4 {
            let keys = ["a", "b"].map(|last| {
                let mut key = KeyBuf::new();
                key.push_raw(&"x".repeat(MAX_KEY_BYTES - room));
                key.path("\u{10000}").path(last);
                key.to_key()
            });
            assert_ne!(keys[0], keys[1], "{room}");
        }
    }

    #[test]
    fn a_prefix_may_follow_another() {
        let mut key = KeyBuf::with_prefix("a:");
        key.start(&KeyPrefix::new("b:"));
        assert_eq!((key.as_str(), key.key_hash()), ("a:b:", KeyHash::of("a:b:")));
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
    fn what_larder_keeps_for_itself_is_told_from_users_keys() {
        for key in ["shop:%tag:a", "shop:%stats:01", "shop:%lease:a", "shop:%run", "shop:%run:{1}", "shop:%probe:1"] {
            assert!(Key::from_canonical(key).is_internal("shop:"), "{key}");
        }
        let users = [Key::with_prefix("shop:", "%tag:a"), Key::with_prefix("shop:", &(None::<&str>, 1))];
        let users =
            users.into_iter().chain(["shop:a", "shop:%20a", "other:%tag:a", "shop:%(a%,%)"].map(Key::from_canonical));
        for key in users {
            assert!(!key.is_internal("shop:"), "{key}");
        }
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
    fn an_owned_key_is_whole_also_where_its_buffer_is_not_finished() {
        let mut buffer = KeyBuf::with_prefix("shop:");
        buffer.path(&"x".repeat(2000));
        let early = buffer.to_key();
        assert_eq!(early, Key::with_prefix("shop:", &"x".repeat(2000)));
        buffer.finish();
        assert_eq!((buffer.as_str(), buffer.to_key()), (early.as_str(), early.clone()));
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

    /// Character by character.
    fn escaped(text: &str, colon_too: bool) -> String {
        let escape = |character: char| -> String {
            character.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
        };
        text.chars().map(|c| if needs_escape(c, colon_too) { escape(c) } else { c.to_string() }).collect()
    }

    proptest! {
        #[test]
        fn a_text_is_escaped_as_character_by_character(path in "([ -~]|\\PC){0,40}", part in "([ -~]|\\PC){0,40}") {
            prop_assert_eq!(text(&path), escaped(&path, false));
            prop_assert_eq!(text(&(&part,)), escaped(&part, true));
            let plain = path.replace(|character| needs_escape(character, false), "");
            prop_assert_eq!(text(&plain), plain);
        }

        #[test]
        fn the_hash_is_that_of_the_text_whatever_it_was_rendered_from(
            prefix in "[a-z:é]{0,40}",
            parts in proptest::collection::vec((".{0,40}", any::<u64>(), 0..6_u32), 0..14),
        ) {
            let mut rendered = KeyBuf::new();
            rendered.start(&KeyPrefix::new(prefix.as_str()));
            let mut at_once = KeyBuf::with_prefix(&prefix);
            for (part, number, digits) in &parts {
                let number = number % 1000_u64.pow(*digits);
                rendered.part(part).separator().part(&number).path(part);
                at_once.part(part).push_raw(&format!(":{number}"));
                at_once.path(part);
            }
            rendered.finish();
            at_once.finish();
            prop_assert_eq!(rendered.as_str(), at_once.as_str());
            prop_assert_eq!(rendered.as_bytes(), at_once.as_str().as_bytes());
            prop_assert_eq!(rendered.key_hash(), KeyHash::of(rendered.as_str()));
        }

        #[test]
        fn texts_that_differ_have_hashes_that_differ(text in ".{0,30}", other in ".{0,30}") {
            prop_assert_eq!(text == other, KeyHash::of(&text) == KeyHash::of(&other));
            // Also where they differ in nothing but what a word is filled up with.
            prop_assert_ne!(KeyHash::of(&text), KeyHash::of(format!("{text}\0")));
        }

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
