//! When: cron expressions in a time zone.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Year},
};
use larder_core::{Error, ErrorKind, Result, UnixMillis};

/// Due times by a cron expression, in the wall-clock time of a place, and optionally some time before them.
///
/// Clock changes follow the rules of Vixie cron. An expression of fixed times (`30 9 * * Mon-Fri`) runs once a day: a time
/// that the clock leaps over in spring is due right after the leap, a time that comes twice in autumn only the first time.
/// An expression with a wildcard or a step in its hours or minutes (`*/15 * * * *`) goes by elapsed time.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    expression: String,
    zone: Tz,
    lead: Duration,
}

impl Schedule {
    /// A schedule from a cron expression of five fields (minute, hour, day of month, month, day of week), six with
    /// seconds in front, and the name of a time zone of the IANA database such as `Europe/London` or `UTC`.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an expression that cannot be read or is never due, such as
    /// the 30th of February, and for an unknown time zone.
    pub fn cron(expression: &str, zone: &str) -> Result<Self> {
        let refused = |message: String| Error::new(ErrorKind::InvalidArgument, "schedule", message);
        let parsed_zone = zone.trim().parse::<Tz>().map_err(|_| {
            refused(format!(
                "`zone` is {zone:?}, which is no time zone of the IANA database; write it like `America/New_York` or `UTC`"
            ))
        })?;
        let cron = CronParser::builder().year(Year::Disallowed).build().parse(expression).map_err(|error| {
            refused(format!(
                "`expression` is {expression:?}: {error}; write minute, hour, day of month, month and day of week, such as \
                 `30 9 * * Mon-Fri`"
            ))
        })?;
        let schedule = Self { cron, expression: expression.trim().to_owned(), zone: parsed_zone, lead: Duration::ZERO };
        // An expression names no year: if it is not due in all the calendar after 1970, it never is.
        if schedule.next_after(UnixMillis(0)).is_none() {
            return Err(refused(format!(
                "`expression` is {expression:?}, which no day ever meets; change day or month"
            )));
        }
        Ok(schedule)
    }

    /// The same, but due this much earlier, in elapsed time.
    #[must_use]
    pub fn before(mut self, lead: Duration) -> Self {
        self.lead = lead;
        self
    }

    /// The first due time after `time`, not at it; `None` if there is none within the calendar.
    #[must_use]
    pub fn next_after(&self, time: UnixMillis) -> Option<UnixMillis> {
        let lead = u64::try_from(self.lead.as_millis()).ok()?;
        let from = i64::try_from(time.0.checked_add(lead)?).ok()?;
        let local = DateTime::<Utc>::from_timestamp_millis(from)?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        let due = u64::try_from(next.timestamp_millis()).ok()?.checked_sub(lead)?;
        Some(UnixMillis(due))
    }

    /// The due times after `time`, in order.
    pub fn upcoming(&self, time: UnixMillis) -> impl Iterator<Item = UnixMillis> + '_ {
        std::iter::successors(self.next_after(time), |last| self.next_after(*last))
    }
}

/// The expression, the time zone and the lead.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.expression, self.zone)?;
        if self.lead.is_zero() { Ok(()) } else { write!(f, ", {:?} before", self.lead) }
    }
}
