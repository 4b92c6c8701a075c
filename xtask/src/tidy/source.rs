//! Rust source as tidy looks at it: without its comments and literals, and by functions.
//!
//! This is a lexer and a search for braces, not a parser: enough to measure, and it needs no dependency. Source that
//! does not compile may be measured wrongly.

use std::ops::Range;

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// The line of its `fn`, from 1.
    pub(super) line: usize,
    /// From the line of `fn` to that of the closing brace.
    pub(super) lines: usize,
}

/// `source` with its comments, strings and characters blanked out. Line breaks stay, so that lines keep their numbers.
pub(super) fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` if none does.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1);
    match chars[at] {
        '/' if next == Some(&'/') => {
            chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
        }
        '/' if next == Some(&'*') => block_comment_end(chars, at),
        '"' => quoted_end(chars, at, '"'),
        '\'' if is_character(chars, at) => quoted_end(chars, at, '\''),
        'r' if !follows_identifier(chars, at) => raw_string_end(chars, at),
        _ => at,
    }
}

/// Block comments nest.
fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// Tells `'a'` from the lifetime `'a`.
fn is_character(chars: &[char], at: usize) -> bool {
    chars.get(at + 1) == Some(&'\\') || (chars.get(at + 1) != Some(&'\'') && chars.get(at + 2) == Some(&'\''))
}

/// `r` may end an identifier; `br"` and `cr"` are literals all the same.
fn follows_identifier(chars: &[char], at: usize) -> bool {
    let part_of_name = |c: &char| c.is_alphanumeric() || *c == '_';
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b' | 'c') => at >= 2 && part_of_name(&chars[at - 2]),
        Some(before) => part_of_name(&before),
        None => false,
    }
}

fn raw_string_end(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start;
    }
    let body = start + hashes + 2;
    let closes = |at: &usize| chars[*at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (body..chars.len()).find(closes).map_or(chars.len(), |at| at + 1 + hashes)
}

/// The functions of `code` (as [`code_of`] gives it) that have a body, nested ones included.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = find_word(code, "fn", from) {
        from = at + 2;
        let rest = &code[from..];
        let name: String =
            rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '#').collect();
        // Without a name it is the type of a function pointer.
        if name.is_empty() {
            continue;
        }
        if let Some(length) = body_end(rest) {
            let line = 1 + code[..at].matches('\n').count();
            found.push(Function { name, line, lines: 1 + rest[..length].matches('\n').count() });
        }
    }
    found
}

/// The offset just after the body of the function whose signature `rest` starts with; `None` if it has no body.
fn body_end(rest: &str) -> Option<usize> {
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    for (offset, c) in rest.char_indices() {
        match c {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets = brackets.checked_sub(1)?,
            ';' if braces == 0 && brackets == 0 => return None,
            // A brace within brackets of the signature is a constant expression, not the body.
            '{' if brackets == 0 => braces += 1,
            '}' if brackets == 0 => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The lines of `code` before its module of unit tests; all of them if it has none.
pub(super) fn lines_before_tests(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let starts_tests = |at: &usize| {
        lines[*at].starts_with("#[cfg(test)]")
            && lines[at + 1..]
                .iter()
                .find(|line| !line.is_empty() && !line.starts_with("#["))
                .is_some_and(|line| line.trim_start_matches("pub(crate) ").starts_with("mod ") && line.ends_with('{'))
    };
    (0..lines.len()).find(starts_tests).unwrap_or(lines.len())
}

/// The lines of `code` that hold a bare `allow` attribute, also within `cfg_attr`.
///
/// Those within `quote!` do not count: whether generated code meets a lint is up to what it was generated from, and an
/// `expect` that is not met is a warning of its own.
pub(super) fn allow_attributes(code: &str) -> Vec<usize> {
    let generated = quoted_code(code);
    let mut lines = Vec::new();
    let mut from = 0;
    while let Some(start) = code[from..].find('#').map(|offset| from + offset) {
        from = start + 1;
        let body = code[from..].trim_start_matches('!').trim_start();
        let Some(body) = body.strip_prefix('[') else { continue };
        let attribute = &body[..attribute_length(body)];
        if let Some(at) = find_word(attribute, "allow", 0)
            && attribute[at + "allow".len()..].trim_start().starts_with('(')
            && !generated.iter().any(|range| range.contains(&start))
        {
            lines.push(1 + code[..start].matches('\n').count());
        }
    }
    lines
}

/// Where `code` holds code to be generated, by the macros of the `quote` and `syn` crates.
fn quoted_code(code: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for name in ["quote", "quote_spanned", "parse_quote", "parse_quote_spanned"] {
        let mut from = 0;
        while let Some(at) = find_word(code, name, from) {
            from = at + name.len();
            if code[from..].starts_with('!') {
                ranges.push(at..from + delimited_length(&code[from..]));
            }
        }
    }
    ranges
}

/// The length of the text up to the end of its first parenthesized, bracketed or braced part; all of it if none ends.
fn delimited_length(text: &str) -> usize {
    let mut depth = 0_usize;
    for (offset, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

fn attribute_length(body: &str) -> usize {
    let mut depth = 1_usize;
    for (offset, c) in body.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset;
        }
    }
    body.len()
}

/// The lines of `code` that hold a `todo!`.
pub(super) fn todos(code: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut from = 0;
    while let Some(at) = find_word(code, "todo", from) {
        from = at + "todo".len();
        if code[from..].trim_start().starts_with('!') && !code[from..].trim_start().starts_with("!=") {
            lines.push(1 + code[..at].matches('\n').count());
        }
    }
    lines
}

/// Where `word` next stands by itself in `code`, not as a part of another identifier.
fn find_word(code: &str, word: &str, from: usize) -> Option<usize> {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code[from..].match_indices(word).map(|(offset, _)| from + offset).find(|at| {
        !code[..*at].chars().next_back().is_some_and(part_of_name)
            && !code[at + word.len()..].chars().next().is_some_and(part_of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(source: &str) -> Vec<(String, usize, usize)> {
        functions(&code_of(source)).into_iter().map(|found| (found.name, found.line, found.lines)).collect()
    }

    #[test]
    fn a_function_counts_from_its_name_to_its_closing_brace() {
        let source = "\n/// Adds.\nfn add(\n    a: u8,\n) -> u8 {\n    a + 1\n}\n\nfn one() {}\n";
        assert_eq!(lengths(source), [("add".to_owned(), 3, 5), ("one".to_owned(), 9, 1)]);
    }

    #[test]
    fn braces_in_literals_and_comments_do_not_end_a_function() {
        let source = "fn tricky<'a>(x: &'a str) {\n  let _a = ('}', '\\'', \"}\\\"}\", r#\"\"}\"#, b'}');\n  // }\n  /* } /* } */ } */\n}";
        assert_eq!(lengths(source), [("tricky".to_owned(), 1, 5)]);
    }

    #[test]
    fn a_declaration_without_a_body_is_not_a_function() {
        assert_eq!(lengths("trait T { fn a(&self) -> [u8; 4]; fn b() {\n} }"), [("b".to_owned(), 1, 2)]);
    }

    #[test]
    fn a_function_pointer_is_not_a_function() {
        assert_eq!(lengths("type F = fn(u8) -> u8; struct S { f: fn() }"), []);
    }

    #[test]
    fn a_constant_expression_in_the_signature_is_not_the_body() {
        assert_eq!(lengths("fn a(x: [u8; { 1 + 1 }]) {\n\n}"), [("a".to_owned(), 1, 3)]);
    }

    #[test]
    fn nested_functions_are_found() {
        let names: Vec<String> =
            lengths("fn outer() {\n fn inner() {}\n}").into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["outer", "inner"]);
    }

    #[test]
    fn blanked_source_keeps_its_lines() {
        let source = "let a = \"x\ny\"; /* 1\n2 */ b'\\n'\n// end";
        assert_eq!(code_of(source).matches('\n').count(), source.matches('\n').count());
        assert!(!code_of(source).contains(['x', 'y', '1', '2']));
    }

    #[test]
    fn a_raw_identifier_is_not_a_raw_string() {
        assert_eq!(code_of("let r#type = 1;"), "let r#type = 1;");
    }

    #[test]
    fn a_file_is_measured_up_to_its_tests() {
        assert_eq!(lines_before_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_before_tests("a\n#[cfg(test)]\nfn only_in_tests() {}\nb\n"), 4);
    }

    #[test]
    fn a_bare_allow_is_found_wherever_it_hides() {
        let source = "#![allow(a)]\n#[expect(b, reason = \"#[allow(c)]\")]\n#[cfg_attr(x,\n allow(d))]\n// #[allow(e)]\n#[allowed]";
        assert_eq!(allow_attributes(&code_of(source)), [1, 3]);
    }

    #[test]
    fn an_allow_in_generated_code_is_no_fault() {
        let source =
            "let a = quote! {\n #[allow(a)]\n fn b() {}\n};\n#[allow(c)]\nlet d = quote_spanned!(e=> #[allow(f)]);";
        assert_eq!(allow_attributes(&code_of(source)), [5]);
    }

    #[test]
    fn an_unfinished_body_is_found() {
        assert_eq!(todos(&code_of("let todo = 1;\nif todo != 2 {}\ntodo!()\n\"todo!()\"\nstd::todo! {}")), [3, 5]);
    }
}
