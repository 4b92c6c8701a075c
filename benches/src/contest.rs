//! Several ways of doing the same thing, measured in turns.
//!
//! A machine is not equally quick at all times: others use it, its clock changes. So contestants take turns in rounds, and
//! one is compared with another round by round; the median of these ratios is what is reported.

use anyhow::Result;
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;

type Measure<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// One way of doing the thing, which answers with a figure each time it is asked: nanoseconds, or calls a second.
pub(crate) struct Contestant<'a> {
    name: String,
    measure: Measure<'a>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(name: impl Into<String>, measure: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self { name: name.into(), measure: Box::new(measure) }
    }
}

/// The figures of one contestant, one a round.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    figures: Vec<f64>,
}

impl Series {
    /// Figures that were taken in rounds of their own, where one measurement yields several.
    pub(crate) fn new(name: impl Into<String>, figures: Vec<f64>) -> Self {
        Self { name: name.into(), figures }
    }

    /// Adds the figures of more rounds.
    pub(crate) fn append(&mut self, more: Self) {
        self.figures.extend(more.figures);
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.figures)
    }

    /// The median of the ratios to another contestant of the same rounds.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        let ratios: Vec<f64> = self.figures.iter().zip(&other.figures).map(|(mine, theirs)| mine / theirs).collect();
        median(&ratios)
    }
}

/// As [`compete_in_order_of`], for contests that are held once.
pub(crate) fn compete(rounds: usize, contestants: Vec<Contestant<'_>>) -> Result<Vec<Series>> {
    compete_in_order_of(0, rounds, contestants)
}

/// Runs so many rounds after one that is thrown away, each in another random order, which a seed decides: who always came after
/// the same neighbour would always find what that one leaves. Nobody follows itself, since what it has just left in the
/// processor's caches would be there for it; two contestants therefore take turns.
pub(crate) fn compete_in_order_of(
    seed: u64,
    rounds: usize,
    mut contestants: Vec<Contestant<'_>>,
) -> Result<Vec<Series>> {
    let mut series: Vec<Series> = contestants
        .iter()
        .map(|contestant| Series { name: contestant.name.clone(), figures: Vec::with_capacity(rounds) })
        .collect();
    let mut random = Pcg64::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    for turn in &order {
        (contestants[*turn].measure)()?;
    }
    for _ in 0..rounds {
        let last = order.last().copied();
        order.shuffle(&mut random);
        if order.first().copied() == last {
            order.rotate_left(1);
        }
        for turn in &order {
            let figure = (contestants[*turn].measure)()?;
            series[*turn].figures.push(figure);
        }
    }
    Ok(series)
}

/// What this part of the figures does not exceed; sorts them.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
pub(crate) fn quantile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let place = (figures.len() as f64 * part).ceil() as usize;
    figures.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbance_that_hits_both_of_a_round_does_not_change_the_ratio() {
        let quick = Series { name: "quick".into(), figures: vec![10.0, 100.0, 10.0] };
        let slow = Series { name: "slow".into(), figures: vec![20.0, 200.0, 20.0] };
        assert!((slow.ratio_to(&quick) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_quantile_is_the_smallest_figure_that_its_part_does_not_exceed() {
        let mut figures: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert!((quantile(&mut figures, 0.99) - 198.0).abs() < f64::EPSILON);
        assert!((quantile(&mut figures, 0.5) - 100.0).abs() < f64::EPSILON);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn nobody_follows_itself_and_the_order_changes() {
        let turns = std::cell::RefCell::new(Vec::new());
        let contestant = |number: usize| {
            let turns = &turns;
            Contestant::new(number.to_string(), move || {
                turns.borrow_mut().push(number);
                Ok(1.0)
            })
        };
        compete_in_order_of(1, 50, (0..3).map(contestant).collect()).unwrap();
        let turns = turns.into_inner();
        assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
        let first: Vec<usize> = turns.chunks(3).map(|round| round[0]).collect();
        assert!((0..3).all(|number| first.contains(&number)), "{first:?}");
    }

    #[test]
    fn every_contestant_is_measured_once_a_round_after_warming_up() {
        let mut asked = 0;
        let series = compete(
            3,
            vec![Contestant::new("it", || {
                asked += 1;
                Ok(1.0)
            })],
        );
        assert_eq!(series.unwrap()[0].figures.len(), 3);
        assert_eq!(asked, 4);
    }
}
