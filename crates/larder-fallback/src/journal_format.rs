//! The bytes of a journal file: a header of 16, then one record for each key.
//!
//! ```text
//! header   "larder journal1"  state            15 + 1
//! record   length of the key  xxh3 of the key  the key        4 + 8 + n, little-endian
//! ```
//!
//! The state is `o` (open) from before the first record is written until the journal is empty again or its process ends
//! properly, so that a process which died in an outage can be told even if not one record reached the disk: the byte is
//! overwritten in place, for which a full disk has room. It is `c` (closed) otherwise.
//!
//! Records are never taken back one by one. A key that was removed since is removed once more, which costs a load and
//! harms nothing.

use larder_core::Key;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 15] = b"larder journal1";
pub(crate) const HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = 12;

/// Keys are bounded in length by themselves; this bounds what a broken file can make anybody allocate.
const LONGEST_KEY: usize = 1 << 16;

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) keys: Vec<Key>,
    /// Whether its header says that the journal was open.
    pub(crate) is_open: bool,
    /// Whether its process ended properly and every record can be read.
    pub(crate) is_complete: bool,
    /// Where the next record goes.
    pub(crate) length: usize,
}

pub(crate) fn header(is_open: bool) -> [u8; HEADER_BYTES] {
    let mut header = [if is_open { b'o' } else { b'c' }; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header
}

pub(crate) fn encode(key: &Key, out: &mut Vec<u8>) {
    let text = key.as_str().as_bytes();
    // A key beyond the bound cannot be read back; it leaves the file incomplete rather than unreadable.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&xxh3_64(text).to_le_bytes());
    out.extend_from_slice(text);
}

pub(crate) fn encoded_len(key: &Key) -> usize {
    RECORD_BYTES + key.as_str().len()
}

/// Reads a file; `None` if it is something else than a journal.
pub(crate) fn parse(bytes: &[u8]) -> Option<Contents> {
    let Some((header, mut rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        // New, or torn while it was made, when nothing had been remembered yet.
        let is_ours = MAGIC.starts_with(bytes) || bytes.starts_with(MAGIC);
        return is_ours.then_some(Contents { keys: Vec::new(), is_open: false, is_complete: true, length: 0 });
    };
    if !header.starts_with(MAGIC) {
        return None;
    }
    let mut keys = Vec::new();
    while let Some((key, after)) = record(rest) {
        keys.push(key);
        rest = after;
    }
    let is_open = !header.ends_with(b"c");
    Some(Contents { keys, is_open, is_complete: rest.is_empty() && !is_open, length: bytes.len() - rest.len() })
}

fn record(bytes: &[u8]) -> Option<(Key, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= LONGEST_KEY)?;
    let (text, rest) = rest.split_at_checked(length)?;
    if text.is_empty() || xxh3_64(text) != u64::from_le_bytes(*sum) {
        return None;
    }
    Some((Key::from_canonical(std::str::from_utf8(text).ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(is_open: bool, names: &[&str]) -> Vec<u8> {
        let mut bytes = header(is_open).to_vec();
        names.iter().for_each(|name| encode(&Key::new(*name), &mut bytes));
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = file(false, &["a", "user:7"]);
        let contents = parse(&bytes).unwrap();
        assert_eq!(contents.keys, [Key::new("a"), Key::new("user:7")]);
        assert!(contents.is_complete);
        assert_eq!(contents.length, bytes.len());
        assert_eq!(bytes.len(), HEADER_BYTES + contents.keys.iter().map(encoded_len).sum::<usize>());
    }

    #[test]
    fn a_file_that_was_left_open_is_not_complete() {
        assert!(!parse(&file(true, &["a"])).unwrap().is_complete);
        assert!(!parse(&file(true, &[])).unwrap().is_complete);
    }

    #[test]
    fn a_torn_tail_costs_the_last_record_and_the_trust() {
        let whole = file(false, &["a", "bb"]);
        let first = file(false, &["a"]).len();
        for cut in first + 1..whole.len() {
            let contents = parse(&whole[..cut]).unwrap();
            assert_eq!((contents.keys.len(), contents.is_complete, contents.length), (1, false, first), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let whole = file(false, &["a", "bb"]);
        for byte in HEADER_BYTES..whole.len() {
            let mut broken = whole.clone();
            broken[byte] ^= 1;
            assert!(!parse(&broken).unwrap().is_complete, "byte {byte}");
        }
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_allocated() {
        let mut bytes = header(false).to_vec();
        bytes.extend_from_slice(&[0xff; 4]);
        bytes.extend_from_slice(&[0; 200]);
        assert_eq!(parse(&bytes).unwrap().length, HEADER_BYTES);
    }

    #[test]
    fn another_file_is_told_from_a_new_one() {
        assert!(parse(b"").is_some_and(|contents| contents.is_complete));
        assert!(parse(b"larder jou").is_some_and(|contents| contents.is_complete));
        assert_eq!(parse(b"root:x:0:0"), None);
        assert_eq!(parse(b"#!/bin/sh\necho something longer"), None);
    }
}
