//! What a command has to say: to people as text, to scripts as one JSON document.

use std::fmt;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::Value;

/// What a command answers.
#[derive(Debug)]
pub(crate) struct Report {
    /// For people.
    pub(crate) text: String,
    /// For scripts.
    pub(crate) json: Value,
    /// Instead of both, bytes as they are.
    pub(crate) raw: Option<Vec<u8>>,
    /// Why the exit code is 1, though there is an answer.
    pub(crate) failure: Option<String>,
}

impl Report {
    pub(crate) fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, raw: None, failure: None }
    }

    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Self { text: String::new(), json: Value::Null, raw: Some(bytes), failure: None }
    }

    pub(crate) fn failing(mut self, failure: Option<String>) -> Self {
        self.failure = failure;
        self
    }
}

/// The arguments are wrong in a way that only the command can tell: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A table with a line of headings.
pub(crate) fn table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(headings);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell)));
    }
    table.to_string()
}

/// A table of names and values.
pub(crate) fn fields<const FIELDS: usize>(rows: [(&str, String); FIELDS]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    for (name, value) in rows {
        table.add_row([name.to_owned(), printable(&value)]);
    }
    table.to_string()
}

/// Text from a server that cannot steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jé"), "a\\u{1b}[2Jé");
        assert!(!fields([("k", "\u{1b}".to_owned())]).contains('\u{1b}'));
    }
}
