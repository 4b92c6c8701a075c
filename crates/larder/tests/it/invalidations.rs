//! What callers see of invalidations: progress, what becomes of one that is dropped, and how many tags there may be.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use larder::{Cache, ErrorKind, Loaded, ManualClock, Set, Status, TrySet};
use larder_core::{MAX_TAGS, SCAN_PAGE};
use larder_testing::{FaultyBackend, ModelBackend};

/// More than two pages of a scan.
const KEYS: u64 = 2 * SCAN_PAGE as u64 + 10;

/// A cache on a store that can be made to fail, with keys in it.
async fn filled() -> (Cache, Arc<FaultyBackend>) {
    let clock = ManualClock::new();
    let backend = Arc::new(FaultyBackend::new(Arc::new(ModelBackend::new(Arc::new(clock.clone())))));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
    let cache = builder.build().await.unwrap();
    clock.settle().await;
    let items = (0..KEYS).map(|number| (format!("report:{number}"), number));
    assert_eq!(cache.set_many(items, Some(Duration::from_secs(60))).await as u64, KEYS);
    (cache, backend)
}

#[tokio::test]
async fn a_long_run_tells_how_far_it_has_come() {
    let (cache, _) = filled().await;
    cache.set("kept", 1_u64).await;
    let mut steps = Vec::new();
    let invalidate = cache.invalidate().key("none").pattern("report:*").on_progress(|step| {
        steps.push((
            step.done,
            step.scanned.pages,
            step.scanned.looked_at,
            step.scanned.removed,
            step.result.is_some(),
        ));
    });
    let invalidated = invalidate.await.unwrap();
    assert_eq!((invalidated.near, invalidated.remote, invalidated.status), (KEYS, KEYS, Status::Done));
    assert_eq!(steps[0], (1, 0, 0, 0, true), "a key needs no scan");
    let pages = steps.len() as u64 - 2;
    assert!(pages > 2);
    assert!(steps[1..].is_sorted());
    assert_eq!(*steps.last().unwrap(), (2, pages, KEYS, KEYS, true));
    assert!(cache.get::<_, u64>("kept").await.is_some());
}

#[tokio::test]
async fn a_run_that_is_dropped_stops_between_two_pages_and_leaves_nothing_near() {
    let (cache, backend) = filled().await;
    let stalled = backend.clone();
    // After the first page the store answers no more.
    let invalidate = cache.invalidate().pattern("report:*").on_progress(move |_| stalled.hang()).into_future();
    let Either::Right(((), invalidate)) = select(invalidate, Box::pin(backend.until_stuck(1))).await else {
        panic!("it has ended");
    };
    drop(invalidate);
    backend.heal();
    let left = cache.invalidate().pattern("report:*").dry_run().await.unwrap().counted_keys();
    assert!(0 < left && left < KEYS, "{left} of {KEYS} are left");
    for number in 0..KEYS {
        assert!(cache.near().get::<_, u64>(format!("report:{number}")).await.is_none());
    }
    let rest = cache.invalidate().pattern("report:*").await.unwrap();
    assert_eq!(rest.remote, left, "asking again does the rest");
}

#[tokio::test]
async fn invalidating_a_tag_costs_the_same_whatever_the_number_of_its_entries() {
    let (cache, backend) = filled().await;
    let mut costs = Vec::new();
    for entries in [20, 2000] {
        for entry in 0..entries {
            assert!(cache.set(("tagged", entry), 1_u32).tag("t").await);
        }
        backend.reset_calls();
        let invalidated = cache.invalidate().tag("t").await.unwrap();
        costs.push((backend.calls(), invalidated.remote));
        assert_eq!(cache.get::<_, u32>(("tagged", entries - 1)).await, None);
    }
    assert_eq!(costs[0], costs[1]);
}

fn tags(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("tag:{number}")).collect()
}

#[larder::test]
async fn an_entry_carries_64_tags_and_one_more_is_refused_with_key_and_number(cache: Cache) {
    let set = |count: usize| tags(count).into_iter().fold(cache.try_set("k", 1_u32), TrySet::tag);
    assert!(set(MAX_TAGS).await.unwrap().is_stored());
    cache.invalidate().tag("tag:63").await.unwrap();
    assert_eq!(cache.get::<_, u32>("k").await, None);

    let error = set(MAX_TAGS + 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let message = error.to_string();
    assert!(message.contains("65") && message.contains("64") && message.contains(":k"), "{message}");
    let set = tags(MAX_TAGS + 1).into_iter().fold(cache.set("k", 1_u32), Set::tag);
    assert!(!set.await);
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[larder::test]
async fn a_loaded_value_with_65_tags_is_returned_and_not_stored(cache: Cache) {
    for count in [MAX_TAGS, MAX_TAGS + 1] {
        let load =
            move || async move { Ok::<_, ()>(tags(count - 1).into_iter().fold(Loaded::new(1_u32), Loaded::tag)) };
        assert_eq!(*cache.get_or_load_with("k", load).tag("early").await.unwrap(), 1);
        assert_eq!(cache.get::<_, u32>("k").await.is_some(), count == MAX_TAGS);
        cache.delete("k").await;
    }
}
