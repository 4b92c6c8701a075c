//! A short piece of a key, in a form of a fixed size.
//!
//! What takes longest in rendering a key are branches on lengths that a processor cannot foresee, and calls that copy a few
//! bytes. A piece that is looked at, copied and hashed as one block has hardly any of them.

/// How long a block is, in bytes.
pub(super) const BLOCK: usize = 16;

/// Half a block.
pub(super) const WORD: usize = size_of::<u64>();

/// What stands for itself in any key.
const ZEROS: u64 = u64::from_ne_bytes([b'0'; WORD]);

/// At most [`BLOCK`] bytes in two words, zeros behind them.
pub(super) struct Block {
    words: [u64; 2],
    length: usize,
    /// The same bytes, some of them twice, filled up with such as are special in no key.
    sample: [u64; 2],
}

impl Block {
    /// The bytes, if they are few enough.
    #[inline(always)]
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let length = bytes.len();
        let (words, sample) = match length {
            WORD..=BLOCK => {
                let (first, last) =
                    (u64::from_le_bytes(*bytes.first_chunk()?), u64::from_le_bytes(*bytes.last_chunk()?));
                // In two steps, as there may be all to be shifted out.
                let half = 4 * (BLOCK - length);
                ([first, last >> half >> half], [first, last])
            }
            4..WORD => {
                let (first, last) =
                    (u32::from_le_bytes(*bytes.first_chunk()?), u32::from_le_bytes(*bytes.last_chunk()?));
                let (first, last) = (u64::from(first), u64::from(last));
                ([first | last << (8 * (length - 4)), 0], [first | last << 32, ZEROS])
            }
            1..4 => {
                let at = |place: usize| u64::from(bytes[place]) << (8 * place);
                let word = at(0) | at(length / 2) | at(length - 1);
                ([word, 0], [word | ZEROS << (8 * length), ZEROS])
            }
            0 => ([0, 0], [ZEROS, ZEROS]),
            _ => return None,
        };
        Some(Self { words, length, sample })
    }

    /// A whole block.
    #[inline(always)]
    pub(super) fn full(bytes: &[u8; BLOCK]) -> Self {
        let both = u128::from_le_bytes(*bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the halves")]
        let words = [both as u64, (both >> 64) as u64];
        Self { words, length: BLOCK, sample: words }
    }

    /// The decimal digits of a number, if they are at most eight.
    #[inline(always)]
    pub(super) fn of_number(number: u64) -> Option<Self> {
        if number >= 100_000_000 {
            return None;
        }
        // Halves, quarters and digits side by side in one word, the first lowest. To divide by 100 or 10 is to multiply and to
        // shift, exactly so for numbers that are so small.
        let halves = (number / 10_000) | ((number % 10_000) << 32);
        let hundreds = ((halves * 10_486) >> 20) & 0x7f_0000_007f;
        let quarters = hundreds | (halves - 100 * hundreds) << 16;
        let tens = ((quarters * 103) >> 10) & 0xf_000f_000f_000f;
        let digits = tens | (quarters - 10 * tens) << 8;
        // The last digit stays, also of 0.
        let leading = (digits.trailing_zeros() as usize / 8).min(WORD - 1);
        let word = (digits | ZEROS) >> (8 * leading);
        Some(Self { words: [word, 0], length: WORD - leading, sample: [ZEROS, ZEROS] })
    }

    /// The bytes, zeros behind them.
    #[inline(always)]
    pub(super) fn bytes(&self) -> [u8; BLOCK] {
        bytes(self.words)
    }

    #[inline(always)]
    pub(super) fn words(&self) -> [u64; 2] {
        self.words
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Whether each byte stands for itself. All of them in any case: with nothing to decide in between, they are looked at at once.
    #[inline(always)]
    pub(super) fn is_plain(&self, colon_too: bool) -> bool {
        let [low, high] = self.sample;
        are_words_plain(low, high, colon_too)
    }
}

/// Whether each byte of a block stands for itself.
#[inline(always)]
pub(super) fn are_plain(block: &[u8; BLOCK], colon_too: bool) -> bool {
    block.iter().fold(true, |plain, byte| plain & !is_special(*byte, colon_too))
}

/// By itself, and the block in registers: with `colon_too` known, or an array to be read, the compiler makes a worse thing of it.
#[inline(never)]
fn are_words_plain(low: u64, high: u64, colon_too: bool) -> bool {
    are_plain(&bytes([low, high]), colon_too)
}

#[inline(always)]
fn bytes([low, high]: [u64; 2]) -> [u8; BLOCK] {
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}

/// Whether a byte has a meaning in keys or patterns. Every byte of what is not ASCII does: it is looked at as a character.
#[inline(always)]
pub(super) fn is_special(byte: u8, colon_too: bool) -> bool {
    let is = |other: u8| byte == other;
    // The backslash stands between the brackets.
    let glob = is(b'*') | is(b'?') | (b'['..=b']').contains(&byte) | is(b'{') | is(b'}');
    !(b'!'..=b'~').contains(&byte) | glob | is(b'%') | (colon_too & is(b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_bytes_those_stand_for_themselves_that_neither_keys_nor_patterns_give_a_meaning() {
        for byte in 0..=u8::MAX {
            let special = !byte.is_ascii_graphic() || b"*?[]{}\\%".contains(&byte);
            assert_eq!(is_special(byte, false), special, "{byte}");
            assert_eq!(is_special(byte, true), special || byte == b':', "{byte}");
        }
    }

    #[test]
    fn a_block_has_the_bytes_and_zeros_behind_them_and_is_plain_if_they_are() {
        let text = *b"abcdefghijklmnopq";
        for length in 0..=BLOCK {
            let block = Block::of(&text[..length]).expect("it fits");
            assert_eq!((block.len(), &block.bytes()[..length]), (length, &text[..length]));
            assert_eq!(block.bytes()[length..], [0; BLOCK][length..]);
            assert!(block.is_plain(true), "{length}");
            if let Ok(bytes) = text[..length].try_into() {
                assert_eq!(Block::full(bytes).words(), block.words());
            }
            for place in 0..length {
                let mut text = text;
                text[place] = b'*';
                assert!(!Block::of(&text[..length]).expect("it fits").is_plain(false), "{place} of {length}");
            }
        }
        assert!(Block::of(&text).is_none());
    }
}
