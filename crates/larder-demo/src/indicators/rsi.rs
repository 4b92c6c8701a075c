//! Relative strength index after Wilder.
//!
//! `100 - 100 / (1 + gains / losses)`, where gains and losses are the averages of the rises and falls from close to
//! close. The first average is the plain mean of `period` changes; from then on each change enters with the weight
//! `1 / period` (Wilder, *New Concepts in Technical Trading Systems*, 1978).

use super::{IndicatorError, Line, error::check_period};

/// Relative strength index over a period; 14 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rsi {
    period: usize,
}

impl Default for Rsi {
    fn default() -> Self {
        Self { period: 14 }
    }
}

impl Rsi {
    /// An index over `period` candles.
    ///
    /// # Errors
    /// `period` is not from 1 to [`LONGEST_PERIOD`](super::LONGEST_PERIOD).
    pub fn new(period: usize) -> Result<Self, IndicatorError> {
        check_period("period", period)?;
        Ok(Self { period })
    }

    /// The period in candles.
    #[must_use]
    pub const fn period(&self) -> usize {
        self.period
    }

    /// The index for each close, from 0 to 100; the first `period` rows are `None`. Prices that did not move at all give
    /// 50, prices that only rose 100.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a period is at most 500")]
    pub fn compute(&self, closes: &[f64]) -> Line {
        let weight = self.period as f64;
        let mut row = vec![None; closes.len().min(self.period)];
        let (mut gains, mut losses) = (0.0, 0.0);
        for (index, pair) in closes.windows(2).enumerate() {
            let change = pair[1] - pair[0];
            let (gain, loss) = (change.max(0.0), (-change).max(0.0));
            if index < self.period {
                gains += gain;
                losses += loss;
                if index + 1 < self.period {
                    continue;
                }
                gains /= weight;
                losses /= weight;
            } else {
                gains = (gains * (weight - 1.0) + gain) / weight;
                losses = (losses * (weight - 1.0) + loss) / weight;
            }
            row.push(Some(index_of(gains, losses)));
        }
        row
    }
}

fn index_of(gains: f64, losses: f64) -> f64 {
    if losses > 0.0 {
        100.0 - 100.0 / (1.0 + gains / losses)
    } else if gains > 0.0 {
        100.0
    } else {
        50.0
    }
}

#[cfg(test)]
mod tests {
    use super::Rsi;

    #[test]
    fn the_output_is_as_long_as_the_input() {
        for length in 0..20 {
            let closes: Vec<f64> = (0..length).map(f64::from).collect();
            let row = Rsi::default().compute(&closes);
            assert_eq!(row.len(), closes.len());
            assert!(row.iter().enumerate().all(|(index, value)| value.is_some() == (index >= 14)));
        }
    }

    #[test]
    fn rising_falling_and_resting_prices_give_the_ends_and_the_middle() {
        let rsi = Rsi::new(3).unwrap();
        assert_eq!(rsi.compute(&[1.0, 2.0, 3.0, 4.0])[3], Some(100.0));
        assert_eq!(rsi.compute(&[4.0, 3.0, 2.0, 1.0])[3], Some(0.0));
        assert_eq!(rsi.compute(&[2.0, 2.0, 2.0, 2.0])[3], Some(50.0));
    }

    #[test]
    fn a_period_of_nothing_is_refused() {
        assert_eq!(Rsi::new(0).unwrap_err().to_string(), "period is 0; it must be from 1 to 500 candles");
        assert!(Rsi::new(501).is_err());
    }
}
