//! How long which data may be cached: ranges as a starting point, typed, so that a TTL can be taken from them or checked
//! against them.
//!
//! ```
//! use std::time::Duration;
//! use larder_strategy::recommend;
//!
//! let strategy = recommend::ticker().strategy();
//! assert_eq!(strategy.ttl, Duration::from_secs(15));
//! let advice = recommend::ticker().check(Duration::from_secs(300));
//! assert_eq!(advice.to_string(), "5 min is too long for ticker: at most 30 s, so that nothing older is served");
//! ```

use std::{fmt, fmt::Write as _, time::Duration};

use crate::{Strategy, span::Span};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const UNLIMITED: u64 = u64::MAX;

/// One of the presets, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// [`Strategy::api_response`].
    ApiResponse,
    /// [`Strategy::database_query`].
    DatabaseQuery,
    /// [`Strategy::indicator`].
    Indicator,
    /// [`Strategy::session`].
    Session,
}

impl Preset {
    /// The preset itself.
    pub const fn strategy(self) -> Strategy {
        match self {
            Self::ApiResponse => Strategy::api_response(),
            Self::DatabaseQuery => Strategy::database_query(),
            Self::Indicator => Strategy::indicator(),
            Self::Session => Strategy::session(),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiResponse => "api_response",
            Self::DatabaseQuery => "database_query",
            Self::Indicator => "indicator",
            Self::Session => "session",
        })
    }
}

/// The range of TTLs that suits a kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recommendation {
    /// Its name, as the function that returns it.
    pub name: &'static str,
    /// The shortest TTL that is worth it.
    pub min: Duration,
    /// The longest TTL that is safe; [`Duration::MAX`] where there is no limit.
    pub max: Duration,
    /// The TTL to start with.
    pub typical: Duration,
    /// The preset whose policy suits.
    pub preset: Preset,
}

impl Recommendation {
    const fn new(name: &'static str, min: u64, typical: u64, max: u64, preset: Preset) -> Self {
        let (min, typical) = (Duration::from_secs(min), Duration::from_secs(typical));
        let max = if max == UNLIMITED { Duration::MAX } else { Duration::from_secs(max) };
        Self { name, min, max, typical, preset }
    }

    /// The TTL to start with.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.typical
    }

    /// The preset with the typical TTL. Its stale window and fail-safe are cut so that nothing older than the range's
    /// longest TTL is served; where the typical TTL is the longest, there are none.
    pub fn strategy(&self) -> Strategy {
        let preset = self.preset.strategy();
        let room = self.max.saturating_sub(self.typical);
        let window = preset.stale_window.min(room);
        let fail_safe = preset.fail_safe.filter(|_| !window.is_zero()).map(|mut fail_safe| {
            fail_safe.max_stale = fail_safe.max_stale.min(window);
            fail_safe
        });
        preset.name(self.name).ttl(self.typical).stale_window(window).fail_safe(fail_safe)
    }

    /// Whether a TTL lies in the range; both ends do.
    #[must_use]
    pub fn check(&self, ttl: Duration) -> Advice {
        let fit = if ttl < self.min {
            Fit::TooShort
        } else if ttl > self.max {
            Fit::TooLong
        } else {
            Fit::Within
        };
        Advice { fit, ttl, recommendation: *self }
    }
}

/// How a TTL lies to a recommended range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// Within the range, ends included.
    Within,
    /// Shorter: misses and load for little gain.
    TooShort,
    /// Longer: served values may be older than is good.
    TooLong,
}

/// What is said of a TTL; displays as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advice {
    /// How it lies to the range.
    pub fit: Fit,
    /// The TTL that was checked.
    pub ttl: Duration,
    /// The recommendation it was checked against.
    pub recommendation: Recommendation,
}

impl Advice {
    /// Whether the TTL is within the range.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.fit == Fit::Within
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recommendation { name, min, max, .. } = self.recommendation;
        let ttl = Span(self.ttl);
        match self.fit {
            Fit::Within => write!(f, "{ttl} suits {name}"),
            Fit::TooShort => write!(f, "{ttl} is too short for {name}: at least {}, to spare the source", Span(min)),
            Fit::TooLong => {
                write!(f, "{ttl} is too long for {name}: at most {}, so that nothing older is served", Span(max))
            }
        }
    }
}

/// The helper functions and the list of them all, from one table.
macro_rules! recommendations {
    ($($(#[doc = $doc:literal])+ $name:ident: $preset:ident, $min:expr, $typical:expr, $max:expr;)+) => {
        $(
            $(#[doc = $doc])+
            #[must_use]
            pub const fn $name() -> Recommendation {
                Recommendation::new(stringify!($name), $min, $typical, $max, Preset::$preset)
            }
        )+

        /// Every recommendation, in the order of the table in the crate's documentation.
        pub static RECOMMENDATIONS: &[Recommendation] = &[$($name()),+];
    };
}

recommendations! {
    /// Last prices: 5 to 30 s.
    ticker: ApiResponse, 5, 15, 30;
    /// Order book depth: 10 to 60 s.
    order_book: ApiResponse, 10, 30, 60;
    /// Symbols, trading rules and other metadata of an exchange: 1 h to 1 d.
    exchange_info: ApiResponse, HOUR, 6 * HOUR, DAY;
    /// News and sentiment: 5 to 15 min.
    news: ApiResponse, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE;
    /// Candles and other history from the database: 5 to 30 min.
    historical: DatabaseQuery, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE;
    /// Preferences of a user: 10 to 60 min.
    preferences: DatabaseQuery, 10 * MINUTE, 30 * MINUTE, HOUR;
    /// Settings of the system: 1 to 24 h.
    settings: DatabaseQuery, HOUR, 6 * HOUR, DAY;
    /// Static data of the database: 1 d.
    static_data: DatabaseQuery, DAY, DAY, DAY;
    /// Indicators on candles of minutes: 5 to 15 min.
    intraday: Indicator, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE;
    /// Indicators on candles of hours: 30 to 60 min.
    hourly: Indicator, 30 * MINUTE, 45 * MINUTE, HOUR;
    /// Indicators on candles of days: 4 to 24 h.
    daily: Indicator, 4 * HOUR, 12 * HOUR, DAY;
    /// Indicators on candles of weeks and months: 1 to 7 d.
    weekly: Indicator, DAY, 3 * DAY, 7 * DAY;
    /// Authentication tokens: 30 to 60 min.
    auth_token: Session, 30 * MINUTE, 30 * MINUTE, HOUR;
    /// A user's open positions: 10 to 30 min.
    positions: Session, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE;
    /// The state of forms and wizards: 5 to 15 min.
    form_state: Session, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE;
    /// Whatever changes all the time: 5 to 60 s.
    real_time: ApiResponse, 5, 15, MINUTE;
    /// Whatever changes often: 1 to 15 min.
    frequent: ApiResponse, MINUTE, 5 * MINUTE, 15 * MINUTE;
    /// Whatever changes now and then: 15 to 60 min.
    moderate: DatabaseQuery, 15 * MINUTE, 30 * MINUTE, HOUR;
    /// Whatever changes rarely: 1 to 24 h.
    rare: DatabaseQuery, HOUR, 6 * HOUR, DAY;
    /// Whatever does not change: 1 d or more.
    unchanging: DatabaseQuery, DAY, DAY, UNLIMITED;
}

/// The recommendation of this name; case does not matter, and `order book` and `order-book` are `order_book`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Recommendation> {
    let wanted = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    RECOMMENDATIONS.iter().find(|recommendation| recommendation.name == wanted)
}

/// The recommendations as a Markdown table.
#[must_use]
pub fn recommendation_table() -> String {
    let mut table = String::from("| data | from | to | start with | preset |\n|---|---|---|---|---|\n");
    for Recommendation { name, min, max, typical, preset } in RECOMMENDATIONS {
        let (min, max, typical) = (Span(*min), Span(*max), Span(*typical));
        writeln!(table, "| `{name}` | {min} | {max} | {typical} | `{preset}` |").expect("a String takes all text");
    }
    table
}
