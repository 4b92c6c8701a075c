//! Patterns over keys, by Redis's glob rules in every backend.
//!
//! `*` any bytes, `?` one byte, `[abc]` `[a-z]` `[^a]` one byte of (or outside) a class, `\x` the character x. The rules
//! are those of Redis 7.0's `stringmatchlen` (`src/util.c`), matched here without recursion.
//!
//! Bytes are unsigned here. What lies between an ASCII byte and another, as in `[a-é]`, depends on the machine for which the
//! server was compiled: such a range is of no use.

use std::{fmt, sync::Arc};

use crate::{Error, ErrorKind, Key, KeyBuf, KeyPart, Result, key};

/// A glob over canonical keys. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// A pattern as a person writes it: literal characters are escaped as they are in keys, so that `user:a b*` finds
    /// the key `user:a b7`, and `\*` is a star within a key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is empty, or nothing but `*`: what takes everything must be said in another
    /// way.
    pub fn new(glob: &str) -> Result<Self> {
        if glob.is_empty() || glob.bytes().all(|byte| byte == b'*') {
            let message = format!(
                "`pattern` is {glob:?}, which would touch every key; name a prefix, or ask for everything explicitly"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, "pattern", message));
        }
        Ok(Self(render(glob).into()))
    }

    /// The pattern behind a canonical prefix (a namespace, a region): only keys below it match.
    #[must_use]
    pub fn within(&self, prefix: &str) -> Self {
        Self(format!("{prefix}{}", self.0).into())
    }

    /// Every key below a canonical prefix.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        Self(format!("{prefix}*").into())
    }

    /// Every key.
    #[must_use]
    pub fn everything() -> Self {
        Self("*".into())
    }

    /// Exactly one key.
    #[must_use]
    pub fn exactly(key: &Key) -> Self {
        Self(escape_glob(key.as_str()).into())
    }

    /// Text that is canonical already, from a message or a backend.
    #[must_use]
    pub fn from_canonical(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The canonical text, as Redis's MATCH takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first special character: every match begins with it.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        let end = self.0.find(['*', '?', '[', '\\']).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// Whether a canonical key matches. O(key x pattern) at worst, linear for the usual ones; no allocation.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        glob_matches(self.0.as_bytes(), key.as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", &*self.0)
    }
}

/// User input as a literal within a glob: special characters lose their meaning.
#[must_use]
pub fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// One part of a key as a literal within a canonical pattern, `:` escaped.
#[must_use]
pub fn literal_part<P: KeyPart + ?Sized>(part: &P) -> String {
    let mut buffer = KeyBuf::new();
    buffer.part(part);
    buffer.finish();
    buffer.as_str().to_owned()
}

/// A person's glob over keys becomes a glob over canonical keys.
fn render(glob: &str) -> String {
    let mut out = String::with_capacity(glob.len());
    let mut characters = glob.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' => out.push(character),
            '[' => push_class(&mut out, &mut characters),
            '\\' => push_literal(&mut out, characters.next().unwrap_or('\\')),
            literal => push_literal(&mut out, literal),
        }
    }
    out
}

fn push_literal(out: &mut String, character: char) {
    if key::needs_escape(character, false) {
        let mut escaped = KeyBuf::new();
        escaped.path(character.encode_utf8(&mut [0; 4]));
        out.push_str(escaped.as_str());
    } else {
        out.push(character);
    }
}

fn push_class(out: &mut String, characters: &mut std::str::Chars<'_>) {
    out.push('[');
    while let Some(character) = characters.next() {
        out.push(character);
        match character {
            ']' => break,
            '\\' => out.extend(characters.next()),
            _ => {}
        }
    }
}

/// Whether `text` matches the glob, byte for byte as Redis does it.
#[must_use]
pub fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a comparison fails: behind the last star, one byte further into the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if t == text.len() {
            return pattern[p..].iter().all(|byte| *byte == b'*');
        }
        match step(&pattern[p..], text[t]) {
            Some(consumed) => {
                p += consumed;
                t += 1;
            }
            None => match &mut retry {
                None => return false,
                Some((after_star, from)) => {
                    *from += 1;
                    (p, t) = (*after_star, *from);
                }
            },
        }
    }
}

/// How many bytes of the pattern match this byte of the text, `None` if it does not match.
fn step(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => class(pattern, byte),
        b'\\' if pattern.len() >= 2 => (pattern[1] == byte).then_some(2),
        literal => (literal == byte).then_some(1),
    }
}

/// A class; one that is never closed reaches to the end of the pattern, as in Redis.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    let end = loop {
        let rest = &pattern[at..];
        match rest {
            [] => break at,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [start, b'-', end, ..] => {
                let (low, high) = if start <= end { (start, end) } else { (end, start) };
                found |= (low..=high).contains(&&byte);
                at += 3;
            }
            [single, ..] => {
                found |= *single == byte;
                at += 1;
            }
        }
    };
    (found != negated).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hxllo", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("[a", "a", true),
            ("*", "", true),
            ("**", "anything", true),
            ("", "", true),
            ("", "a", false),
            (r"[\]]", "]", true),
        ] {
            assert_eq!(glob_matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "*a".repeat(60);
        assert!(!glob_matches(pattern.as_bytes(), "a".repeat(59).as_bytes()));
    }

    #[test]
    fn a_pattern_finds_the_keys_that_were_escaped() {
        let pattern = Pattern::new("user:a b*").unwrap().within("shop:");
        assert!(pattern.matches(Key::with_prefix("shop:", "user:a b7").as_str()));
        assert!(!pattern.matches(Key::with_prefix("other:", "user:a b7").as_str()));
        let star = Pattern::new(r"user:\*").unwrap();
        assert!(star.matches(Key::new("user:*").as_str()));
        assert!(!star.matches(Key::new("user:x").as_str()));
    }

    #[test]
    fn exactly_one_key_is_found_whatever_is_in_it() {
        for key in [Key::new("a*b?[c] %"), Key::new(&(None::<u8>, "a:b")), Key::from_canonical("foreign [*] \\ %2a é")]
        {
            let pattern = Pattern::exactly(&key);
            assert!(pattern.matches(key.as_str()), "{pattern} {key}");
            assert!(!pattern.matches(&format!("{key}x")) && !pattern.matches("axb"), "{pattern} {key}");
        }
    }

    #[test]
    fn a_pattern_for_everything_must_be_asked_for_by_name() {
        for glob in ["", "*", "**"] {
            assert_eq!(Pattern::new(glob).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn the_literal_prefix_ends_at_the_first_special_character() {
        assert_eq!(Pattern::new("api:[ab]*").unwrap().literal_prefix(), "api:");
    }
}
