//! A key that could not be warmed.

use std::{any::Any, fmt};

/// The longest reason that a report keeps, in bytes.
const MAX_REASON_BYTES: usize = 500;

/// A key that could not be warmed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The key, in canonical form without a namespace.
    pub key: String,
    /// What the last attempt said, in one line of at most 500 bytes.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = if self.attempts == 1 { "attempt" } else { "attempts" };
        write!(f, "{} ({} {attempts}): {}", self.key, self.attempts, self.reason)
    }
}

/// A reason as one line that is safe in a log and a terminal.
pub(crate) fn one_line(reason: &str) -> String {
    let mut line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_REASON_BYTES {
        line.truncate(line.floor_char_boundary(MAX_REASON_BYTES - "...".len()));
        line.push_str("...");
    }
    line
}

/// What a panic said, where it said it in text.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    said.map_or_else(|| "panicked".to_owned(), |said| format!("panicked: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(one_line("first\nsecond\u{1b}[31m"), "first second [31m");
        let long = one_line(&"\u{e9}".repeat(600));
        assert!(long.len() <= MAX_REASON_BYTES && long.ends_with("..."), "{}", long.len());
    }
}
