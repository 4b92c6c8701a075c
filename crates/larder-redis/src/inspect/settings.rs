//! How a server is set up: CONFIG GET.

use std::sync::Arc;

use larder_core::{ErrorKind, Result};
use redis::Value;

use crate::{error, node::Node, reply, socket::Request};

/// What matters to a cache.
const WANTED: [&str; 11] = [
    "maxmemory",
    "maxmemory-policy",
    "save",
    "appendonly",
    "timeout",
    "tcp-keepalive",
    "maxclients",
    "lazyfree-lazy-*",
    "hz",
    "databases",
    "notify-keyspace-events",
];

const OPERATION: &str = "settings";

/// Names and values; none where the server does not tell them to this user.
pub(super) async fn settings_of(node: &Arc<Node>) -> Result<Vec<(String, String)>> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(&WANTED);
    match node.ask(OPERATION, Request::Command(&command)).await.and_then(parse) {
        // An ACL forbids CONFIG, or a provider has removed it.
        Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Unsupported) => Ok(Vec::new()),
        settings => settings,
    }
}

fn parse(answer: Value) -> Result<Vec<(String, String)>> {
    let pairs = match reply::checked(OPERATION, answer)? {
        Value::Map(pairs) => pairs,
        // RESP2 has no maps.
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
        }
        _ => return Err(error::unexpected(OPERATION, "names with values")),
    };
    let text = |value| {
        let bytes = reply::bytes(OPERATION, value)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    pairs.into_iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_answers_are_understood() {
        let text = |text: &str| Value::BulkString(text.into());
        let expected = vec![("hz".to_owned(), "10".to_owned()), ("save".to_owned(), String::new())];
        let flat = Value::Array(vec![text("hz"), text("10"), text("save"), text("")]);
        let map = Value::Map(vec![(text("hz"), text("10")), (text("save"), text(""))]);
        assert_eq!(parse(flat).unwrap(), expected);
        assert_eq!(parse(map).unwrap(), expected);
        assert!(parse(Value::Okay).is_err());
    }
}
