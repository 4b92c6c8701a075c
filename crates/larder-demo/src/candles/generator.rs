//! Candles from a seed: a geometric random walk.
//!
//! The walk depends on the seed, the symbol and the interval. A revision redraws the newest candle only, as a live
//! candle changes until its interval is over, so that a new revision is visible in everything computed from it.

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt as _;
use rand_distr::{LogNormal, StandardNormal};
use rand_pcg::Pcg64Mcg;

use crate::{candle::Candle, interval::Interval, seeded};

/// Start of the newest generated interval, 2025-01-01 00:00 UTC: fixed, so that a seed means the same at any time.
const NEWEST: i64 = 1_735_689_600;
/// The smallest difference of two prices.
pub const TICK: f64 = 0.000_1;
/// Standard deviation of the logarithmic return of a one-minute candle; it grows with the root of the length.
const MINUTE_VOLATILITY: f64 = 0.000_6;

/// What determines a generated sequence of candles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series<'a> {
    /// Seed of the market.
    pub seed: u64,
    /// Symbol, e.g. `BTCUSDT`.
    pub symbol: &'a str,
    /// Length of a candle.
    pub interval: Interval,
    /// Revision of the symbol: 0 is the walk itself, any other redraws the newest candle.
    pub revision: u64,
}

impl Series<'_> {
    /// The `count` candles up to the newest, the oldest first. O(`count`).
    ///
    /// The newest price does not depend on the interval, and a shorter answer is the end of a longer one.
    #[must_use]
    pub fn generate(&self, count: usize) -> Vec<Candle> {
        let mut candles = self.walk_back(count);
        if self.revision > 0 {
            redraw_last(&mut candles, self.seed, self.symbol, self.revision);
        }
        candles
    }

    /// Walks from the newest candle into the past, which makes every prefix of the walk the end of a longer one.
    fn walk_back(&self, count: usize) -> Vec<Candle> {
        let mut rng = seeded::rng(self.seed, &["candles", self.symbol, self.interval.as_str()]);
        let base = base_volume(self.seed, self.symbol) * length_in_minutes(self.interval);
        let mut close = newest_price(self.seed, self.symbol);
        let mut time = self.interval.start_of(newest_time());
        let mut candles = Vec::with_capacity(count);
        for _ in 0..count {
            let open = rounded(close * step(&mut rng, self.interval));
            let candle = around(&mut rng, time, open, close, base);
            close = candle.open;
            candles.push(candle);
            time -= self.interval.length();
        }
        candles.reverse();
        candles
    }
}

/// Draws the close, high, low and volume of the newest candle anew, as `revision` determines them.
///
/// The candle stays sound, keeps its time and its open, and differs from revision to revision. Serves generated and
/// loaded candles alike.
pub fn redraw_last(candles: &mut [Candle], seed: u64, symbol: &str, revision: u64) {
    let Some(last) = candles.last_mut() else { return };
    let mut rng = seeded::rng(seed, &["revision", symbol, &revision.to_string()]);
    // From the close, which all intervals share, so that they still agree on the newest price.
    let close = rounded(last.close * step(&mut rng, Interval::Hour));
    *last = around(&mut rng, last.time, last.open, close, last.volume.max(1.0));
}

fn newest_time() -> DateTime<Utc> {
    DateTime::from_timestamp(NEWEST, 0).expect("a date in 2025 is in range")
}

fn newest_price(seed: u64, symbol: &str) -> f64 {
    let mut rng = seeded::rng(seed, &["price", symbol]);
    rounded(10_f64.powf(rng.random_range(1.0..5.0)))
}

fn base_volume(seed: u64, symbol: &str) -> f64 {
    seeded::rng(seed, &["volume", symbol]).random_range(1.0..50.0)
}

fn length_in_minutes(interval: Interval) -> f64 {
    TimeDelta::minutes(interval.minutes()).as_seconds_f64() / 60.0
}

/// The factor between two prices that are one interval apart.
fn step(rng: &mut Pcg64Mcg, interval: Interval) -> f64 {
    let deviation = MINUTE_VOLATILITY * length_in_minutes(interval).sqrt();
    (rng.sample::<f64, _>(StandardNormal) * deviation).exp()
}

/// A sound candle with the given ends.
fn around(rng: &mut Pcg64Mcg, time: DateTime<Utc>, open: f64, close: f64, base_volume: f64) -> Candle {
    let body = (open - close).abs().max(open * 0.000_2);
    let high = rounded(open.max(close) + body * rng.random_range(0.0..0.6)).max(open).max(close);
    let low = rounded(open.min(close) - body * rng.random_range(0.0..0.6)).min(open).min(close);
    let spread = LogNormal::new(0.0, 0.5).expect("0.5 is a valid standard deviation");
    let volume = rounded(base_volume * rng.sample(spread));
    Candle { time, open, high, low: low.max(0.0), close, volume }
}

/// `value` to the [`TICK`], as an exchange quotes prices, and never below it.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    // Dividing by 10,000 gives the number nearest to the decimal fraction; multiplying by 0.0001 would not.
    ((value * 10_000.0).round() / 10_000.0).max(TICK)
}

#[cfg(test)]
mod tests {
    use super::Series;
    use crate::{candle::check_all, interval::Interval};

    fn series(seed: u64, symbol: &str, interval: Interval) -> Series<'_> {
        Series { seed, symbol, interval, revision: 0 }
    }

    #[test]
    fn generated_candles_are_sound_for_every_interval() {
        for interval in Interval::ALL {
            for symbol in ["BTCUSDT", "ETHUSDT", "DOGEUSDT"] {
                let candles = series(3, symbol, interval).generate(1_000);
                assert_eq!(check_all(&candles), Ok(()), "{symbol} {interval}");
                assert_eq!(candles.len(), 1_000);
                assert_eq!(Interval::of(&candles), Some(interval));
            }
        }
    }

    #[test]
    fn seed_symbol_and_interval_each_change_the_walk() {
        let base = series(1, "BTCUSDT", Interval::Hour).generate(50);
        assert_eq!(series(1, "BTCUSDT", Interval::Hour).generate(50), base);
        assert_ne!(series(2, "BTCUSDT", Interval::Hour).generate(50), base);
        assert_ne!(series(1, "ETHUSDT", Interval::Hour).generate(50), base);
        assert_ne!(series(1, "BTCUSDT", Interval::Day).generate(50), base);
    }

    #[test]
    fn a_shorter_answer_is_the_end_of_a_longer_one() {
        let long = series(1, "BTCUSDT", Interval::Hour).generate(300);
        assert_eq!(series(1, "BTCUSDT", Interval::Hour).generate(20), long[280..]);
    }

    #[test]
    fn neighbouring_candles_join() {
        let candles = series(1, "BTCUSDT", Interval::Hour).generate(100);
        assert!(candles.windows(2).all(|pair| pair[0].close == pair[1].open));
    }

    #[test]
    fn a_revision_changes_the_newest_candle_and_no_other() {
        let at = |revision| Series { revision, ..series(1, "BTCUSDT", Interval::Hour) }.generate(10);
        let (zero, one, two) = (at(0), at(1), at(2));
        assert_eq!(zero[..9], one[..9]);
        assert!(zero[9] != one[9] && one[9] != two[9] && zero[9] != two[9]);
        assert_eq!(zero[9].time, one[9].time);
        assert_eq!(check_all(&one), Ok(()));
    }

    #[test]
    fn intervals_agree_on_the_newest_price_at_every_revision() {
        for revision in 0..5 {
            let newest = |interval| {
                let candles = Series { revision, ..series(1, "BTCUSDT", interval) }.generate(3);
                candles.last().unwrap().close
            };
            assert!(Interval::ALL.iter().all(|interval| newest(*interval) == newest(Interval::Minute)));
        }
    }

    #[test]
    fn asking_for_none_gives_none() {
        assert!(Series { revision: 4, ..series(1, "BTCUSDT", Interval::Hour) }.generate(0).is_empty());
    }
}
