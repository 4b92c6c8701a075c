//! What keys that were met by chance say.

use super::finding::{Finding, Grade};
use crate::{
    report::printable,
    sample::{BANDS, Sample, share},
    span::bytes,
};

/// Fewer keys than this say nothing about the others.
const TELLING_KEYS: u64 = 100;
/// An answer of this size keeps a server busy that could have answered a thousand readers.
const BIG_BYTES: u64 = 1 << 20;

pub(super) fn judged(sample: &Sample) -> Vec<Finding> {
    vec![sizes(sample), lives(sample)]
}

fn sizes(sample: &Sample) -> Finding {
    let check = "big keys";
    let Some(biggest) = sample.biggest(1).into_iter().next() else { return Finding::ok(check, "no keys".to_owned()) };
    let found = format!("the biggest of {} has {}", sample.keys.len(), bytes(biggest.bytes));
    if biggest.bytes < BIG_BYTES {
        return Finding::ok(check, found);
    }
    let todo = "split it, or compress by its strategy: while it is sent, all others wait; larder bigkeys lists more";
    Finding::new(check, format!("{found}: {}", printable(&biggest.key)), Grade::Advice, todo)
}

fn lives(sample: &Sample) -> Finding {
    let check = "lifetimes";
    let counts = sample.by_ttl();
    let (mortal, longest) = (counts.iter().sum::<u64>(), counts[BANDS.len()]);
    if mortal == 0 {
        return Finding::ok(check, "no key with a TTL was met".to_owned());
    }
    let found = format!("{} of keys with a TTL live for more than 7 days", share(longest, mortal));
    if mortal < TELLING_KEYS || longest * 2 <= mortal {
        return Finding::ok(check, found);
    }
    Finding::new(check, found, Grade::Advice, "shorten TTLs: what lives so long is stale, or takes room from others")
}
