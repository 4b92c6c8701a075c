//! The near tier: bound, admission, statistics, sweep, removal.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{ErrorKind, KeyBuf, Tick};
use larder_memory::{Admission, AnyValue, Beside, Displaced, ENTRY_OVERHEAD, NearConfig, NearEntry, NearTier};

fn tier(bytes: u64) -> NearTier<()> {
    NearTier::new(&NearConfig::new(bytes)).expect("a size that is allowed")
}

fn value(number: u64) -> AnyValue {
    Arc::new(number)
}

fn number(entry: &NearEntry<()>) -> u64 {
    *entry.value.downcast_ref::<u64>().expect("every value here is a number")
}

fn entry(number: u64) -> NearEntry<()> {
    NearEntry::new(value(number), ())
}

fn dying(number: u64, at: u64) -> NearEntry<()> {
    entry(number).with_stale_until(Tick::from_nanos(at))
}

fn key(number: u64) -> Arc<str> {
    Arc::from(format!("region:{number}"))
}

#[test]
fn a_value_is_found_with_its_deadlines_and_what_was_kept_beside_it() {
    let tier = NearTier::new(&NearConfig::default()).unwrap();
    let now = Tick::from_nanos(1_000);
    let kept = NearEntry::new(value(7), "meta")
        .with_fresh_until(now)
        .with_stale_until(now + Duration::from_secs(1))
        .with_refresh_at(now - Duration::from_nanos(1));
    assert_eq!(tier.insert(Arc::from("a"), kept, 8), Admission::Kept);
    let found = tier.get("a").unwrap();
    assert_eq!(found.value.downcast_ref::<u64>(), Some(&7));
    assert_eq!((found.fresh_until, found.refresh_at), (now, Tick::from_nanos(999)));
    assert_eq!(found.stale_until, Tick::from_nanos(1_000_001_000));
    assert_eq!(found.meta, "meta");
    assert!(tier.get("b").is_none());
}

#[test]
fn a_dead_entry_is_answered_as_it_is_because_the_caller_judges_it() {
    let tier = tier(1 << 20);
    tier.insert(key(1), dying(1, 5), 8);
    assert_eq!(number(&tier.get("region:1").unwrap()), 1);
}

#[test]
fn the_bytes_stay_within_the_bound_however_much_is_inserted() {
    let tier = tier(1 << 20);
    for i in 0..20_000 {
        tier.insert(key(i), entry(i), 1_000);
        assert!(tier.bytes() <= 1 << 20);
    }
    let stats = tier.stats();
    assert!(stats.bytes > 1 << 19, "half of the room at least is used: {stats:?}");
    assert!(stats.capacity_bytes <= 1 << 20);
    assert_eq!(stats.entries, tier.len() as u64);
}

#[test]
fn an_entry_weighs_its_value_its_key_and_the_overhead() {
    let tier = tier(1 << 20);
    tier.insert(Arc::from("12345"), entry(0), 100);
    assert_eq!(tier.bytes(), 105 + ENTRY_OVERHEAD);
    assert_eq!(tier.weight_of("12345"), Some(105 + ENTRY_OVERHEAD));
    tier.insert(Arc::from("12345"), entry(0), 50);
    assert_eq!(tier.bytes(), 55 + ENTRY_OVERHEAD);
}

#[test]
fn an_entry_that_fits_no_shard_is_refused_and_the_outdated_one_goes() {
    let tier = tier(64 << 10);
    let heaviest = tier.largest_entry() - ENTRY_OVERHEAD - 1;
    assert_eq!(tier.insert(Arc::from("a"), entry(1), heaviest), Admission::Kept);
    assert_eq!(number(&tier.get("a").unwrap()), 1);
    assert_eq!(tier.insert(Arc::from("a"), entry(2), heaviest + 1), Admission::TooHeavy);
    assert!(tier.get("a").is_none());
    assert_eq!(tier.insert(Arc::from("a"), entry(2), u64::MAX), Admission::TooHeavy);
    let stats = tier.stats();
    assert_eq!((stats.rejected, stats.inserts, stats.evictions, stats.bytes), (2, 1, 0, 0));
}

#[test]
fn a_default_tier_keeps_values_of_several_mebibytes() {
    let tier = NearTier::new(&NearConfig::default()).unwrap();
    assert_eq!(tier.insert(Arc::from("big"), entry(1), 7 << 20), Admission::Kept);
    assert!(tier.get("big").is_some());
}

#[test]
fn evictions_are_what_is_missing_in_the_end() {
    let tier = tier(256 << 10);
    for i in 0..5_000 {
        tier.insert(key(i), entry(i), 200);
    }
    let stats = tier.stats();
    assert_eq!(stats.inserts, 5_000);
    assert!(stats.evictions > 0);
    assert_eq!(stats.evictions, 5_000 - stats.entries);
}

#[test]
fn replacing_and_removing_are_not_evictions() {
    let tier = tier(1 << 20);
    for i in 0..1_000 {
        tier.insert(key(i % 10), entry(i), 100);
    }
    assert_eq!(number(&tier.remove("region:3").unwrap()), 993);
    assert!(tier.remove("region:3").is_none());
    let stats = tier.stats();
    assert_eq!((stats.inserts, stats.evictions, stats.entries), (1_000, 0, 9));
}

#[test]
fn a_conditional_removal_takes_only_what_was_meant() {
    let tier = tier(1 << 20);
    tier.insert(key(1), entry(1), 8);
    assert!(!tier.remove_if("region:1", |entry| number(entry) == 2));
    assert!(tier.get("region:1").is_some());
    assert!(tier.remove_if("region:1", |entry| number(entry) == 1));
    assert!(tier.get("region:1").is_none());
    assert!(!tier.remove_if("region:1", |_| true));
}

#[test]
fn retain_removes_by_key_and_value_and_says_how_many() {
    let tier = tier(1 << 20);
    for i in 0..100 {
        tier.insert(key(i), entry(i), 8);
    }
    assert_eq!(tier.retain(|key, entry| !key.ends_with('7') && number(entry) < 90), 19);
    assert_eq!(tier.len(), 81);
    assert!(tier.get("region:17").is_none() && tier.get("region:95").is_none() && tier.get("region:16").is_some());
}

#[test]
fn clear_empties_the_tier_and_says_how_many() {
    let tier = tier(1 << 20);
    for i in 0..100 {
        tier.insert(key(i), entry(i), 8);
    }
    assert_eq!(tier.clear(), 100);
    assert!(tier.is_empty());
    assert_eq!((tier.bytes(), tier.stats().evictions), (0, 0));
}

#[test]
fn a_sweep_removes_what_is_dead_and_nothing_else() {
    let tier = tier(1 << 20);
    for i in 0..100 {
        tier.insert(key(i), dying(i, 100 + i), 8);
    }
    tier.insert(Arc::from("for ever"), entry(0), 8);
    assert_eq!(tier.sweep(Tick::from_nanos(99), 1_000), 0);
    assert_eq!(tier.sweep(Tick::from_nanos(149), 1_000), 50);
    assert!(tier.get("region:49").is_none() && tier.get("region:50").is_some());
    assert_eq!(tier.sweep(Tick::from_nanos(1_000_000), 1_000), 50);
    assert_eq!(tier.len(), 1);
}

#[test]
fn a_sweep_is_bounded_and_goes_on_where_it_ended() {
    let config = NearConfig::new(64 << 20).near_shards(8);
    let tier = NearTier::new(&config).unwrap();
    for i in 0..1_000 {
        tier.insert(key(i), dying(i, 10), 8);
    }
    let mut left = 1_000;
    while left > 0 {
        assert_eq!(tier.sweep(Tick::from_nanos(10), 64), left.min(64));
        left = left.saturating_sub(64);
        assert_eq!(tier.len() as u64, left);
    }
    assert_eq!(tier.sweep(Tick::from_nanos(10), 0), 0);
}

#[test]
fn an_entry_that_was_renewed_outlives_its_first_deadline() {
    let tier = tier(1 << 20);
    tier.insert(key(1), dying(1, 10), 8);
    tier.insert(key(1), dying(2, 20), 8);
    assert_eq!(tier.sweep(Tick::from_nanos(10), 100), 0);
    assert_eq!(number(&tier.get("region:1").unwrap()), 2);
    assert_eq!(tier.sweep(Tick::from_nanos(20), 100), 1);
}

#[test]
fn a_listing_visits_every_entry_and_may_use_the_tier() {
    let tier = tier(1 << 20);
    for i in 0..50 {
        tier.insert(key(i), entry(i), 8);
    }
    let mut sum = 0;
    tier.for_each(|key, entry| {
        assert!(tier.whole(key).is_some());
        sum += number(&entry);
    });
    assert_eq!(sum, 49 * 50 / 2);
}

/// A value that looks into the tier when it is dropped, as a handle to a session might.
struct UsesTheTierInDrop {
    tier: Weak<NearTier<()>>,
    dropped: Arc<AtomicU64>,
}

impl Drop for UsesTheTierInDrop {
    fn drop(&mut self) {
        if let Some(tier) = self.tier.upgrade() {
            drop(tier.get("region:0"));
            tier.remove("nothing");
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn values_are_dropped_outside_the_locks_on_every_way_out() {
    let tier = Arc::new(NearTier::new(&NearConfig::new(64 << 10)).unwrap());
    let dropped = Arc::new(AtomicU64::new(0));
    let make = || UsesTheTierInDrop { tier: Arc::downgrade(&tier), dropped: Arc::clone(&dropped) };
    let put = |i: u64, until: u64, weight: u64| {
        let entry = NearEntry::new(Arc::new(make()), ()).with_stale_until(Tick::from_nanos(until));
        tier.insert(key(i), entry, weight)
    };
    let gone = || dropped.load(Ordering::Relaxed);
    for i in 0..500 {
        put(i, 10, 1_000);
    }
    assert_eq!(gone(), 500 - tier.len() as u64);
    put(500, 10, 30_000);
    assert!(tier.len() < 40, "many gave way to one");
    assert_eq!(gone(), 501 - tier.len() as u64);
    put(500, 20, 1_000);
    put(501, 20, 1_000);
    tier.remove("region:501");
    put(502, 20, 1_000);
    tier.retain(|key, _| key != "region:502");
    assert!(tier.sweep(Tick::from_nanos(10), 10) > 0);
    assert_eq!(put(500, 20, u64::MAX), Admission::TooHeavy);
    tier.clear();
    assert_eq!(gone(), 505);
}

#[test]
fn readers_see_whole_entries_while_writers_replace_them() {
    let tier = tier(1 << 20);
    let done = AtomicBool::new(false);
    tier.insert(key(0), dying(1, 1), 8);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let found = tier.get("region:0").unwrap();
                    assert_eq!(Tick::from_nanos(number(&found)), found.stale_until);
                }
            });
        }
        for i in 1..20_000 {
            tier.insert(key(0), dying(i, i), 8);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(tier.len(), 1);
}

#[test]
fn a_wrong_size_is_refused_by_name() {
    let refused = |config: NearConfig| {
        let error = NearTier::<()>::new(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(refused(NearConfig::new(1_000)).contains("`near_bytes`"));
    assert!(refused(NearConfig::default().near_entries(0)).contains("`near_entries`"));
    assert!(refused(NearConfig::default().near_shards(3)).contains("`near_shards`"));
    assert!(refused(NearConfig::new(64 << 10).near_shards(2)).contains("at most 1"));
}

/// Text that a hit does not get.
#[derive(Debug, PartialEq)]
struct Text(Option<&'static str>);

impl Beside for Text {
    fn for_hit(&self) -> Self {
        Self(None)
    }

    fn whole(&self) -> Self {
        Self(self.0)
    }
}

#[test]
fn a_hit_gets_what_it_needs_and_a_look_gets_all() {
    let tier = NearTier::new(&NearConfig::new(1 << 20)).unwrap();
    tier.insert("k".into(), NearEntry::new(value(7), Text(Some("text"))), 1);
    let beside = |entry: Option<NearEntry<Text>>| entry.unwrap().meta;
    assert_eq!(beside(tier.get("k")), Text(None));
    assert_eq!(beside(tier.whole("k")), Text(Some("text")));
    let at = Tick::from_nanos(5);
    let weight = tier.weight_of("k");
    assert!(tier.amend("k".into(), |entry| entry.refresh_at = at, &mut Displaced::default()));
    assert_eq!((tier.weight_of("k"), Some(tier.bytes())), (weight, weight), "it weighs what it weighed");
    let whole = tier.whole("k").unwrap();
    assert_eq!((whole.refresh_at, whole.meta), (at, Text(Some("text"))), "what is amended keeps all of it");
    assert!(tier.whole("other").is_none());
}

/// Texts around the length up to which a key lies in its slot, and such as padding or a cut could confuse.
fn texts() -> Vec<String> {
    let lengths = [0, 1, 2, 37, 38, 39, 40, 255, 256, 512];
    let mut texts: Vec<String> =
        lengths.iter().flat_map(|length| ["a", "b"].map(|letter| letter.repeat(*length))).collect();
    texts.extend(["a\0".to_owned(), format!("{}\0", "a".repeat(36)), format!("{}\0", "a".repeat(37))]);
    // Two bytes each: 38, 39 with a character that ends there, and 40.
    texts.extend(["é".repeat(19), format!("a{}", "é".repeat(19)), "é".repeat(20)]);
    texts.sort();
    texts.dedup();
    texts
}

#[test]
fn keys_of_all_lengths_are_told_apart_and_handed_back_as_they_were() {
    let tier = NearTier::new(&NearConfig::new(8 << 20)).unwrap();
    let texts = texts();
    for (index, text) in texts.iter().enumerate() {
        tier.insert(text.as_str().into(), dying(index as u64, 100), 1);
    }
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(tier.get(text).as_ref().map(number), Some(index as u64), "{text:?}");
        let rendered = KeyBuf::with_prefix(text);
        assert_eq!(tier.get(&rendered).as_ref().map(number), Some(index as u64), "{text:?}");
        assert_eq!(tier.weight_of(text), Some(1 + text.len() as u64 + ENTRY_OVERHEAD));
        assert!(tier.amend(text.as_str().into(), |entry| entry.refresh_at = Tick::ZERO, &mut Displaced::default()));
        assert_eq!(tier.whole(text).map(|entry| entry.refresh_at), Some(Tick::ZERO));
        assert!(!tier.remove_if(text, |_| false));
    }
    let mut visited = Vec::new();
    tier.for_each(|key, _| visited.push(key.to_owned()));
    visited.sort();
    assert_eq!(visited, texts);
    assert_eq!(tier.retain(|key, _| texts.iter().any(|text| text == key)), 0);
    assert_eq!(tier.remove(&texts[3]).as_ref().map(number), Some(3));
    assert!(tier.get(&texts[3]).is_none());
    assert_eq!(tier.sweep(Tick::from_nanos(100), 10_000), texts.len() as u64 - 1);
    assert!(tier.is_empty());
}

#[test]
fn keys_are_found_again_however_often_the_tier_grew() {
    let tier = tier(64 << 20);
    let text = |number: u64| if number.is_multiple_of(2) { format!("short:{number}") } else { format!("{number:060}") };
    for number in 0..20_000 {
        tier.insert(text(number).into(), entry(number), 1);
    }
    for key in 0..20_000 {
        assert_eq!(tier.get(&text(key)).as_ref().map(number), Some(key));
    }
}
