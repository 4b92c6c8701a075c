//! Moving average convergence and divergence.
//!
//! The MACD line is a fast exponential average of the closes less a slow one, the signal an exponential average of the
//! MACD line, the histogram their difference. Every exponential average starts with the plain mean of its first `period`
//! values and then moves by `2 / (period + 1)` of the distance. Libraries differ in that start; from about row 150 on it no
//! longer matters.

use super::{IndicatorError, Line, error::check_period};

/// Moving average convergence and divergence; 12, 26 and 9 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macd {
    fast: usize,
    slow: usize,
    signal: usize,
}

impl Default for Macd {
    fn default() -> Self {
        Self { fast: 12, slow: 26, signal: 9 }
    }
}

/// What [`Macd::compute`] gives, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct MacdLines {
    /// Fast less slow average; there from row `slow - 1`.
    pub macd: Line,
    /// Average of the MACD line; there from row `slow + signal - 2`.
    pub signal: Line,
    /// MACD less signal; there with the signal.
    pub histogram: Line,
}

impl Macd {
    /// An indicator with the given periods, in candles.
    ///
    /// # Errors
    /// A period is not from 1 to [`LONGEST_PERIOD`](super::LONGEST_PERIOD), or `fast` is not below `slow`.
    pub fn new(fast: usize, slow: usize, signal: usize) -> Result<Self, IndicatorError> {
        check_period("fast", fast)?;
        check_period("slow", slow)?;
        check_period("signal", signal)?;
        if fast >= slow {
            return Err(IndicatorError::FastNotBelowSlow { fast, slow });
        }
        Ok(Self { fast, slow, signal })
    }

    /// Period of the fast average, in candles.
    #[must_use]
    pub const fn fast(&self) -> usize {
        self.fast
    }

    /// Period of the slow average, in candles.
    #[must_use]
    pub const fn slow(&self) -> usize {
        self.slow
    }

    /// Period of the signal, in candles.
    #[must_use]
    pub const fn signal(&self) -> usize {
        self.signal
    }

    /// The three lines over `closes`, each as long as the input.
    #[must_use]
    pub fn compute(&self, closes: &[f64]) -> MacdLines {
        let known: Line = closes.iter().copied().map(Some).collect();
        let macd = difference(&exponential_average(&known, self.fast), &exponential_average(&known, self.slow));
        let signal = exponential_average(&macd, self.signal);
        let histogram = difference(&macd, &signal);
        MacdLines { macd, signal, histogram }
    }
}

/// The exponential average of a line that may be unknown at its start (and only there).
#[expect(clippy::cast_precision_loss, reason = "a period is at most 500")]
fn exponential_average(line: &[Option<f64>], period: usize) -> Line {
    let share = 2.0 / (period as f64 + 1.0);
    let (mut count, mut sum, mut average) = (0, 0.0, 0.0);
    line.iter()
        .map(|value| {
            let value = (*value)?;
            count += 1;
            if count <= period {
                sum += value;
                average = sum / period as f64;
            } else {
                average += share * (value - average);
            }
            (count >= period).then_some(average)
        })
        .collect()
}

fn difference(a: &[Option<f64>], b: &[Option<f64>]) -> Line {
    a.iter().zip(b).map(|(a, b)| Some((*a)? - (*b)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Macd, exponential_average};

    #[test]
    fn each_line_starts_where_its_averages_do() {
        let closes: Vec<f64> = (0..40).map(f64::from).collect();
        let lines = Macd::default().compute(&closes);
        let first = |line: &[Option<f64>]| line.iter().position(Option::is_some);
        assert_eq!((first(&lines.macd), first(&lines.signal), first(&lines.histogram)), (Some(25), Some(33), Some(33)));
        assert!([&lines.macd, &lines.signal, &lines.histogram].iter().all(|line| line.len() == 40));
    }

    #[test]
    fn an_average_starts_with_the_mean_and_moves_by_its_share() {
        let line = [None, Some(1.0), Some(3.0), Some(8.0)];
        assert_eq!(exponential_average(&line, 2), [None, None, Some(2.0), Some(6.0)]);
    }

    #[test]
    fn a_fast_average_that_is_not_faster_is_refused() {
        let error = Macd::new(26, 12, 9).unwrap_err().to_string();
        assert_eq!(error, "fast is 26; it must be below slow, which is 12");
        assert_eq!(Macd::new(12, 26, 0).unwrap_err().to_string(), "signal is 0; it must be from 1 to 500 candles");
    }
}
