use std::{sync::Arc, time::Duration};

use larder::{Cache, ErrorKind, ManualClock, Remaining, codec::Json};

const SECOND: Duration = Duration::from_secs(1);

#[larder::test]
async fn a_value_is_there_until_its_ttl_ends(cache: Cache, clock: ManualClock) {
    assert!(cache.set("k", 5_u32).ttl(SECOND * 10).await);
    clock.advance(SECOND * 9);
    assert_eq!(cache.get("k").await, Some(Arc::new(5_u32)));
    clock.advance(SECOND);
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[larder::test]
async fn a_default_stands_in_for_what_is_not_there(cache: Cache) {
    assert_eq!(*cache.get("k").or(7).await, 7);
}

#[larder::test]
async fn add_and_only_if_present_respect_what_is_there(cache: Cache) {
    assert!(!cache.set("k", 1).only_if_present().await);
    assert!(cache.add("k", 1).await);
    assert!(!cache.add("k", 2).await);
    assert!(cache.set("k", 3).only_if_present().await);
    assert_eq!(cache.get("k").await, Some(Arc::new(3)));
}

#[larder::test]
async fn a_ttl_can_be_read_changed_kept_and_removed(cache: Cache, clock: ManualClock) {
    assert_eq!(cache.ttl("k").await, None);
    cache.set("k", 1).ttl(SECOND * 10).await;
    clock.advance(SECOND * 4);
    assert_eq!(cache.ttl("k").await, Some(Remaining::For(SECOND * 6)));
    cache.set("k", 2).keep_ttl().await;
    assert_eq!(cache.ttl("k").await, Some(Remaining::For(SECOND * 6)));
    assert!(cache.expire("k", SECOND * 100).await.unwrap());
    assert_eq!(cache.ttl("k").await, Some(Remaining::For(SECOND * 100)));
    assert!(cache.persist("k").await.unwrap());
    assert_eq!(cache.ttl("k").await, Some(Remaining::Forever));
    assert!(cache.touch("k").await.unwrap());
    assert!(cache.exists("k").await);
    assert!(cache.expire("k", Duration::ZERO).await.unwrap());
    assert!(!cache.exists("k").await);
    assert!(!cache.expire("k", SECOND).await.unwrap());
}

#[larder::test]
async fn odd_durations_mean_what_they_say(cache: Cache, clock: ManualClock) {
    cache.set("zero", 1).await;
    cache.set("zero", 2).ttl(Duration::ZERO).await;
    assert_eq!(cache.get::<_, i32>("zero").await, None);
    cache.set("tiny", 1).ttl(Duration::from_nanos(1)).await;
    cache.set("endless", 1).ttl(Duration::MAX).await;
    clock.advance(SECOND * 1_000_000_000);
    assert_eq!(cache.get("endless").await, Some(Arc::new(1)));
    assert_eq!(cache.get::<_, i32>("tiny").await, None);
}

#[larder::test]
async fn a_prefix_is_a_cache_of_its_own(cache: Cache) {
    let custom = cache.prefix("custom");
    custom.set("user:1", 1).await;
    cache.set("user:1", 2).await;
    assert_eq!(custom.get("user:1").await, Some(Arc::new(1)));
    assert_eq!(cache.get("custom:user:1").await, Some(Arc::new(1)));
    custom.delete_pattern("user:*").await.unwrap();
    assert_eq!(custom.get::<_, i32>("user:1").await, None);
    assert_eq!(cache.get("user:1").await, Some(Arc::new(2)));
}

#[larder::test]
async fn patterns_touch_what_they_name_and_stars_in_keys_are_characters(cache: Cache) {
    for key in ["user:1", "user:*", "order:1"] {
        cache.set(key, 1).await;
    }
    cache.delete_pattern(r"user:\*").await.unwrap();
    assert_eq!(cache.get::<_, i32>("user:*").await, None);
    assert!(cache.get::<_, i32>("user:1").await.is_some());
    assert_eq!(cache.delete_pattern("user:*").await.unwrap().near, 1);
    assert!(cache.get::<_, i32>("order:1").await.is_some());
    assert_eq!(cache.delete_pattern("*").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[larder::test]
async fn clearing_empties_the_namespace_of_all_but_counters(cache: Cache) {
    cache.set("a", 1).await;
    cache.increment("n", 1).await.unwrap();
    cache.clear().await.unwrap();
    assert!(!cache.exists("a").await);
    assert_eq!(cache.counter("n").await.unwrap(), Some(1));
}

#[larder::test]
async fn counters_count_and_refuse_to_overflow(cache: Cache) {
    assert_eq!(cache.increment("calls", 1).await.unwrap(), 1);
    assert_eq!(cache.increment("calls", -5).await.unwrap(), -4);
    assert_eq!(cache.counter("calls").await.unwrap(), Some(-4));
    cache.increment("big", i64::MAX).await.unwrap();
    assert_eq!(cache.increment("big", 1).await.unwrap_err().kind(), ErrorKind::Overflow);
}

#[larder::test]
async fn many_values_are_read_in_the_order_of_their_keys(cache: Cache) {
    assert_eq!(cache.set_many([("a", 1), ("c", 3)], None).await, 2);
    let found = cache.get_many::<_, i32>(&["c", "b", "a"]).await;
    assert_eq!(found, [Some(Arc::new(3)), None, Some(Arc::new(1))]);
    assert_eq!(cache.delete_many(["a", "b", "c"]).await.unwrap(), 2);
}

#[larder::test]
async fn raw_bytes_and_values_do_not_mix(cache: Cache) {
    cache.set_raw("raw", &b"\x00\xff"[..]).await;
    assert_eq!(cache.raw().get("raw").await.unwrap(), &b"\x00\xff"[..]);
    assert_eq!(cache.get::<_, String>("raw").await, None);
    assert_eq!(cache.stats().wrong_type, 1);
    assert!(cache.raw().get("raw").await.is_some());
}

#[larder::test]
async fn a_value_read_as_another_type_is_a_counted_miss_that_replaces_nothing(cache: Cache) {
    cache.set("k", 1_u8).codec(Json).await;
    assert_eq!(cache.get::<_, String>("k").await, None);
    assert_eq!(cache.get("k").await, Some(Arc::new(1_u8)));
    let stats = cache.stats();
    assert_eq!((stats.wrong_type, stats.requests(), stats.misses), (1, 2, 1));
}

#[larder::test]
async fn statistics_add_up_and_print_as_a_table(cache: Cache) {
    cache.set("k", 1).await;
    for _ in 0..3 {
        cache.get::<_, i32>("k").await;
    }
    cache.get::<_, i32>("absent").await;
    cache.delete("k").await;
    let stats = cache.stats();
    assert_eq!((stats.hits(), stats.misses, stats.sets, stats.deletes), (3, 1, 1, 1));
    assert_eq!(stats.hit_rate(), Some(0.75));
    assert!(stats.to_string().contains("75.00%"), "{stats}");
    cache.clear_stats();
    assert_eq!(cache.stats().requests(), 0);
}

#[larder::test]
async fn a_region_is_typed_and_has_figures_of_its_own(cache: Cache) {
    let users = cache.region::<u64, String>("users").ttl(SECOND * 5).build().unwrap();
    users.set(&7, "Ann".to_owned()).await;
    assert_eq!(users.get(&7).await.as_deref().map(String::as_str), Some("Ann"));
    assert_eq!(users.key(&7).as_str(), "larder:users:7");
    let other = cache.region::<u64, String>("orders").build().unwrap();
    assert_eq!(other.get(&7).await, None);
    assert_eq!((users.info().hits(), users.info().entries), (1, 1));
    assert_eq!(other.info().misses(), 1);
    assert!(users.delete(&7).await.unwrap());
    assert!(cache.region::<u64, u8>("").build().is_err());
}

#[larder::test]
async fn a_disabled_cache_stores_nothing_and_loads_every_time() {
    let cache = Cache::disabled();
    assert!(!cache.set("k", 1).await);
    for _ in 0..2 {
        assert_eq!(*cache.get_or_load("k", || async { Ok::<_, ()>(2) }).await.unwrap(), 2);
    }
    assert_eq!(cache.get::<_, i32>("k").await, None);
    cache.set_enabled(true);
    assert!(cache.set("k", 1).await);
}

#[tokio::test]
async fn wrong_settings_are_named() {
    for (wrong, field) in [
        (Cache::builder().namespace(""), "namespace"),
        (Cache::builder().namespace("a:"), "namespace"),
        (Cache::builder().near_bytes(1), "near_bytes"),
        (Cache::builder().warn_below_hit_rate(80.0), "warn_below_hit_rate"),
        (Cache::builder().default_ttl(Duration::ZERO), "ttl"),
    ] {
        let error = wrong.build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(field), "{error}");
    }
}

#[larder::test]
async fn an_explanation_says_what_a_read_would_do(cache: Cache, clock: ManualClock) {
    cache.set("k", 1).ttl(SECOND).tag("t").await;
    let there = cache.explain("k").await.unwrap();
    assert_eq!(there.verdict, "a near hit");
    assert_eq!(there.near.unwrap().tags, ["t"]);
    clock.advance(SECOND * 2);
    assert!(cache.explain("k").await.unwrap().verdict.starts_with("a miss"));
    assert_eq!(cache.explain("other").await.unwrap().verdict, "a miss: it is in neither tier");
    assert_eq!(cache.stats().requests(), 0);
}

#[tokio::test]
async fn prefixes_and_regions_of_a_handle_lie_below_its_own() {
    let cache = Cache::in_memory();
    let (outer, inner) = (cache.prefix("api"), cache.prefix("api").prefix("binance"));
    assert!(inner.set("k", 1_u32).await);
    assert_eq!(cache.get::<_, u32>("api:binance:k").await.as_deref(), Some(&1));
    assert_eq!(outer.get::<_, u32>("binance:k").await.as_deref(), Some(&1));
    assert_eq!(cache.get::<_, u32>("binance:k").await, None);
    let region = outer.region::<str, u32>("binance").build().unwrap();
    assert_eq!(region.get("k").await.as_deref(), Some(&1));
    outer.clear().await.unwrap();
    assert_eq!(inner.get::<_, u32>("k").await, None);
}
