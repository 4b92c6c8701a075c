//! `larder memory`.

use anyhow::Result;

use crate::{options::MemoryOptions, report::Report, sample::Sample, session::Session};

pub(super) async fn run(session: &Session, options: &MemoryOptions) -> Result<Report> {
    let sample = Sample::take(session, options.sample).await.map_err(|error| session.failed(&error))?;
    let limit = usize::try_from(options.limit)?;
    let prefixes = sample.by_prefix(options.depth).len();
    let mut document = sample.document();
    document["prefixes"] = sample.prefixes(options.depth, limit);
    document["truncated"] = (prefixes > limit).into();
    let more = match prefixes.saturating_sub(limit) {
        0 => String::new(),
        more => format!("\n{more} more prefixes: --limit sets how many are listed"),
    };
    let table = sample.prefix_table(options.depth, limit);
    Ok(Report::new(format!("{}\n{}\n{table}{more}", sample.extent(), sample.summary()), document))
}
