//! What patterns match, by the rules of Redis's globs.

/// A pattern, texts that it matches, and texts that it does not.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct GlobCase {
    /// The glob.
    pub pattern: &'static str,
    /// What it matches.
    pub matching: &'static [&'static str],
    /// What it does not match.
    pub other: &'static [&'static str],
}

const fn glob(pattern: &'static str, matching: &'static [&'static str], other: &'static [&'static str]) -> GlobCase {
    GlobCase { pattern, matching, other }
}

const CASES: &[GlobCase] = &[
    // Literals and stars.
    glob("order", &["order"], &["Order", "orders", "an order", "orde"]),
    glob("*", &["a", ":", "a:b:c", "ключ"], &[]),
    glob("order:*", &["order:", "order:7", "order:7:items"], &["order", "orders:7", "Order:7"]),
    glob("*:items", &[":items", "order:7:items"], &["items", "order:items:7"]),
    glob("o*r", &["or", "order", "o:r", "odor"], &["o", "orders"]),
    glob("a*b*c", &["abc", "a-b-c", "abcbc", "aabbcc"], &["acb", "ab", "bc"]),
    glob("**a**", &["a", "bab", "aa"], &["b", "bcd"]),
    glob("a*a*a*a*b", &["aaaab", "axaxaxab"], &["aaaaaaaaaaaaaaaa", "aaab"]),
    // One byte, of which other alphabets need more than one.
    glob("?", &["a", "*", "?"], &["ab", "ä"]),
    glob("k?y", &["key", "k*y", "k:y"], &["ky", "kay ", "keey"]),
    glob("к??ч", &[], &["ключ", "кч"]),
    glob("к????ч", &["ключ"], &["кч"]),
    glob("??*", &["ab", "abc", "ä"], &["a"]),
    // Classes, ranges, and their opposites.
    glob("[abc]", &["a", "b", "c"], &["d", "ab", "[abc]", "A"]),
    glob("v[0-9]", &["v0", "v5", "v9"], &["v", "va", "v10"]),
    glob("v[9-0]", &["v0", "v5", "v9"], &["va", "v-"]),
    glob("[^x]y", &["ay", "^y", ":y"], &["xy", "y"]),
    glob("[^0-9]", &["a", "-"], &["0", "5", "9", "aa"]),
    glob("[a^]", &["a", "^"], &["b"]),
    glob("[!a]", &["!", "a"], &["b"]),
    glob("[a-cx-z]*", &["a", "b1", "cc", "x", "z9"], &["d", "w", "-"]),
    glob("[?*]", &["?", "*"], &["a", "?*"]),
    glob(r"[\]]", &["]"], &["\\", "[", "a"]),
    glob(r"[\-a]", &["-", "a"], &["b", "\\"]),
    glob(r"[a\-c]", &["a", "-", "c"], &["b", "\\"]),
    glob("[-a]", &["-", "a"], &["b"]),
    // What is not closed or is empty.
    glob("[]", &[], &["[", "]", "[]", "a"]),
    glob("[^]", &["a", "]", "["], &["aa", "[^]"]),
    glob("[ab", &["a", "b"], &["[ab", "c", "ab"]),
    glob("]", &["]"], &["a", "[]"]),
    // Escapes.
    glob(r"\*", &["*"], &["a", "\\*", "\\"]),
    glob(r"a\*b", &["a*b"], &["ab", "axb", r"a\*b"]),
    glob(r"a\*b*", &["a*b", "a*bc"], &["ab", "axb"]),
    glob(r"\?", &["?"], &["a", "\\?"]),
    glob(r"\[a]", &["[a]"], &["a", r"\a"]),
    glob(r"\\", &["\\"], &["\\\\", "a"]),
    glob(r"\a", &["a"], &["\\a"]),
    glob("a\\", &["a\\"], &["a", "ab"]),
    // What other globs give a meaning to and these do not.
    glob("{a,b}", &["{a,b}"], &["a", "b"]),
    glob("a|b", &["a|b"], &["a", "b"]),
    glob("a.c", &["a.c"], &["abc"]),
    glob("a+", &["a+"], &["aa", "a"]),
    glob("%2A", &["%2A"], &["*"]),
];

/// The table: literals, stars, single bytes, classes, escapes, malformed patterns. None is empty.
#[must_use]
pub fn glob_cases() -> &'static [GlobCase] {
    CASES
}
