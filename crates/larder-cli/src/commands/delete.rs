//! `larder delete`.

use anyhow::Result;
use larder_core::Target;
use serde_json::json;

use super::invalidate;
use crate::{
    options::{Common, KeyList},
    report::Report,
    session::Session,
};

pub(super) async fn run(common: &Common, options: &KeyList) -> Result<Report> {
    let session = Session::unconnected(common).await?;
    let keys = session.names.own_keys(&options.keys, options.canonical)?;
    session.connect().await?;
    let asked = keys.len();
    let cache = session.cache().await?;
    let done = invalidate::carry_out(&session, &cache, vec![Target::Keys(keys)]).await?;
    let document = json!({
        "keys": asked,
        "deleted": done.removed,
        "complete": done.failure.is_none(),
    });
    let text = format!("{} of {asked} {} deleted", done.removed, if asked == 1 { "key" } else { "keys" });
    Ok(Report::new(text, document).failing(done.failure))
}
