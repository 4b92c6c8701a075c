//! `larder bigkeys`.

use anyhow::Result;

use crate::{options::BigkeysOptions, report::Report, sample::Sample, session::Session};

pub(super) async fn run(session: &Session, options: &BigkeysOptions) -> Result<Report> {
    let sample = Sample::take(session, options.sample).await.map_err(|error| session.failed(&error))?;
    let limit = usize::try_from(options.limit)?;
    let mut document = sample.document();
    document["biggest"] = sample.biggest_list(limit);
    Ok(Report::new(format!("{}\n{}", sample.extent(), sample.biggest_table(limit)), document))
}
