//! `larder keys`.

use std::collections::BTreeSet;

use anyhow::Result;
use futures_util::TryStreamExt;
use larder::Pattern;
use larder_core::{Backend, Key, Remaining, SCAN_PAGE, Scan};
use serde_json::{Value, json};

use crate::{
    options::KeysOptions,
    report::{Report, table},
    session::Session,
    span::{millis, shown},
};

pub(super) async fn run(session: &Session, options: &KeysOptions) -> Result<Report> {
    let pattern = session.names.pattern(&options.pattern, options.canonical)?;
    session.connect().await?;
    let limit = usize::try_from(options.limit)?;
    let mut found = matching(session, &pattern, limit, options.internal).await?;
    let truncated = found.len() > limit;
    found.truncate(limit);

    let mut listed: Vec<(Key, Remaining)> = Vec::with_capacity(found.len());
    let lives = session.redis.ttl_many(&found).await;
    for (key, remaining) in found.into_iter().zip(lives) {
        // A key that has gone since it was listed is left out.
        if let Some(remaining) = remaining.map_err(|error| session.failed(&error))? {
            listed.push((key, remaining));
        }
    }
    let document = listed
        .iter()
        .map(|(key, remaining)| json!({"key": key.as_str(), "ttl_ms": remaining.duration().and_then(millis)}));
    let document = json!({"keys": document.collect::<Vec<Value>>(), "truncated": truncated});
    Ok(Report::new(text(&listed, truncated), document))
}

/// Keys that match, sorted; one more than `limit` if there are more.
async fn matching(session: &Session, pattern: &Pattern, limit: usize, internal: bool) -> Result<Vec<Key>> {
    let mut found = BTreeSet::new();
    let mut pages = session.redis.scan(pattern, SCAN_PAGE);
    while let Some(page) = pages.try_next().await.map_err(|error| session.failed(&error))? {
        found.extend(page.into_iter().filter(|key| internal || !session.names.is_internal(key)));
        if found.len() > limit {
            break;
        }
    }
    Ok(found.into_iter().take(limit + 1).collect())
}

fn text(listed: &[(Key, Remaining)], truncated: bool) -> String {
    if listed.is_empty() {
        return "no key matches".to_owned();
    }
    let rows = listed
        .iter()
        .map(|(key, remaining)| [key.to_string(), remaining.duration().map_or_else(|| "never".to_owned(), shown)]);
    let table = table(["key", "expires in"], rows);
    let count = listed.len();
    let more = if truncated { ", and there are more: --limit sets how many are listed" } else { "" };
    format!("{table}\n{count} {}{more}", if count == 1 { "key" } else { "keys" })
}
