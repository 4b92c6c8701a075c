//! Reproducible randomness: one generator per seed and subject.
//!
//! A generator is derived from the seed and a list of words (what it is for, the symbol, the interval), not drawn from
//! a shared stream, so that the candles of one symbol do not change when another symbol is added or asked first.

use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;
use xxhash_rust::xxh3::Xxh3;

/// The generator that belongs to `seed` and `words`.
///
/// The same arguments give the same stream on every platform and in every process. Word boundaries count:
/// `["ab", "c"]` and `["a", "bc"]` give different streams.
#[must_use]
pub fn rng(seed: u64, words: &[&str]) -> Pcg64Mcg {
    let mut hash = Xxh3::with_seed(seed);
    for word in words {
        hash.update(&(word.len() as u64).to_le_bytes());
        hash.update(word.as_bytes());
    }
    Pcg64Mcg::seed_from_u64(hash.digest())
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::rng;

    #[test]
    fn the_same_seed_and_words_give_the_same_stream() {
        let (mut a, mut b) = (rng(7, &["candles", "BTCUSDT"]), rng(7, &["candles", "BTCUSDT"]));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
    }

    #[test]
    fn seed_and_word_boundaries_separate_streams() {
        let first = |seed, words: &[&str]| rng(seed, words).next_u64();
        assert_ne!(first(1, &["ab", "c"]), first(1, &["a", "bc"]));
        assert_ne!(first(1, &["ab"]), first(2, &["ab"]));
        assert_ne!(first(1, &["ab"]), first(1, &["ab", ""]));
    }

    #[test]
    fn the_stream_is_the_one_that_other_builds_produce() {
        assert_eq!(rng(42, &["candles", "BTCUSDT", "1h"]).next_u64(), 13_375_975_703_753_890_518);
    }
}
