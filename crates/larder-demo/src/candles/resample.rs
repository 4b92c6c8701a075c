//! Longer candles from shorter ones.

use crate::{candle::Candle, interval::Interval};

/// Merges candles into those of a longer `interval`, counted from the Unix epoch. The newest may be incomplete.
///
/// `candles` must be in order of time. Candles that are already as long are returned as they are, except that their
/// time becomes the start of the interval.
#[must_use]
pub fn resample(candles: &[Candle], interval: Interval) -> Vec<Candle> {
    candles
        .chunk_by(|a, b| interval.start_of(a.time) == interval.start_of(b.time))
        .filter_map(|part| part.split_first())
        .map(|(first, rest)| {
            let start = Candle { time: interval.start_of(first.time), ..*first };
            rest.iter().fold(start, |merged, candle| Candle {
                high: merged.high.max(candle.high),
                low: merged.low.min(candle.low),
                close: candle.close,
                volume: merged.volume + candle.volume,
                ..merged
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::resample;
    use crate::{candle::check_all, candles::Series, interval::Interval};

    #[test]
    fn merged_candles_keep_the_ends_the_extremes_and_the_volume() {
        let minutes = Series { seed: 1, symbol: "BTCUSDT", interval: Interval::Minute, revision: 0 }.generate(600);
        let hours = resample(&minutes, Interval::Hour);
        assert_eq!(check_all(&hours), Ok(()));
        assert_eq!(hours.first().unwrap().open, minutes.first().unwrap().open);
        assert_eq!(hours.last().unwrap().close, minutes.last().unwrap().close);
        let volume = |candles: &[crate::candle::Candle]| candles.iter().map(|candle| candle.volume).sum::<f64>();
        assert!((volume(&hours) - volume(&minutes)).abs() < 1e-6);
        let highest = minutes.iter().map(|candle| candle.high).fold(0.0, f64::max);
        assert_eq!(hours.iter().map(|candle| candle.high).fold(0.0, f64::max), highest);
        // The newest generated minute is a full hour's first, so 600 minutes touch eleven hours.
        assert_eq!(hours.len(), 11);
    }
}
