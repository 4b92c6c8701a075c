//! Keys that were met by chance, and what they say about all.

mod report;
mod take;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use larder_core::{SamplePage, SampledKey};

pub(crate) use self::report::share;

/// The ends of the bands that times to live are sorted into; the last band has none.
pub(crate) const BANDS: [Duration; 6] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
    Duration::from_secs(7 * 86_400),
];

/// Keys that were met by chance.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) keys: Vec<SampledKey>,
    /// Keys that were met, and that the user may not ask about.
    refused: u64,
    /// How many keys there are.
    total: u64,
    /// It was given up for want of time.
    broken_off: bool,
}

/// Some of the keys of a sample.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) without_ttl: u64,
}

impl Part {
    fn add(&mut self, key: &SampledKey) {
        self.keys += 1;
        self.bytes = self.bytes.saturating_add(key.bytes);
        self.without_ttl += u64::from(key.remaining.duration().is_none());
    }
}

impl Sample {
    fn add(&mut self, page: SamplePage) {
        self.keys.extend(page.keys);
        self.refused += page.refused;
        self.total = page.total;
    }

    /// All keys of the sample.
    pub(crate) fn whole(&self) -> Part {
        let mut whole = Part::default();
        self.keys.iter().for_each(|key| whole.add(key));
        whole
    }

    /// A number that was seen, extended to all keys. Those that the user may not see add nothing to it.
    fn estimate(&self, seen: u64) -> u64 {
        let looked_at = u128::from(self.looked_at().max(1));
        // Keys may have come since they were counted.
        let total = u128::from(self.total).max(looked_at);
        u64::try_from(u128::from(seen) * total / looked_at).unwrap_or(u64::MAX)
    }

    fn looked_at(&self) -> u64 {
        self.keys.len() as u64 + self.refused
    }

    /// By the first `depth` parts of the keys, without their last one; those with the most memory first.
    pub(crate) fn by_prefix(&self, depth: u8) -> Vec<(&str, Part)> {
        let mut parts: HashMap<&str, Part> = HashMap::new();
        for key in &self.keys {
            parts.entry(prefix(&key.key, depth)).or_default().add(key);
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by(|(a, one), (b, other)| other.bytes.cmp(&one.bytes).then(a.cmp(b)));
        parts
    }

    /// By what is stored.
    pub(crate) fn by_kind(&self) -> BTreeMap<&str, Part> {
        let mut kinds: BTreeMap<&str, Part> = BTreeMap::new();
        for key in &self.keys {
            kinds.entry(&key.kind).or_default().add(key);
        }
        kinds
    }

    /// How many keys with a TTL fall into each band, and into that behind the last one.
    pub(crate) fn by_ttl(&self) -> [u64; BANDS.len() + 1] {
        let mut counts = [0; BANDS.len() + 1];
        for left in self.keys.iter().filter_map(|key| key.remaining.duration()) {
            counts[BANDS.iter().position(|end| left <= *end).unwrap_or(BANDS.len())] += 1;
        }
        counts
    }

    /// The biggest keys, the biggest first.
    pub(crate) fn biggest(&self, most: usize) -> Vec<&SampledKey> {
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_by(|one, other| other.bytes.cmp(&one.bytes).then(one.key.cmp(&other.key)));
        keys.truncate(most);
        keys
    }
}

/// With its closing `:`; empty for a key of one part.
fn prefix(key: &str, depth: u8) -> &str {
    let end = key.match_indices(':').take(usize::from(depth)).last();
    end.map_or("", |(colon, _)| &key[..=colon])
}

#[cfg(test)]
mod tests {
    use larder_core::Remaining;

    use super::*;

    fn sample(keys: &[(&str, u64, Option<u64>)], total: u64) -> Sample {
        let mut page = SamplePage::default();
        page.total = total;
        page.keys = keys
            .iter()
            .map(|(key, bytes, seconds)| {
                let remaining = seconds.map_or(Remaining::Forever, |left| Remaining::For(Duration::from_secs(left)));
                SampledKey::new(*key, "string", remaining, *bytes)
            })
            .collect();
        let mut sample = Sample::default();
        sample.add(page);
        sample
    }

    #[test]
    fn a_prefix_is_made_of_parts_before_the_last() {
        assert_eq!(["a", "a:b", "a:b:c:d"].map(|key| prefix(key, 2)), ["", "a:", "a:b:"]);
        assert_eq!((prefix("a:b:c", 1), prefix("a:b:c", 9), prefix("", 1), prefix(":", 1)), ("a:", "a:b:", "", ":"));
    }

    #[test]
    fn prefixes_with_the_most_memory_come_first() {
        let sample = sample(&[("a:1", 5, None), ("b:1", 4, Some(1)), ("b:2", 4, None)], 3);
        let parts = sample.by_prefix(1);
        assert_eq!(parts[0], ("b:", Part { keys: 2, bytes: 8, without_ttl: 1 }));
        assert_eq!(parts[1], ("a:", Part { keys: 1, bytes: 5, without_ttl: 1 }));
    }

    #[test]
    fn what_was_seen_is_extended_to_all_keys() {
        let mut sample = sample(&[("a", 10, None), ("b", 20, None)], 1_000);
        assert_eq!(sample.estimate(30), 15_000);
        // Two more that may not be looked at: what is seen is half of all.
        sample.refused = 2;
        assert_eq!(sample.estimate(30), 7_500);
        sample.total = 0;
        assert_eq!(sample.estimate(30), 30);
        assert_eq!(Sample::default().estimate(0), 0);
    }

    #[test]
    fn a_time_to_live_falls_into_the_band_that_it_does_not_exceed() {
        let sample = sample(&[("a", 1, Some(10)), ("b", 1, Some(11)), ("c", 1, Some(604_801)), ("d", 1, None)], 4);
        assert_eq!(sample.by_ttl(), [1, 1, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn the_biggest_keys_come_first() {
        let sample = sample(&[("a", 1, None), ("b", 3, None), ("c", 2, None)], 3);
        assert_eq!(sample.biggest(2).iter().map(|key| key.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    }
}
