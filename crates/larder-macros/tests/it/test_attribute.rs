//! `#[larder::test]` itself.

use larder::{Cache, ManualClock};

#[larder::test]
async fn a_test_may_return_a_result() -> Result<(), larder::Error> {
    larder::current().try_set("key", 1).await?;
    Ok(())
}

#[larder::test]
async fn arguments_are_told_apart_by_their_types(clock: ManualClock, cache: Cache) {
    clock.advance(std::time::Duration::from_secs(1));
    cache.set("key", 1).await;
    assert!(larder::current().get::<_, i32>("key").await.is_some(), "the test's cache is the current one");
}

#[larder::test]
#[should_panic(expected = "on purpose")]
async fn a_test_may_be_meant_to_panic() {
    panic!("on purpose");
}
