//! Answers of the server as the types that were asked for.

use std::time::Duration;

use larder_core::{Bytes, Remaining, Result, SetOutcome};
use redis::Value;

use crate::error;

/// An error inside an answer becomes an error.
pub(crate) fn checked(operation: &'static str, value: Value) -> Result<Value> {
    match value {
        Value::ServerError(refused) => Err(error::from_redis(operation, refused.into())),
        value => Ok(value),
    }
}

pub(crate) fn bytes(operation: &'static str, value: Value) -> Result<Option<Bytes>> {
    match checked(operation, value)? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(Some(text.into())),
        Value::Okay => Ok(Some(Bytes::from_static(b"OK"))),
        _ => Err(error::unexpected(operation, "a string")),
    }
}

pub(crate) fn integer(operation: &'static str, value: Value) -> Result<i64> {
    match checked(operation, value)? {
        Value::Int(number) => Ok(number),
        _ => Err(error::unexpected(operation, "an integer")),
    }
}

pub(crate) fn flag(operation: &'static str, value: Value) -> Result<bool> {
    integer(operation, value).map(|number| number > 0)
}

pub(crate) fn array(operation: &'static str, value: Value) -> Result<Vec<Value>> {
    match checked(operation, value)? {
        Value::Array(values) => Ok(values),
        _ => Err(error::unexpected(operation, "an array")),
    }
}

/// The answer of SET: OK, or nothing where its condition did not hold.
pub(crate) fn outcome(operation: &'static str, value: Value) -> Result<SetOutcome> {
    match checked(operation, value)? {
        Value::Okay => Ok(SetOutcome::Stored),
        Value::Nil => Ok(SetOutcome::Rejected),
        _ => Err(error::unexpected(operation, "OK or nothing")),
    }
}

/// The answer of PTTL: -2 for an absent key, -1 for one that does not expire.
pub(crate) fn remaining(operation: &'static str, value: Value) -> Result<Option<Remaining>> {
    match integer(operation, value)? {
        -2 => Ok(None),
        -1 => Ok(Some(Remaining::Forever)),
        // The last millisecond of a key's life is not yet its end.
        millis => u64::try_from(millis)
            .map(|millis| Some(Remaining::For(Duration::from_millis(millis.max(1)))))
            .map_err(|_| error::unexpected(operation, "a time in milliseconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_an_absent_key_a_lasting_one_and_a_dying_one_differ() {
        assert_eq!(remaining("ttl", Value::Int(-2)).unwrap(), None);
        assert_eq!(remaining("ttl", Value::Int(-1)).unwrap(), Some(Remaining::Forever));
        assert_eq!(remaining("ttl", Value::Int(0)).unwrap(), Some(Remaining::For(Duration::from_millis(1))));
        assert_eq!(remaining("ttl", Value::Int(1500)).unwrap(), Some(Remaining::For(Duration::from_millis(1500))));
        assert!(remaining("ttl", Value::Int(-3)).is_err());
        assert!(remaining("ttl", Value::Nil).is_err());
    }
}
