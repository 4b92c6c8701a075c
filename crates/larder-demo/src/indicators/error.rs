//! What is wrong with an indicator's parameters.

use std::{error::Error, fmt};

use super::LONGEST_PERIOD;

/// A parameter of an indicator that makes no sense.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum IndicatorError {
    /// A number of candles is zero or over [`LONGEST_PERIOD`].
    Period {
        /// Name of the parameter.
        parameter: &'static str,
        /// What was given.
        given: usize,
    },
    /// MACD's fast average is not faster than its slow one.
    FastNotBelowSlow {
        /// Period of the fast average.
        fast: usize,
        /// Period of the slow average.
        slow: usize,
    },
    /// The width of Bollinger bands is not a positive, finite number of standard deviations.
    Deviations {
        /// What was given.
        given: f64,
    },
}

impl fmt::Display for IndicatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Period { parameter, given } => {
                write!(f, "{parameter} is {given}; it must be from 1 to {LONGEST_PERIOD} candles")
            }
            Self::FastNotBelowSlow { fast, slow } => {
                write!(f, "fast is {fast}; it must be below slow, which is {slow}")
            }
            Self::Deviations { given } => write!(f, "deviations is {given}; it must be a positive number such as 2"),
        }
    }
}

impl Error for IndicatorError {}

pub(super) fn check_period(parameter: &'static str, given: usize) -> Result<(), IndicatorError> {
    if (1..=LONGEST_PERIOD).contains(&given) { Ok(()) } else { Err(IndicatorError::Period { parameter, given }) }
}
