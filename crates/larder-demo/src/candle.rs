//! One candle, and what makes a sequence of them sound.

use std::{error::Error, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What was traded in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candle {
    /// Start of the interval.
    pub time: DateTime<Utc>,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Amount traded, in units of the base asset.
    pub volume: f64,
}

impl Candle {
    /// Checks the candle by itself.
    ///
    /// # Errors
    /// Says which field is not finite or negative, or that low, open, close and high contradict one another.
    pub fn check(&self) -> Result<(), CandleFault> {
        for (field, value) in self.fields() {
            if !value.is_finite() {
                return Err(CandleFault::NotFinite { field, value });
            }
            if value < 0.0 {
                return Err(CandleFault::Negative { field, value });
            }
        }
        if self.high < self.low {
            return Err(CandleFault::HighBelowLow { high: self.high, low: self.low });
        }
        for (field, value) in [("open", self.open), ("close", self.close)] {
            if value < self.low || value > self.high {
                return Err(CandleFault::OutsideRange { field, value, low: self.low, high: self.high });
            }
        }
        Ok(())
    }

    /// Checks that the candle may follow `previous`.
    ///
    /// # Errors
    /// Says that its time is the same or earlier.
    pub fn check_after(&self, previous: &Self) -> Result<(), CandleFault> {
        if self.time == previous.time {
            return Err(CandleFault::Duplicate { time: self.time });
        }
        if self.time < previous.time {
            return Err(CandleFault::OutOfOrder { time: self.time, previous: previous.time });
        }
        Ok(())
    }

    fn fields(&self) -> [(&'static str, f64); 5] {
        [("open", self.open), ("high", self.high), ("low", self.low), ("close", self.close), ("volume", self.volume)]
    }
}

/// Checks every candle, and that times rise strictly.
///
/// # Errors
/// The index of the first bad candle and what is wrong with it.
pub fn check_all(candles: &[Candle]) -> Result<(), (usize, CandleFault)> {
    for (index, candle) in candles.iter().enumerate() {
        candle.check().map_err(|fault| (index, fault))?;
        if let Some(previous) = index.checked_sub(1).and_then(|before| candles.get(before)) {
            candle.check_after(previous).map_err(|fault| (index, fault))?;
        }
    }
    Ok(())
}

/// Why a candle cannot be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CandleFault {
    /// A price or the volume is NaN or infinite.
    NotFinite {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        value: f64,
    },
    /// A price or the volume is below zero.
    Negative {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        value: f64,
    },
    /// The highest price is below the lowest.
    HighBelowLow {
        /// Highest price.
        high: f64,
        /// Lowest price.
        low: f64,
    },
    /// The first or last price is not between the lowest and the highest.
    OutsideRange {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        value: f64,
        /// Lowest price.
        low: f64,
        /// Highest price.
        high: f64,
    },
    /// Two candles have the same time.
    Duplicate {
        /// The time of both.
        time: DateTime<Utc>,
    },
    /// A candle is earlier than the one before it.
    OutOfOrder {
        /// Its time.
        time: DateTime<Utc>,
        /// Time of the candle before it.
        previous: DateTime<Utc>,
    },
}

impl fmt::Display for CandleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { field, value } => write!(f, "{field} is {value}; a finite number is needed"),
            Self::Negative { field, value } => write!(f, "{field} is {value}; it must not be negative"),
            Self::HighBelowLow { high, low } => write!(f, "high {high} is below low {low}"),
            Self::OutsideRange { field, value, low, high } => {
                write!(f, "{field} {value} is not between low {low} and high {high}")
            }
            Self::Duplicate { time } => {
                write!(f, "date {} occurs twice; each candle needs its own", time.format("%Y-%m-%d %H:%M:%S"))
            }
            Self::OutOfOrder { time, previous } => write!(
                f,
                "date {} is before {} of the row above; sort rows by date, oldest first",
                time.format("%Y-%m-%d %H:%M:%S"),
                previous.format("%Y-%m-%d %H:%M:%S")
            ),
        }
    }
}

impl Error for CandleFault {}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{Candle, CandleFault, check_all};

    fn sound(seconds: i64) -> Candle {
        let time = DateTime::from_timestamp(seconds, 0).unwrap();
        Candle { time, open: 2.0, high: 4.0, low: 1.0, close: 3.0, volume: 10.0 }
    }

    #[test]
    fn a_sound_candle_passes() {
        assert_eq!(sound(0).check(), Ok(()));
    }

    #[test]
    fn each_contradiction_is_named() {
        let say = |candle: Candle| candle.check().unwrap_err().to_string();
        assert_eq!(say(Candle { high: 0.5, ..sound(0) }), "high 0.5 is below low 1");
        assert_eq!(say(Candle { close: f64::NAN, ..sound(0) }), "close is NaN; a finite number is needed");
        assert_eq!(say(Candle { volume: -1.0, ..sound(0) }), "volume is -1; it must not be negative");
        assert_eq!(say(Candle { open: 5.0, ..sound(0) }), "open 5 is not between low 1 and high 4");
    }

    #[test]
    fn the_first_candle_out_of_order_is_found_by_index() {
        assert_eq!(check_all(&[sound(0), sound(60), sound(120)]), Ok(()));
        assert!(matches!(check_all(&[sound(0), sound(0)]), Err((1, CandleFault::Duplicate { .. }))));
        assert!(matches!(check_all(&[sound(0), sound(60), sound(30)]), Err((2, CandleFault::OutOfOrder { .. }))));
    }
}
