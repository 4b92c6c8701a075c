//! What a market cannot be made of, and what it does not offer.

use std::{error::Error, fmt};

use crate::{candle::CandleFault, interval::Interval};

/// Why a market cannot be set up.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MarketError {
    /// No symbol was given.
    NoSymbols,
    /// A symbol was given twice.
    DuplicateSymbol {
        /// The symbol.
        symbol: String,
    },
    /// A symbol is malformed.
    BadSymbol {
        /// What was given.
        symbol: String,
    },
    /// A candle is not sound.
    BadCandle {
        /// The symbol.
        symbol: String,
        /// Which candle, counted from 0.
        index: usize,
        /// What is wrong with it.
        fault: CandleFault,
    },
    /// Candles are too few or too close to have an interval.
    NoInterval {
        /// The symbol.
        symbol: String,
    },
}

impl fmt::Display for MarketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSymbols => f.write_str("a market needs at least one symbol"),
            Self::DuplicateSymbol { symbol } => write!(f, "symbol {symbol} is given twice"),
            Self::BadSymbol { symbol } => {
                write!(f, "symbol {symbol:?} is malformed; use 1 to 20 capital letters and digits, such as BTCUSDT")
            }
            Self::BadCandle { symbol, index, fault } => write!(f, "candle {index} of {symbol}: {fault}"),
            Self::NoInterval { symbol } => {
                write!(f, "the candles of {symbol} have no interval; at least two are needed, a minute or more apart")
            }
        }
    }
}

impl Error for MarketError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::BadCandle { fault, .. } => Some(fault),
            _ => None,
        }
    }
}

/// What was asked for and is not traded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotOffered {
    /// The symbol is unknown.
    Symbol {
        /// What was asked for.
        symbol: String,
    },
    /// The symbol has no candles of this interval.
    Interval {
        /// The symbol.
        symbol: String,
        /// What was asked for.
        interval: Interval,
        /// What there is.
        offered: Vec<Interval>,
    },
}

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol { symbol } => write!(f, "symbol {symbol:?} is not traded here"),
            Self::Interval { symbol, interval, offered } => {
                let offered: Vec<&str> = offered.iter().map(|interval| interval.as_str()).collect();
                write!(f, "{symbol} has no candles of {interval}; use one of {}", offered.join(", "))
            }
        }
    }
}

impl Error for NotOffered {}
