//! Popularity after Zipf's law: the item of rank k is drawn in proportion to 1 / k^s.

use std::{error::Error, fmt};

use rand::{Rng, RngExt as _};
use rand_distr::Zipf;

/// Draws indices from 0 up, the first the most often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Popularity {
    count: usize,
    ranks: Zipf<f64>,
}

impl Popularity {
    /// Of `count` items with the given exponent: 0 draws all alike, about 1 is usual for caches.
    ///
    /// # Errors
    /// `count` is zero, or `exponent` is negative or not finite.
    #[expect(clippy::cast_precision_loss, reason = "a rank beyond 2^52 would never be drawn")]
    pub fn new(count: usize, exponent: f64) -> Result<Self, BadPopularity> {
        let bad = BadPopularity { count, exponent };
        if !exponent.is_finite() {
            return Err(bad);
        }
        let ranks = Zipf::new(count as f64, exponent).map_err(|_| bad)?;
        Ok(Self { count, ranks })
    }

    /// An index below the count.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is a whole number from 1 to count"
    )]
    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        let rank = rng.sample(self.ranks) as usize;
        rank.clamp(1, self.count) - 1
    }
}

/// A count or an exponent that no popularity can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadPopularity {
    count: usize,
    exponent: f64,
}

impl fmt::Display for BadPopularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("there is nothing to draw from; at least one item is needed");
        }
        write!(f, "exponent is {}; it must be a number from 0 up, such as 0.99", self.exponent)
    }
}

impl Error for BadPopularity {}

#[cfg(test)]
mod tests {
    use super::Popularity;
    use crate::seeded;

    #[test]
    fn draws_follow_the_law() {
        let (count, draws) = (10, 200_000_u32);
        let popularity = Popularity::new(count, 0.99).unwrap();
        let mut rng = seeded::rng(1, &["zipf"]);
        let mut seen = vec![0_u32; count];
        for _ in 0..draws {
            seen[popularity.draw(&mut rng)] += 1;
        }
        let weights: Vec<f64> = (1..=10).map(|rank| f64::from(rank).powf(-0.99)).collect();
        let total: f64 = weights.iter().sum();
        for (rank, (seen, weight)) in seen.iter().zip(&weights).enumerate() {
            let (share, expected) = (f64::from(*seen) / f64::from(draws), weight / total);
            assert!((share - expected).abs() < 0.005, "rank {rank}: {share} instead of {expected}");
        }
    }

    #[test]
    fn one_item_is_always_drawn() {
        let popularity = Popularity::new(1, 2.0).unwrap();
        let mut rng = seeded::rng(1, &["zipf"]);
        assert!((0..100).all(|_| popularity.draw(&mut rng) == 0));
    }

    #[test]
    fn nothing_and_no_number_are_refused() {
        assert_eq!(
            Popularity::new(0, 1.0).unwrap_err().to_string(),
            "there is nothing to draw from; at least one item is needed"
        );
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Popularity::new(3, bad).unwrap_err().to_string().starts_with("exponent is "));
        }
    }
}
