//! Taking a sample: how long, and what is shown meanwhile.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_core::{Error, ErrorKind, Inspect, Result};

use super::Sample;
use crate::session::Session;

/// After so long a sample is broken off: what was seen until then is a sample too.
const LONGEST: Duration = Duration::from_secs(30);

/// A sample that takes less than this needs no progress line.
const NOTICEABLE: Duration = Duration::from_millis(500);

impl Sample {
    /// Looks at so many keys. While it takes long, a line on standard error, if that is a terminal, shows how far it is.
    pub(crate) async fn take(session: &Session, keys: u32) -> Result<Self> {
        let mut sample = Self::default();
        sample.fill(session, keys).await?;
        if sample.keys.is_empty() && sample.refused > 0 {
            let message =
                "the user may not look at any of the keys that were met; it needs TYPE, PTTL and MEMORY USAGE";
            return Err(Error::new(ErrorKind::Auth, "sample", message));
        }
        Ok(sample)
    }

    async fn fill(&mut self, session: &Session, keys: u32) -> Result<()> {
        let (began, mut line) = (Instant::now(), None);
        let mut pages = session.redis.sample(usize::try_from(keys).unwrap_or(usize::MAX));
        while let Some(page) = pages.try_next().await? {
            self.add(page);
            if began.elapsed() >= LONGEST {
                self.broken_off = true;
                break;
            }
            if began.elapsed() >= NOTICEABLE {
                let line = line.get_or_insert_with(|| progress(u64::from(keys).min(self.total)));
                line.set_position(self.looked_at());
            }
        }
        if let Some(line) = line {
            line.finish_and_clear();
        }
        Ok(())
    }
}

/// Draws nothing where standard error is no terminal.
fn progress(keys: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{pos} of {len} keys looked at").expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(keys), ProgressDrawTarget::stderr()).with_style(style)
}
