//! How long calls took.

use std::time::Duration;

use serde::Serialize;

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it began, in microseconds since the start: up to 71 minutes.
    pub begun_us: u32,
    /// How long it took, in microseconds.
    pub took_us: u32,
    /// How long the loader ran that this call itself started; 0 if it started none.
    pub load_us: u32,
}

/// Half of the calls took no longer than one figure, 99 of 100 no longer than the other; in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50_us: u32,
    /// The 99th percentile.
    pub p99_us: u32,
}

impl Quantiles {
    /// Of these figures; `None` if there are none.
    #[must_use]
    pub fn of(mut figures: Vec<u32>) -> Option<Self> {
        figures.sort_unstable();
        let at = |percent: usize| figures.get((figures.len().saturating_sub(1)) * percent / 100).copied();
        Some(Self { p50_us: at(50)?, p99_us: at(99)? })
    }
}

/// All calls of a run.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    samples: Vec<Sample>,
}

impl Latencies {
    /// Of these calls, in any order.
    #[must_use]
    pub fn new(mut samples: Vec<Sample>) -> Self {
        samples.sort_unstable_by_key(|sample| sample.begun_us);
        Self { samples }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// When the first call and the last one began.
    pub(super) fn span(&self) -> (Duration, Duration) {
        let at = |sample: Option<&Sample>| Duration::from_micros(sample.map_or(0, |sample| sample.begun_us.into()));
        (at(self.samples.first()), at(self.samples.last()))
    }

    /// Of the calls that were over before `end`.
    #[must_use]
    pub fn before(&self, end: Duration) -> Option<Quantiles> {
        let end = micros(end);
        self.took(|sample| sample.begun_us.saturating_add(sample.took_us) < end)
    }

    /// Of the calls of which a part lies between two moments.
    #[must_use]
    pub fn during(&self, from: Duration, to: Duration) -> Option<Quantiles> {
        let (from, to) = (micros(from), micros(to));
        self.took(|sample| sample.begun_us < to && sample.begun_us.saturating_add(sample.took_us) >= from)
    }

    /// Of the calls that began at `start` or later.
    #[must_use]
    pub fn after(&self, start: Duration) -> Option<Quantiles> {
        let start = micros(start);
        self.took(|sample| sample.begun_us >= start)
    }

    fn took(&self, which: impl Fn(&Sample) -> bool) -> Option<Quantiles> {
        Quantiles::of(self.samples.iter().filter(|sample| which(sample)).map(|sample| sample.took_us).collect())
    }

    /// By how much a call that loads takes longer than its loader, as a ratio of medians, among those that lie wholly within
    /// one of the spans. `None` if there are fewer than 20.
    #[must_use]
    pub fn load_ratio(&self, spans: &[(Duration, Duration)]) -> Option<f64> {
        let spans: Vec<(u32, u32)> = spans.iter().map(|(from, to)| (micros(*from), micros(*to))).collect();
        let within = |sample: &&Sample| {
            let end = sample.begun_us.saturating_add(sample.took_us);
            sample.load_us > 0 && spans.iter().any(|(from, to)| sample.begun_us >= *from && end <= *to)
        };
        let loads: Vec<&Sample> = self.samples.iter().filter(within).collect();
        if loads.len() < 20 {
            return None;
        }
        let took = Quantiles::of(loads.iter().map(|sample| sample.took_us).collect())?;
        let load = Quantiles::of(loads.iter().map(|sample| sample.load_us).collect())?;
        Some(f64::from(took.p50_us) / f64::from(load.p50_us))
    }

    /// The figures of successive buckets by when calls began, each with the middle of its bucket.
    pub(super) fn series(&self, bucket: Duration) -> Vec<(Duration, Quantiles)> {
        let width = micros(bucket).max(1);
        let mut series = Vec::new();
        for calls in self.samples.chunk_by(|one, next| one.begun_us / width == next.begun_us / width) {
            let middle = u64::from(calls[0].begun_us / width) * u64::from(width) + u64::from(width) / 2;
            let figures = Quantiles::of(calls.iter().map(|sample| sample.took_us).collect());
            series.extend(figures.map(|figures| (Duration::from_micros(middle), figures)));
        }
        series
    }
}

/// As a sample counts; what is longer than 71 minutes is cut.
pub(super) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(begun_us: u32, took_us: u32) -> Sample {
        Sample { begun_us, took_us, load_us: 0 }
    }

    #[test]
    fn a_call_belongs_to_the_fault_if_a_part_of_it_does() {
        let calls = Latencies::new(vec![sample(0, 10), sample(90, 20), sample(150, 30), sample(300, 40)]);
        let at = Duration::from_micros;
        let all = |quantiles: Option<Quantiles>| quantiles.map(|figures| (figures.p50_us, figures.p99_us));
        assert_eq!(all(calls.before(at(100))), Some((10, 10)));
        assert_eq!(all(calls.during(at(100), at(200))), Some((20, 20)));
        assert_eq!(all(calls.after(at(200))), Some((40, 40)));
        assert_eq!(calls.during(at(400), at(500)), None);
    }

    #[test]
    fn quantiles_are_figures_that_occurred() {
        let figures = Quantiles::of((1..=100).rev().collect()).unwrap();
        assert_eq!((figures.p50_us, figures.p99_us), (50, 99));
        assert_eq!(Quantiles::of(Vec::new()), None);
    }

    #[test]
    fn the_cost_of_a_load_is_seen_beside_its_loader() {
        let loads = (0..40).map(|call| Sample { begun_us: call * 10, took_us: 110, load_us: 100 }).collect();
        let calls = Latencies::new(loads);
        let ratio = calls.load_ratio(&[(Duration::ZERO, Duration::from_millis(1))]).unwrap();
        assert!((ratio - 1.1).abs() < 1e-9, "{ratio}");
        assert_eq!(calls.load_ratio(&[(Duration::ZERO, Duration::from_micros(150))]), None, "too few");
    }

    #[test]
    fn a_series_has_one_figure_for_each_bucket_with_calls() {
        let calls = Latencies::new(vec![sample(5, 1), sample(7, 3), sample(25, 9)]);
        let series = calls.series(Duration::from_micros(10));
        let middles: Vec<u128> = series.iter().map(|(at, _)| at.as_micros()).collect();
        assert_eq!(middles, [5, 25]);
        assert_eq!(series[1].1.p50_us, 9);
    }
}
