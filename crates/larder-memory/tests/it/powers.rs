//! Scans, comparisons, counters and locks of the memory backend.

use std::{collections::BTreeSet, time::Duration};

use futures_executor::{block_on, block_on_stream};
use larder_core::{
    Atomic, BackendExt, Bytes, Counter, ErrorKind, Expected, Key, Lock, Pattern, Remaining, Scan, SetOptions,
    SetOutcome,
};
use larder_memory::MemoryBackend;

use crate::clock::backend;

const SECOND: Duration = Duration::from_secs(1);

fn put(backend: &MemoryBackend, key: &Key, value: &'static str) {
    block_on(backend.set(key, Bytes::from(value), SetOptions::new())).expect("a value that is allowed");
}

fn listed(backend: &MemoryBackend, pattern: &Pattern, page: usize) -> Vec<Vec<Key>> {
    block_on_stream(backend.scan(pattern, page)).map(|keys| keys.expect("memory does not fail")).collect()
}

#[test]
fn a_scan_lists_each_matching_live_key_once_in_pages() {
    let (backend, clock) = backend();
    for i in 0..2_500 {
        let key = Key::with_prefix(if i % 5 == 0 { "shop:user:" } else { "shop:cart:" }, &i);
        put(&backend, &key, "x");
    }
    let dead = Key::new("shop:user:dead");
    block_on(backend.set(&dead, Bytes::from_static(b"x"), SetOptions::new().ttl(SECOND))).unwrap();
    clock.advance(SECOND);
    let pattern = Pattern::new("user:*").unwrap().within("shop:");
    let pages = listed(&backend, &pattern, 64);
    assert!(pages.iter().all(|page| !page.is_empty() && page.len() <= 64));
    let keys: Vec<_> = pages.into_iter().flatten().collect();
    assert_eq!(keys.len(), 500);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 500);
    assert!(keys.iter().all(|key| key.as_str().starts_with("shop:user:")));
}

#[test]
fn a_scan_obeys_globs_and_not_only_prefixes() {
    let (backend, _) = backend();
    for name in ["api:a:1", "api:b:1", "api:c:1", "api:a:2", "other"] {
        put(&backend, &Key::new(name), "x");
    }
    let found = listed(&backend, &Pattern::new("api:[ab]:?").unwrap(), 100).concat();
    let found: BTreeSet<_> = found.iter().map(Key::as_str).collect();
    assert_eq!(found, BTreeSet::from(["api:a:1", "api:a:2", "api:b:1"]));
    assert!(listed(&backend, &Pattern::new("none*").unwrap(), 100).is_empty());
    assert_eq!(listed(&backend, &Pattern::everything(), 0).len(), 5);
}

#[test]
fn a_pattern_deletes_what_it_matches_and_says_how_many() {
    let (backend, _) = backend();
    for i in 0..1_500 {
        put(&backend, &Key::with_prefix("a:", &i), "x");
        put(&backend, &Key::with_prefix("b:", &i), "x");
    }
    let pattern = Pattern::new("a:*").unwrap();
    assert_eq!(block_on(backend.delete_pattern(&pattern)).unwrap(), 1_500);
    assert_eq!(block_on(backend.delete_pattern(&pattern)).unwrap(), 0);
    assert_eq!(backend.entries(), 1_500);
}

#[test]
fn a_fill_token_is_placed_once_and_the_next_one_sees_it() {
    let (backend, clock) = backend();
    let key = Key::new("a");
    let place = |token: &'static str| block_on(backend.get_or_set(&key, Bytes::from(token), SECOND)).unwrap();
    assert_eq!(place("one"), None);
    assert_eq!(place("two"), Some(Bytes::from("one")));
    clock.advance(SECOND);
    assert_eq!(place("three"), None);
    let error = block_on(backend.get_or_set(&key, Bytes::from("x"), Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_comparison_changes_only_what_was_expected() {
    let (backend, clock) = backend();
    let key = Key::new("a");
    let expected = Expected::prefix("tok");
    let replace = |options| block_on(backend.compare_and_set(&key, &expected, Bytes::from("new"), options)).unwrap();
    assert_eq!(replace(SetOptions::new()), SetOutcome::Rejected, "an absent key holds nothing");
    put(&backend, &key, "token-7");
    let options = SetOptions::new().ttl(SECOND);
    assert_eq!(replace(options), SetOutcome::Stored);
    assert_eq!(block_on(backend.ttl(&key)).unwrap(), Some(Remaining::For(SECOND)));
    assert_eq!(replace(options), SetOutcome::Rejected);
    let delete = |expected| block_on(backend.compare_and_delete(&key, &expected)).unwrap();
    assert!(!delete(Expected::exactly("ne")));
    assert!(delete(Expected::exactly("new")));
    assert!(!delete(Expected::prefix("")));
    block_on(backend.get_or_set(&key, Bytes::from("token-8"), SECOND)).unwrap();
    clock.advance(SECOND);
    assert_eq!(replace(SetOptions::new()), SetOutcome::Rejected, "an expired one neither");
}

#[test]
fn a_counter_starts_at_zero_and_keeps_its_life() {
    let (backend, clock) = backend();
    let key = Key::new("visits");
    let add = |amount, ttl| block_on(backend.increment(&key, amount, ttl)).unwrap();
    assert_eq!(block_on(backend.count(&key)).unwrap(), None);
    assert_eq!(add(5, Some(10 * SECOND)), 5);
    clock.advance(4 * SECOND);
    assert_eq!(add(-7, Some(100 * SECOND)), -2);
    assert_eq!(block_on(backend.ttl(&key)).unwrap(), Some(Remaining::For(6 * SECOND)));
    assert_eq!(block_on(backend.count(&key)).unwrap(), Some(-2));
    assert_eq!(block_on(backend.get(&key)).unwrap(), Some(Bytes::from("-2")));
    clock.advance(6 * SECOND);
    assert_eq!(add(1, None), 1);
    assert_eq!(block_on(backend.ttl(&key)).unwrap(), Some(Remaining::Forever));
}

#[test]
fn a_count_beyond_the_range_or_on_other_text_is_an_error_and_changes_nothing() {
    let (backend, _) = backend();
    let key = Key::new("c");
    block_on(backend.increment(&key, i64::MAX, None)).unwrap();
    assert_eq!(block_on(backend.increment(&key, 1, None)).unwrap_err().kind(), ErrorKind::Overflow);
    assert_eq!(block_on(backend.count(&key)).unwrap(), Some(i64::MAX));
    put(&backend, &key, "12 apples");
    let error = block_on(backend.increment(&key, 1, None)).unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::KindMismatch, Some(&key)));
    assert_eq!(block_on(backend.count(&key)).unwrap_err().kind(), ErrorKind::KindMismatch);
    assert_eq!(block_on(backend.get(&key)).unwrap(), Some(Bytes::from("12 apples")));
    put(&backend, &key, "41");
    assert_eq!(block_on(backend.increment(&key, 1, None)).unwrap(), 42);
}

#[test]
fn a_lock_belongs_to_its_token_until_the_lease_ends() {
    let (backend, clock) = backend();
    let key = Key::new("lock");
    let acquire = |token| block_on(backend.acquire(&key, token, SECOND)).unwrap();
    let extend = |token| block_on(backend.extend(&key, token, SECOND)).unwrap();
    let release = |token| block_on(backend.release(&key, token)).unwrap();
    assert!(!extend("one") && !release("one"));
    assert!(acquire("one"));
    assert!(acquire("one"), "asking again after a lost answer");
    assert!(!acquire("two") && !extend("two") && !release("two"));
    clock.advance(SECOND / 2);
    assert!(extend("one"));
    clock.advance(SECOND / 2);
    assert!(!acquire("two"), "it was extended");
    clock.advance(SECOND / 2);
    assert!(acquire("two") && !release("one") && release("two"));
    assert!(acquire("three"));
    let error = block_on(backend.acquire(&key, "four", Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}
