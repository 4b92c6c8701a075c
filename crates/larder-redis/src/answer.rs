//! What the server's answers mean.

use std::time::Duration;

use larder_core::{Bytes, Remaining, Result, SetOutcome};
use redis::Value;

use crate::error::unexpected;

/// A string of bytes, or nothing.
pub(crate) fn bytes(operation: &'static str, value: Value) -> Result<Option<Bytes>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::SimpleString(text) => Ok(Some(text.into())),
        _ => Err(unexpected(operation, "a string")),
    }
}

pub(crate) fn integer(operation: &'static str, value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(unexpected(operation, "an integer")),
    }
}

/// An integer that says whether something was so.
pub(crate) fn flag(operation: &'static str, value: &Value) -> Result<bool> {
    integer(operation, value).map(|number| number > 0)
}

/// The answer to SET: nothing stands for a condition that did not hold.
pub(crate) fn outcome(operation: &'static str, value: &Value) -> Result<SetOutcome> {
    match value {
        Value::Okay => Ok(SetOutcome::Stored),
        Value::Nil => Ok(SetOutcome::Rejected),
        _ => Err(unexpected(operation, "that of SET")),
    }
}

/// The answer to PTTL.
pub(crate) fn remaining(operation: &'static str, value: &Value) -> Result<Option<Remaining>> {
    match integer(operation, value)? {
        -2 => Ok(None),
        -1 => Ok(Some(Remaining::Forever)),
        // The last millisecond of a key's life is not yet its end.
        millis => u64::try_from(millis)
            .map(|millis| Some(Remaining::For(Duration::from_millis(millis.max(1)))))
            .map_err(|_| unexpected(operation, "a time to live")),
    }
}

pub(crate) fn array(operation: &'static str, value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        _ => Err(unexpected(operation, "a list")),
    }
}

pub(crate) fn text(operation: &'static str, value: Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| unexpected(operation, "UTF-8 text")),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text),
        _ => Err(unexpected(operation, "a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_live_of_a_missing_key_a_lasting_one_and_a_dying_one_differ() {
        assert_eq!(remaining("ttl", &Value::Int(-2)).unwrap(), None);
        assert_eq!(remaining("ttl", &Value::Int(-1)).unwrap(), Some(Remaining::Forever));
        assert_eq!(remaining("ttl", &Value::Int(0)).unwrap(), Some(Remaining::For(Duration::from_millis(1))));
        assert_eq!(remaining("ttl", &Value::Int(1500)).unwrap(), Some(Remaining::For(Duration::from_millis(1500))));
        assert!(remaining("ttl", &Value::Int(-3)).is_err());
        assert!(remaining("ttl", &Value::Nil).is_err());
    }
}
