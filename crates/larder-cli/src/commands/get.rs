//! `larder get`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    options::{Common, GetOptions},
    report::{Report, Usage, fields, printable},
    session::Session,
    span::{bytes, shown},
    stored::{Content, Shown, Stored},
};

/// So many hexadecimal digits are shown to people; the rest is for `--raw`.
const MOST_DIGITS: usize = 512;

pub(super) async fn run(common: &Common, options: &GetOptions) -> Result<Report> {
    if options.raw && common.json {
        return Err(Usage("--raw and --json exclude each other: bytes are no JSON; leave one out".to_owned()).into());
    }
    let session = Session::unconnected(common).await?;
    let key = session.names.key(&options.key.key, options.key.canonical)?;
    session.connect().await?;
    let Some(stored) = Stored::read(&session, &key).await? else {
        let document = json!({"key": key.as_str(), "found": false});
        return Ok(Report::new("", document).failing(Some(format!("there is no key {key}"))));
    };
    let failure = match stored.content {
        Content::OtherType => Some(format!("{key} is a Redis list, set, hash or the like, which Larder never writes")),
        Content::Loading => Some(format!("{key} has no value yet: a process is loading it")),
        Content::Held => Some(format!("{key} has no value now: a writer is updating its source")),
        _ => None,
    };
    if options.raw {
        let report = Report::raw(if failure.is_none() { stored.payload()? } else { Vec::new() });
        return Ok(report.failing(failure));
    }
    Ok(report(&stored).failing(failure))
}

fn report(stored: &Stored) -> Report {
    let shown_value = stored.shown();
    let mut document = stored.json();
    let (encoding, value, undecodable) = shown_value
        .as_ref()
        .map_or((None, &Value::Null, None), |shown| (Some(shown.encoding), &shown.value, shown.undecodable.as_deref()));
    document["encoding"] = json!(encoding);
    document["value"] = value.clone();
    document["undecodable"] = json!(undecodable);

    let tags: Vec<&str> = stored.tags.iter().map(|tag| tag.name.as_str()).collect();
    let head = fields([
        ("key", stored.key.to_string()),
        ("kind", format!("{} ({})", stored.content.name(), stored.state())),
        ("codec", stored.encoding()),
        ("size", bytes(stored.len())),
        ("expires in", stored.explanation.expires_in.map_or_else(|| "never".to_owned(), shown)),
        ("tags", tags.join(", ")),
    ]);
    let body = match (&stored.content, shown_value) {
        (Content::Absent, _) => "The loader found nothing, and that is remembered.".to_owned(),
        (_, Some(shown)) => body(&shown),
        (_, None) => String::new(),
    };
    Report::new(format!("{head}\n{body}").trim_end().to_owned(), document)
}

fn body(shown: &Shown) -> String {
    let text = match &shown.value {
        Value::String(digits) if shown.encoding == "hex" && digits.len() > MOST_DIGITS => {
            let more = (digits.len() - MOST_DIGITS) / 2;
            format!("{}... and {more} bytes more; --raw writes them all", &digits[..MOST_DIGITS])
        }
        Value::String(text) if shown.encoding != "json" => text.lines().map(printable).collect::<Vec<_>>().join("\n"),
        // Within JSON control characters are escaped, except for DEL and the C1 set.
        value => format!("{value:#}").lines().map(printable).collect::<Vec<_>>().join("\n"),
    };
    match &shown.undecodable {
        None => text,
        Some(reason) => format!("cannot be decoded: {}\n{text}", printable(reason)),
    }
}
