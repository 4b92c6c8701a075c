//! Technical indicators over closing prices.
//!
//! Each indicator is a type whose constructor checks its parameters and whose `compute` cannot fail. Outputs are
//! as long as the input, `None` while the indicator warms up. Formulas and seeding agree to 1e-9, in every row, with the
//! widely used Stock.Indicators reference values.

mod bollinger;
mod error;
mod kind;
mod macd;
mod rsi;

use chrono::{DateTime, Utc};

pub use self::{
    bollinger::{Bollinger, BollingerBands},
    error::IndicatorError,
    kind::{IndicatorKind, UnknownIndicator},
    macd::{Macd, MacdLines},
    rsi::Rsi,
};
use crate::{
    candle::Candle,
    interval::Interval,
    model::{IndicatorLine, IndicatorSeries},
};

/// One row of an indicator: `None` while it warms up.
pub type Line = Vec<Option<f64>>;

/// The longest window that an indicator accepts, in candles. Bounds what a request can cost.
pub const LONGEST_PERIOD: usize = 500;

/// One of the indicators, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Indicator {
    /// Relative strength index.
    Rsi(Rsi),
    /// Moving average convergence and divergence.
    Macd(Macd),
    /// Bollinger bands.
    Bollinger(Bollinger),
}

impl Indicator {
    /// Which indicator it is.
    #[must_use]
    pub const fn kind(&self) -> IndicatorKind {
        match self {
            Self::Rsi(_) => IndicatorKind::Rsi,
            Self::Macd(_) => IndicatorKind::Macd,
            Self::Bollinger(_) => IndicatorKind::Bollinger,
        }
    }

    /// How many candles must be at hand before the newest `rows` rows are all there.
    ///
    /// RSI and MACD remember all earlier prices, with weights that fade; this counts the warm-up only.
    #[must_use]
    pub const fn candles_for(&self, rows: usize) -> usize {
        let warm_up = match self {
            Self::Rsi(rsi) => rsi.period(),
            Self::Macd(macd) => macd.slow() + macd.signal() - 2,
            Self::Bollinger(bollinger) => bollinger.period() - 1,
        };
        warm_up + rows
    }

    /// Computes the indicator over `candles`, the oldest first. O(candles), for Bollinger times the period.
    #[must_use]
    pub fn compute(&self, symbol: &str, interval: Interval, candles: &[Candle]) -> IndicatorSeries {
        let closes: Vec<f64> = candles.iter().map(|candle| candle.close).collect();
        let times: Vec<DateTime<Utc>> = candles.iter().map(|candle| candle.time).collect();
        let line = |name: &str, values| IndicatorLine { name: name.to_owned(), values };
        let lines = match self {
            Self::Rsi(rsi) => vec![line("rsi", rsi.compute(&closes))],
            Self::Macd(macd) => {
                let MacdLines { macd, signal, histogram } = macd.compute(&closes);
                vec![line("macd", macd), line("signal", signal), line("histogram", histogram)]
            }
            Self::Bollinger(bollinger) => {
                let bands = bollinger.compute(&closes);
                vec![
                    line("middle", bands.middle),
                    line("upper", bands.upper),
                    line("lower", bands.lower),
                    line("percent_b", bands.percent_b),
                    line("width", bands.width),
                ]
            }
        };
        IndicatorSeries { symbol: symbol.to_owned(), interval, indicator: self.kind(), times, lines }
    }
}
