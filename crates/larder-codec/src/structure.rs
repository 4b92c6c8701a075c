//! The structure of MessagePack bytes, checked before anything is decoded, without recursion.
//!
//! The format is that of <https://github.com/msgpack/msgpack/blob/master/spec.md>. What is checked: there is exactly one
//! value, it takes up all of the bytes, no length reaches beyond them, and nothing is nested more than [`MAX_DEPTH`] deep.

use larder_core::{Error, ErrorKind, Result};
use smallvec::{SmallVec, smallvec};

use crate::bounded::MAX_DEPTH;

pub(crate) fn check_msgpack(bytes: &[u8]) -> Result<()> {
    walk(bytes).map_err(|reason| Error::new(ErrorKind::Decode, "decode", format!("MessagePack: {reason}")))
}

fn walk(bytes: &[u8]) -> std::result::Result<(), &'static str> {
    // How many values are still to come at each level; the first level holds the one value.
    let mut open: SmallVec<[u64; 16]> = smallvec![1];
    let mut at = 0;
    while let Some(remaining) = open.last_mut() {
        if *remaining == 0 {
            open.pop();
            continue;
        }
        *remaining -= 1;
        let (skip, children) = item(&bytes[at..])?;
        at += skip;
        if children > 0 {
            if open.len() > MAX_DEPTH {
                return Err("it is nested too deeply");
            }
            open.push(children);
        }
    }
    if at == bytes.len() { Ok(()) } else { Err("bytes follow the value") }
}

/// Bytes of one item without its children, and the number of these.
fn item(bytes: &[u8]) -> std::result::Result<(usize, u64), &'static str> {
    let (marker, rest) = bytes.split_first().ok_or("the bytes end too early")?;
    let length = |width: usize| {
        let digits = rest.get(..width).ok_or("the bytes end too early")?;
        Ok::<u64, &'static str>(digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (fixed, data, children) = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0, 0),
        0x80..=0x8f => (0, 0, 2 * u64::from(marker & 15)),
        0x90..=0x9f => (0, 0, u64::from(marker & 15)),
        0xa0..=0xbf => (0, u64::from(marker & 31), 0),
        0xc1 => return Err("a byte begins no value"),
        0xc4 | 0xd9 => (1, length(1)?, 0),
        0xc5 | 0xda => (2, length(2)?, 0),
        0xc6 | 0xdb => (4, length(4)?, 0),
        0xc7 => (2, length(1)?, 0),
        0xc8 => (3, length(2)?, 0),
        0xc9 => (5, length(4)?, 0),
        0xcc | 0xd0 => (0, 1, 0),
        0xcd | 0xd1 => (0, 2, 0),
        0xca | 0xce | 0xd2 => (0, 4, 0),
        0xcb | 0xcf | 0xd3 => (0, 8, 0),
        0xd4 => (1, 1, 0),
        0xd5 => (1, 2, 0),
        0xd6 => (1, 4, 0),
        0xd7 => (1, 8, 0),
        0xd8 => (1, 16, 0),
        0xdc => (2, 0, length(2)?),
        0xdd => (4, 0, length(4)?),
        0xde => (2, 0, 2 * length(2)?),
        0xdf => (4, 0, 2 * length(4)?),
    };
    let data = usize::try_from(data).map_err(|_| "a length is out of range")?;
    let end = data.checked_add(1 + fixed).filter(|end| *end <= bytes.len()).ok_or("the bytes end too early")?;
    Ok((end, children))
}
