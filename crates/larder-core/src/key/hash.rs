//! The hash of a key, made while its text is.
//!
//! A text that was written a moment ago, piece by piece, can be read again in other pieces only when all that was to be done
//! before it is done: a processor forwards to a read what one write has left, not what two have. A hash of what is in
//! registers anyway does not wait for that, so that a look-up begins while the one before it still waits for memory.

use std::{
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use super::block::{BLOCK, Block, WORD};

/// The hash of a canonical key. It depends on the text only, not on the pieces it was rendered in. It differs from process to
/// process, so that keys which fall together cannot be chosen beforehand, and means nothing outside of it. Hashed once
/// more, as keys of maps are, it is one number with no bit worse than another, which needs no mixing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// That of a whole text. O(length).
    #[must_use]
    pub fn of(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut hashing = Hashing::new();
        hashing.push(0, text);
        hashing.finish(text.len())
    }
}

/// A hash under way, of a text whose length is known elsewhere. Each word of the text is multiplied by a secret, and the
/// halves of the product are folded together: what the wyhash family of hashes does.
#[derive(Debug, Clone)]
pub(super) struct Hashing {
    /// Of the whole words so far.
    state: u64,
    /// The bytes since the last whole word, zeros above them.
    tail: u64,
    secrets: &'static Secrets,
}

#[derive(Debug)]
struct Secrets {
    start: u64,
    word: u64,
    end: u64,
}

static SECRETS: LazyLock<Secrets> = LazyLock::new(|| {
    let random = RandomState::new();
    // A factor must not be even, and needs bits in both halves.
    let factor = |number: u64| random.hash_one(number) | 0x8000_0001_0000_0001;
    Secrets { start: random.hash_one(0_u64), word: factor(1), end: factor(2) }
});

impl Hashing {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let secrets = &*SECRETS;
        Self { state: secrets.start, tail: 0, secrets }
    }

    /// Bytes behind the first `at` ones.
    pub(super) fn push(&mut self, mut at: usize, bytes: &[u8]) {
        for piece in bytes.chunks(BLOCK) {
            let block = Block::of(piece).expect("no longer than a block");
            self.push_block(at, &block);
            at += piece.len();
        }
    }

    #[inline(always)]
    pub(super) fn push_block(&mut self, at: usize, block: &Block) {
        let [low, high] = block.words();
        if block.len() < WORD {
            self.push_word(at, low, block.len());
        } else {
            self.push_word(at, low, WORD);
            self.push_word(at, high, block.len() - WORD);
        }
    }

    /// The lowest `length` bytes of a word, whose others are zero, behind `at` bytes or as many words more.
    #[inline(always)]
    fn push_word(&mut self, at: usize, word: u64, length: usize) {
        let before = at % WORD;
        let whole = self.tail | word << (8 * before);
        if before + length < WORD {
            self.tail = whole;
        } else {
            self.state = folded_product(self.state ^ whole, self.secrets.word);
            // In two steps, as there may be all to be shifted out.
            self.tail = word >> 8 >> (8 * (WORD - 1 - before));
        }
    }

    /// The hash of a text of this length.
    #[inline(always)]
    pub(super) fn finish(&self, length: usize) -> KeyHash {
        // With one product alone the spread of numbers that begin a word would depend on the luck of one secret.
        let last = folded_product(self.state ^ self.tail, self.secrets.word);
        KeyHash(folded_product(last ^ length as u64, self.secrets.end))
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves")]
fn folded_product(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_in_a_few_digits_are_spread_over_all_buckets_by_any_of_the_bits() {
        const BUCKETS: usize = 1 << 10;
        const KEYS: usize = 100 * BUCKETS;
        let mask = BUCKETS as u64 - 1;
        // The number's digits in the last word alone, in the last two, and from the beginning of a word on.
        for prefix in ["user:", "shop:users:", "abcdefg:", "app:candles:BTC:"] {
            for shift in [0, 10, 27, 44, 54] {
                let mut buckets = vec![0; BUCKETS];
                for id in 0..KEYS {
                    let hash = KeyHash::of(format!("{prefix}{id}")).0;
                    buckets[usize::try_from(hash >> shift & mask).expect("a bucket")] += 1;
                }
                // A hundred each on average, and ten the standard deviation.
                assert!(buckets.iter().all(|count| (20..250).contains(count)), "{prefix} {shift}: {buckets:?}");
            }
        }
    }
}
