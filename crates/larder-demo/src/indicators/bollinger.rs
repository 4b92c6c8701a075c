//! Bollinger bands.
//!
//! The mean of the last `period` closes, and bands at a number of standard deviations above and below it. The deviation
//! is that of the window as a whole population. Each window is summed anew: a running sum would drift by more than the
//! 1e-9 that the reference allows.

use super::{IndicatorError, Line, error::check_period};

/// Bollinger bands over a period; 20 candles and 2 standard deviations by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bollinger {
    period: usize,
    deviations: f64,
}

impl Default for Bollinger {
    fn default() -> Self {
        Self { period: 20, deviations: 2.0 }
    }
}

/// What [`Bollinger::compute`] gives, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BollingerBands {
    /// Mean of the window.
    pub middle: Line,
    /// Mean plus the deviations.
    pub upper: Line,
    /// Mean less the deviations.
    pub lower: Line,
    /// Where the close stands: 0 at the lower band, 1 at the upper; `None` where the bands coincide.
    pub percent_b: Line,
    /// Distance of the bands as a share of the mean; `None` where the mean is zero.
    pub width: Line,
}

impl Bollinger {
    /// Bands over `period` candles, `deviations` standard deviations to either side.
    ///
    /// # Errors
    /// `period` is not from 1 to [`LONGEST_PERIOD`](super::LONGEST_PERIOD), or `deviations` is not positive and finite.
    pub fn new(period: usize, deviations: f64) -> Result<Self, IndicatorError> {
        check_period("period", period)?;
        if !(deviations.is_finite() && deviations > 0.0) {
            return Err(IndicatorError::Deviations { given: deviations });
        }
        Ok(Self { period, deviations })
    }

    /// The period in candles.
    #[must_use]
    pub const fn period(&self) -> usize {
        self.period
    }

    /// Distance of a band from the mean, in standard deviations.
    #[must_use]
    pub const fn deviations(&self) -> f64 {
        self.deviations
    }

    /// The bands over `closes`, each as long as the input; the first `period - 1` rows are `None`.
    #[must_use]
    pub fn compute(&self, closes: &[f64]) -> BollingerBands {
        let warm_up = closes.len().min(self.period - 1);
        let unknown = || vec![None; warm_up];
        let mut bands = BollingerBands {
            middle: unknown(),
            upper: unknown(),
            lower: unknown(),
            percent_b: unknown(),
            width: unknown(),
        };
        for window in closes.windows(self.period) {
            let (mean, deviation) = mean_and_deviation(window);
            let reach = self.deviations * deviation;
            let (upper, lower) = (mean + reach, mean - reach);
            let close = window[window.len() - 1];
            bands.middle.push(Some(mean));
            bands.upper.push(Some(upper));
            bands.lower.push(Some(lower));
            bands.percent_b.push((upper > lower).then(|| (close - lower) / (upper - lower)));
            bands.width.push((mean != 0.0).then(|| (upper - lower) / mean));
        }
        bands
    }
}

#[expect(clippy::cast_precision_loss, reason = "a period is at most 500")]
fn mean_and_deviation(window: &[f64]) -> (f64, f64) {
    let count = window.len() as f64;
    let mean = window.iter().sum::<f64>() / count;
    let squares: f64 = window.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::Bollinger;

    #[test]
    fn bands_stand_at_their_deviations_from_the_mean() {
        let bands = Bollinger::new(4, 2.0).unwrap().compute(&[9.0, 2.0, 4.0, 4.0, 6.0]);
        // The last window is 2, 4, 4, 6: mean 4, variance 2.
        let reach = 2.0 * 2.0_f64.sqrt();
        assert_eq!(bands.middle[4], Some(4.0));
        assert_eq!(bands.upper[4], Some(4.0 + reach));
        assert_eq!(bands.lower[4], Some(4.0 - reach));
        assert_eq!(bands.middle[..3], [None, None, None]);
    }

    #[test]
    fn bands_that_coincide_have_no_position_between_them() {
        let bands = Bollinger::new(2, 2.0).unwrap().compute(&[5.0, 5.0]);
        assert_eq!((bands.percent_b[1], bands.width[1]), (None, Some(0.0)));
    }

    #[test]
    fn every_row_is_as_long_as_the_input() {
        for length in [0, 1, 19, 20, 21] {
            let closes: Vec<f64> = (0..length).map(f64::from).collect();
            let bands = Bollinger::default().compute(&closes);
            let rows = [&bands.middle, &bands.upper, &bands.lower, &bands.percent_b, &bands.width];
            assert!(rows.iter().all(|row| row.len() == closes.len()));
        }
    }

    #[test]
    fn a_width_that_is_no_number_is_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Bollinger::new(20, bad).unwrap_err().to_string();
            assert_eq!(error, format!("deviations is {bad}; it must be a positive number such as 2"));
        }
    }
}
