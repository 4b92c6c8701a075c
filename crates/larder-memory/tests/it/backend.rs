//! The memory backend: deadlines, conditions, bounds, settings.

use std::{sync::Arc, time::Duration};

use futures_executor::{block_on, block_on_stream};
use larder_core::{
    Backend, BackendExt, Bytes, ErrorKind, Expiry, GetOptions, Inspect, Key, Pattern, Remaining, Scan, SetItem,
    SetOptions, SetOutcome, UnixMillis,
};
use larder_memory::MemoryBackend;

use crate::clock::{START, backend};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn key(name: &str) -> Key {
    Key::new(name)
}

fn set(backend: &MemoryBackend, name: &str, value: &'static str, options: SetOptions) -> SetOutcome {
    block_on(backend.set(&key(name), Bytes::from(value), options)).expect("a value that is allowed")
}

fn get(backend: &MemoryBackend, name: &str) -> Option<Bytes> {
    block_on(backend.get(&key(name))).expect("memory does not fail")
}

fn ttl(backend: &MemoryBackend, name: &str) -> Option<Remaining> {
    block_on(backend.ttl(&key(name))).expect("memory does not fail")
}

#[test]
fn a_value_lives_to_its_deadline_and_not_a_nanosecond_longer() {
    let (backend, clock) = backend();
    set(&backend, "a", "1", SetOptions::new().ttl(SECOND));
    clock.advance(SECOND - NANO);
    assert_eq!(get(&backend, "a"), Some(Bytes::from("1")));
    clock.advance(NANO);
    assert_eq!(get(&backend, "a"), None);
    assert_eq!(ttl(&backend, "a"), None);
    assert!(!block_on(backend.delete(&key("a"))).unwrap());
}

#[test]
fn a_zero_ttl_stores_nothing_and_removes_what_was_there() {
    let (backend, _) = backend();
    set(&backend, "a", "1", SetOptions::new());
    assert_eq!(set(&backend, "a", "2", SetOptions::new().ttl(Duration::ZERO)), SetOutcome::Stored);
    assert_eq!(get(&backend, "a"), None);
    set(&backend, "b", "1", SetOptions::new());
    let refused = SetOptions::new().ttl(Duration::ZERO).only_if_absent();
    assert_eq!(set(&backend, "b", "2", refused), SetOutcome::Rejected);
    assert_eq!(get(&backend, "b"), Some(Bytes::from("1")));
}

#[test]
fn a_tiny_ttl_lives_for_a_millisecond() {
    let (backend, clock) = backend();
    set(&backend, "a", "1", SetOptions::new().ttl(NANO));
    clock.advance(Duration::from_micros(999));
    assert!(get(&backend, "a").is_some());
    clock.advance(Duration::from_micros(1));
    assert!(get(&backend, "a").is_none());
}

#[test]
fn keeping_the_ttl_keeps_the_deadline_and_not_the_length() {
    let (backend, clock) = backend();
    set(&backend, "a", "1", SetOptions::new().ttl(10 * SECOND));
    clock.advance(4 * SECOND);
    set(&backend, "a", "2", SetOptions::new().keep_ttl());
    assert_eq!(ttl(&backend, "a"), Some(Remaining::For(6 * SECOND)));
    set(&backend, "new", "1", SetOptions::new().keep_ttl());
    assert_eq!(ttl(&backend, "new"), Some(Remaining::Forever));
    set(&backend, "a", "3", SetOptions::new());
    assert_eq!(ttl(&backend, "a"), Some(Remaining::Forever));
}

#[test]
fn a_value_that_is_written_again_gets_its_own_ttl_and_not_what_remained() {
    let (backend, clock) = backend();
    set(&backend, "a", "1", SetOptions::new().ttl(SECOND));
    clock.advance(SECOND / 2);
    set(&backend, "a", "2", SetOptions::new().ttl(SECOND));
    assert_eq!(ttl(&backend, "a"), Some(Remaining::For(SECOND)));
    clock.advance(SECOND - NANO);
    assert_eq!(get(&backend, "a"), Some(Bytes::from("2")));
    set(&backend, "a", "3", SetOptions::new());
    clock.advance(SECOND * 3600);
    assert_eq!(get(&backend, "a"), Some(Bytes::from("3")));
}

#[test]
fn an_expired_value_counts_as_absent_for_every_condition() {
    let (backend, clock) = backend();
    set(&backend, "a", "old", SetOptions::new().ttl(SECOND));
    clock.advance(SECOND);
    assert_eq!(set(&backend, "a", "x", SetOptions::new().only_if_present()), SetOutcome::Rejected);
    assert_eq!(set(&backend, "a", "new", SetOptions::new().only_if_absent().keep_ttl()), SetOutcome::Stored);
    assert_eq!(get(&backend, "a"), Some(Bytes::from("new")));
    assert_eq!(ttl(&backend, "a"), Some(Remaining::Forever));
}

#[test]
fn expiry_moves_by_duration_by_wall_time_and_to_never() {
    let (backend, clock) = backend();
    let expire = |name, expiry| block_on(backend.expire(&key(name), expiry)).unwrap();
    set(&backend, "a", "1", SetOptions::new());
    assert!(expire("a", Expiry::After(5 * SECOND)));
    assert_eq!(ttl(&backend, "a"), Some(Remaining::For(5 * SECOND)));
    clock.advance(SECOND);
    assert!(expire("a", Expiry::At(UnixMillis(START + 3_000))));
    assert_eq!(ttl(&backend, "a"), Some(Remaining::For(2 * SECOND)));
    assert!(expire("a", Expiry::Never));
    assert_eq!(ttl(&backend, "a"), Some(Remaining::Forever));
    assert!(expire("a", Expiry::At(UnixMillis(START))));
    assert_eq!(get(&backend, "a"), None);
    assert!(!expire("a", Expiry::After(SECOND)));
}

#[test]
fn an_extended_life_survives_the_deadline_that_was_recorded_first() {
    let (backend, clock) = backend();
    set(&backend, "a", "1", SetOptions::new().ttl(SECOND));
    block_on(backend.expire(&key("a"), Expiry::After(10 * SECOND))).unwrap();
    clock.advance(2 * SECOND);
    assert_eq!(backend.upkeep(), 0);
    assert!(get(&backend, "a").is_some());
}

#[test]
fn a_batch_is_answered_in_its_order_with_an_error_for_the_refused_value_alone() {
    let (backend, _) = backend();
    let large = Bytes::from(vec![0; 300 << 10]);
    let items = [
        SetItem::new(key("a"), "1", SetOptions::new()),
        SetItem::new(key("large"), large, SetOptions::new()),
        SetItem::new(key("a"), "2", SetOptions::new().ttl(SECOND)),
    ];
    let answers = block_on(backend.set_many(&items));
    assert_eq!(answers[0].as_ref().unwrap(), &SetOutcome::Stored);
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::TooLarge, Some(&key("large"))));
    assert!(error.message().contains("max_value_bytes"), "{error}");
    assert!(answers[2].is_ok());
    let found = block_on(backend.get_many(&[key("a"), key("none"), key("a")], GetOptions::new().with_ttl()));
    let found: Vec<_> = found.into_iter().map(|answer| answer.unwrap()).collect();
    assert_eq!(found[0], found[2]);
    assert_eq!(found[1], None);
    assert_eq!(found[0].as_ref().unwrap().value, "2");
    assert_eq!(found[0].as_ref().unwrap().remaining, Some(Remaining::For(SECOND)));
}

#[test]
fn the_bytes_stay_within_the_bound_and_the_newest_are_kept() {
    let (backend, _) = backend();
    for i in 0..4_000 {
        let outcome = block_on(backend.set(&Key::new(&i), Bytes::from(vec![7; 1_000]), SetOptions::new()));
        assert_eq!(outcome.unwrap(), SetOutcome::Stored);
        assert!(get(&backend, &i.to_string()).is_some(), "what was just written is there");
    }
    assert!(backend.bytes() <= 1 << 20);
    assert!(backend.entries() > 500);
    let figures = block_on(backend.server_figures()).unwrap();
    assert_eq!(figures.evicted.unwrap() + figures.keys.unwrap(), 4_000);
    assert!(get(&backend, "3999").is_some() && get(&backend, "0").is_none());
}

#[test]
fn a_burst_of_large_values_exceeds_the_bound_by_an_eighth_at_most() {
    let (backend, _) = backend();
    for i in 0..100 {
        block_on(backend.set(&Key::new(&i), Bytes::from(vec![7; 100 << 10]), SetOptions::new())).unwrap();
    }
    // A scan looks without settling anything.
    let held: usize =
        block_on_stream(backend.scan(&Pattern::everything(), 1_000)).map(|keys| keys.unwrap().len()).sum();
    assert!((8..=12).contains(&held), "{held} values of 100 KiB are held in 1 MiB");
}

#[test]
fn writing_gives_back_what_has_expired_without_being_asked() {
    let (backend, clock) = backend();
    for i in 0..500 {
        let options = SetOptions::new().ttl(SECOND);
        block_on(backend.set(&Key::new(&i), Bytes::from_static(b"x"), options)).unwrap();
    }
    clock.advance(SECOND);
    for _ in 0..1_024 {
        set(&backend, "other", "1", SetOptions::new());
    }
    assert_eq!(backend.upkeep(), 0, "nothing was left to remove");
    assert_eq!(backend.entries(), 1);
    assert_eq!(block_on(backend.server_figures()).unwrap().expired, Some(500));
}

#[test]
fn rewriting_a_key_and_changing_its_ttl_for_ever_takes_no_more_memory() {
    let (backend, _) = backend();
    for i in 0..5_000 {
        set(&backend, "a", "1", SetOptions::new().ttl(SECOND + SECOND * i));
    }
    assert_eq!(backend.entries(), 1);
    assert!(backend.bytes() < 1_000);
}

#[test]
fn hits_and_misses_are_counted() {
    let (backend, _) = backend();
    set(&backend, "a", "1", SetOptions::new());
    get(&backend, "a");
    get(&backend, "a");
    get(&backend, "b");
    let figures = block_on(backend.server_figures()).unwrap();
    assert_eq!((figures.hits, figures.misses), (Some(2), Some(1)));
    assert_eq!(figures.max_bytes, Some(1 << 20));
}

#[test]
fn a_stored_value_does_not_keep_the_buffer_alive_that_it_was_cut_from() {
    let (backend, _) = backend();
    let buffer = Arc::new(vec![1_u8; 1 << 20]);
    let weak = Arc::downgrade(&buffer);
    struct Owner(Arc<Vec<u8>>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let slice = Bytes::from_owner(Owner(buffer)).slice(..10);
    block_on(backend.set(&key("a"), slice, SetOptions::new())).unwrap();
    assert!(weak.upgrade().is_none());
    assert_eq!(get(&backend, "a"), Some(Bytes::from(vec![1; 10])));
}

#[test]
fn clearing_removes_everything() {
    let (backend, _) = backend();
    for i in 0..100 {
        block_on(backend.set(&Key::new(&i), Bytes::from_static(b"x"), SetOptions::new().ttl(SECOND))).unwrap();
    }
    backend.clear();
    assert_eq!((backend.entries(), backend.bytes()), (0, 0));
    assert!(get(&backend, "7").is_none());
}

#[test]
fn a_wrong_setting_is_refused_by_name() {
    let refused = |builder: larder_memory::MemoryBackendBuilder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let builder = MemoryBackend::builder;
    assert!(refused(builder().max_bytes(1_000)).contains("`max_bytes`"));
    assert!(refused(builder().max_value_bytes(0)).contains("`max_value_bytes`"));
    assert!(refused(builder().max_bytes(1 << 20).max_value_bytes(2 << 20)).contains("from 1 to 1048576"));
}

#[test]
fn an_entry_whose_key_does_not_fit_is_refused_and_not_silently_dropped() {
    let backend = MemoryBackend::builder().max_bytes(64 << 10).max_value_bytes(64 << 10).build().unwrap();
    let error = block_on(backend.set(&key("a"), Bytes::from(vec![0; 64 << 10]), SetOptions::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("`max_bytes`"));
}
