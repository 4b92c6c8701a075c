//! `larder ttl`.

use anyhow::Result;
use larder_core::{Backend, Remaining};
use serde_json::{Value, json};

use crate::{
    options::KeyList,
    report::{Report, table},
    session::Session,
    span::{millis, shown},
};

pub(super) async fn run(session: &Session, options: &KeyList) -> Result<Report> {
    let keys = session.names.keys(&options.keys, options.canonical)?;
    session.connect().await?;
    let mut lives = Vec::with_capacity(keys.len());
    for answer in session.redis.ttl_many(&keys).await {
        lives.push(answer.map_err(|error| session.failed(&error))?);
    }
    let documents = keys.iter().zip(&lives).map(|(key, life)| {
        let ttl = life.and_then(Remaining::duration).and_then(millis);
        json!({"key": key.as_str(), "found": life.is_some(), "ttl_ms": ttl})
    });
    let document = json!({"keys": documents.collect::<Vec<Value>>()});
    let rows = keys.iter().zip(&lives).map(|(key, life)| {
        let life = match life {
            None => "(no such key)".to_owned(),
            Some(life) => life.duration().map_or_else(|| "never".to_owned(), shown),
        };
        [key.to_string(), life]
    });
    Ok(Report::new(table(["key", "expires in"], rows), document))
}
