//! `larder explain`.

use anyhow::Result;
use larder_core::Key;
use serde_json::json;

use crate::{
    options::OneKey,
    report::{Report, fields},
    session::Session,
    span::{bytes, shown},
    stored::{Content, Stored, TagState},
};

pub(super) async fn run(session: &Session, options: &OneKey) -> Result<Report> {
    let key = session.names.key(&options.key, options.canonical)?;
    session.connect().await?;
    let stored = Stored::read(session, &key).await?;
    let verdict = verdict(stored.as_ref());
    let mut document = stored.as_ref().map_or_else(|| json!({"key": key.as_str(), "found": false}), Stored::json);
    document["verdict"] = verdict.clone().into();
    Ok(Report::new(text(&key, stored.as_ref(), verdict), document))
}

/// What a process would make of it that holds no copy in its own memory.
fn verdict(stored: Option<&Stored>) -> String {
    let Some(stored) = stored else { return "a miss: the key is not there".to_owned() };
    match stored.content {
        Content::Value | Content::Absent => verdict_on_entry(stored),
        Content::Loading => "a miss: a process is loading it".to_owned(),
        Content::Held => "a miss: a writer is updating its source".to_owned(),
        Content::Counter(_) => "a miss for a value: it is a counter".to_owned(),
        Content::Foreign => "a miss: another program's value, which is left alone".to_owned(),
        Content::Unusable(reason) => format!("a miss: the entry is of no use to this release ({})", reason.as_str()),
        Content::OtherType => "a miss: a Redis list, set, hash or the like, which is left alone".to_owned(),
    }
}

fn verdict_on_entry(stored: &Stored) -> String {
    let invalidated: Vec<&str> = stored.tags.iter().filter(|tag| !tag.holds).map(|tag| tag.name.as_str()).collect();
    if !invalidated.is_empty() {
        return format!("a miss: invalidated by the tag {}", invalidated.join(", "));
    }
    let what = if stored.content == Content::Absent { " (of the value's absence)" } else { "" };
    match stored.explanation.state {
        "fresh" => format!("a hit{what}"),
        "stale" => format!("a stale hit{what}, refreshed in the background"),
        _ => "a miss: the entry is past its life".to_owned(),
    }
}

fn text(key: &Key, stored: Option<&Stored>, verdict: String) -> String {
    let Some(stored) = stored else { return fields([("key", key.to_string()), ("a read is", verdict)]) };
    let explanation = &stored.explanation;
    let is_entry = matches!(stored.content, Content::Value | Content::Absent);
    let of_entry = |text: String| if is_entry { text } else { "-".to_owned() };
    let tag = |tag: &TagState| format!("{}{}", tag.name, if tag.holds { "" } else { " (invalidated)" });
    fields([
        ("key", key.to_string()),
        ("kind", stored.content.name().to_owned()),
        ("state", stored.state().to_owned()),
        ("size", bytes(stored.len())),
        ("codec", stored.encoding()),
        ("fresh for", of_entry(shown(explanation.fresh_for))),
        ("served for", of_entry(shown(explanation.stale_for))),
        ("kept by the server", explanation.expires_in.map_or_else(|| "for ever".to_owned(), shown)),
        ("load cost", of_entry(format!("{:.1?}", explanation.load_cost))),
        ("schema", of_entry(format!("{:08x}", explanation.schema))),
        ("tags", stored.tags.iter().map(tag).collect::<Vec<_>>().join(", ")),
        ("a read is", verdict),
    ])
}
