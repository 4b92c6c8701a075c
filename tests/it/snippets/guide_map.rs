use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use larder::{Cache, ManualClock, cached};

#[larder::test]
async fn set_then_get(cache: Cache) {
    cache.set("test_key", "test_value".to_owned()).ttl(Duration::from_secs(60)).await;
    assert_eq!(cache.get("test_key").await, Some(Arc::new("test_value".to_owned())));
}

#[larder::test]
async fn a_value_expires(cache: Cache, clock: ManualClock) {
    cache.set("test_key", "test_value".to_owned()).ttl(Duration::from_secs(1)).await;
    assert!(cache.get::<_, String>("test_key").await.is_some());
    clock.advance(Duration::from_secs(2));
    assert!(cache.get::<_, String>("test_key").await.is_none());
}

static CALLS: AtomicU32 = AtomicU32::new(0);

#[cached(ttl = "60s", region = "test")]
async fn expensive_function(x: u32) -> u32 {
    CALLS.fetch_add(1, Ordering::SeqCst);
    x * 2
}

#[larder::test]
async fn a_cached_function_is_called_once() {
    assert_eq!(expensive_function(5).await, 10);
    assert_eq!(expensive_function(5).await, 10);
    assert_eq!(CALLS.load(Ordering::SeqCst), 1);
}
