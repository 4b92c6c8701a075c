//! The length of a candle.

use std::{error::Error, fmt, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::candle::Candle;

/// The length of a candle, written as exchanges write it: `1m`, `1h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, larder::KeyPart)]
#[non_exhaustive]
pub enum Interval {
    /// One minute, `1m`.
    Minute,
    /// Five minutes, `5m`.
    FiveMinutes,
    /// Fifteen minutes, `15m`.
    QuarterHour,
    /// One hour, `1h`.
    Hour,
    /// Four hours, `4h`.
    FourHours,
    /// One day, `1d`.
    Day,
    /// Seven days, `1w`.
    Week,
}

impl Interval {
    /// All intervals, the shortest first.
    pub const ALL: [Self; 7] =
        [Self::Minute, Self::FiveMinutes, Self::QuarterHour, Self::Hour, Self::FourHours, Self::Day, Self::Week];

    /// The name used in paths, keys and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
            Self::FourHours => "4h",
            Self::Day => "1d",
            Self::Week => "1w",
        }
    }

    /// The length in minutes.
    #[must_use]
    pub const fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::FiveMinutes => 5,
            Self::QuarterHour => 15,
            Self::Hour => 60,
            Self::FourHours => 240,
            Self::Day => 1_440,
            Self::Week => 10_080,
        }
    }

    /// The length as a time difference.
    #[must_use]
    pub fn length(self) -> TimeDelta {
        TimeDelta::minutes(self.minutes())
    }

    /// The start of the interval that `time` falls into, counted from the Unix epoch.
    #[must_use]
    pub fn start_of(self, time: DateTime<Utc>) -> DateTime<Utc> {
        time - TimeDelta::seconds(time.timestamp().rem_euclid(self.minutes() * 60))
            - TimeDelta::nanoseconds(i64::from(time.timestamp_subsec_nanos()))
    }

    /// The interval that candles read from elsewhere have: the longest one that fits into the most frequent gap
    /// between neighbours. Gaps that are rare (nights, weekends) do not count.
    ///
    /// `None` if there are fewer than two candles or the usual gap is under a minute.
    #[must_use]
    pub fn of(candles: &[Candle]) -> Option<Self> {
        let mut gaps: Vec<i64> = candles.windows(2).map(|pair| (pair[1].time - pair[0].time).num_minutes()).collect();
        gaps.sort_unstable();
        let usual = gaps.chunk_by(|a, b| a == b).max_by_key(|run| run.len()).and_then(|run| run.first())?;
        Self::ALL.into_iter().rev().find(|interval| interval.minutes() <= *usual)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownInterval {
    given: String,
}

impl fmt::Display for UnknownInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Interval::ALL.map(Interval::as_str).join(", ");
        write!(f, "interval {:?} is unknown; use one of {known}", self.given)
    }
}

impl Error for UnknownInterval {}

impl FromStr for Interval {
    type Err = UnknownInterval;

    fn from_str(text: &str) -> Result<Self, UnknownInterval> {
        Self::ALL
            .into_iter()
            .find(|interval| interval.as_str() == text)
            .ok_or_else(|| UnknownInterval { given: text.to_owned() })
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::Interval;
    use crate::candle::Candle;

    fn at_minutes(minutes: &[i64]) -> Vec<Candle> {
        let flat = |minute: &i64| Candle {
            time: DateTime::from_timestamp(minute * 60, 0).unwrap(),
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
        };
        minutes.iter().map(flat).collect()
    }

    #[test]
    fn every_name_parses_to_its_interval() {
        for interval in Interval::ALL {
            assert_eq!(interval.as_str().parse(), Ok(interval));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "2h".parse::<Interval>().unwrap_err().to_string();
        assert_eq!(error, "interval \"2h\" is unknown; use one of 1m, 5m, 15m, 1h, 4h, 1d, 1w");
    }

    #[test]
    fn the_usual_gap_decides_and_weekends_do_not() {
        assert_eq!(Interval::of(&at_minutes(&[0, 1_440, 2_880, 7_200])), Some(Interval::Day));
        assert_eq!(Interval::of(&at_minutes(&[0, 1, 2, 900, 901])), Some(Interval::Minute));
        assert_eq!(Interval::of(&at_minutes(&[0])), None);
    }

    #[test]
    fn the_start_of_an_interval_is_at_or_before_the_time() {
        let time = DateTime::parse_from_rfc3339("2024-03-05T13:47:59.5Z").unwrap().to_utc();
        assert_eq!(Interval::FourHours.start_of(time).to_rfc3339(), "2024-03-05T12:00:00+00:00");
        assert_eq!(Interval::Minute.start_of(time).to_rfc3339(), "2024-03-05T13:47:00+00:00");
    }
}
