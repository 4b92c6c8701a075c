//! Lives that are changed without the value.

use std::time::Duration;

use larder_core::{BackendExt, Expiry, SetOptions, UnixMillis};

use super::{Case, LONG, SHORT};

async fn change(case: &Case, key: &larder_core::Key, expiry: Expiry) -> bool {
    case.backend().expire(key, expiry).await.unwrap()
}

/// The three answers to the question how long a key lives.
pub async fn a_key_without_a_life_stays_and_an_absent_one_has_none(case: &Case) {
    let key = case.key("k");
    assert_eq!(case.remaining(&key).await, None);
    assert!(!case.backend().exists(&key).await.unwrap());
    case.put(&key, "v", SetOptions::new()).await;
    case.assert_forever(&key).await;
    assert!(case.backend().exists(&key).await.unwrap());
    case.put(&key, "v", SetOptions::new().ttl(LONG)).await;
    case.assert_remaining(&key, LONG).await;
}

/// To a key without one, then longer, then shorter, then without an end; the value stays.
pub async fn a_life_can_be_given_and_replaced(case: &Case) {
    let key = case.key("k");
    case.put(&key, "v", SetOptions::new()).await;
    for ttl in [LONG, LONG * 10, LONG / 2, Duration::from_millis(12_345)] {
        assert!(change(case, &key, Expiry::After(ttl)).await);
        case.assert_remaining(&key, ttl).await;
        case.assert_value(&key, "v").await;
    }
    assert!(change(case, &key, Expiry::After(Duration::MAX)).await);
    case.assert_forever(&key).await;
}

/// The new end counts, not the old one.
pub async fn a_key_whose_life_was_shortened_expires(case: &Case) {
    let key = case.key("k");
    case.put(&key, "v", SetOptions::new().ttl(LONG)).await;
    assert!(change(case, &key, Expiry::After(SHORT)).await);
    case.expire(&key, SHORT).await;
}

/// By the wall clock.
pub async fn a_key_can_expire_at_a_time(case: &Case) {
    let key = case.key("k");
    case.put(&key, "v", SetOptions::new()).await;
    assert!(change(case, &key, Expiry::At(case.wall() + LONG)).await);
    case.assert_remaining(&key, LONG).await;
    case.assert_value(&key, "v").await;
    assert!(change(case, &key, Expiry::At(case.wall() + SHORT)).await);
    case.expire(&key, SHORT).await;
}

/// The answer is that the key was there.
pub async fn a_past_time_removes_the_key(case: &Case) {
    let hour_ago = UnixMillis(case.wall().0 - 3_600_000);
    for (number, time) in [hour_ago, UnixMillis(1), UnixMillis(0)].into_iter().enumerate() {
        let key = case.key(&number);
        case.put(&key, "v", SetOptions::new()).await;
        assert!(change(case, &key, Expiry::At(time)).await, "{time}");
        case.assert_absent(&key).await;
        assert!(!change(case, &key, Expiry::At(time)).await, "{time}");
    }
}

/// The answer is that the key was there.
pub async fn a_life_of_zero_removes_the_key(case: &Case) {
    let key = case.key("k");
    for options in [SetOptions::new(), SetOptions::new().ttl(LONG)] {
        case.put(&key, "v", options).await;
        assert!(change(case, &key, Expiry::After(Duration::ZERO)).await);
        case.assert_absent(&key).await;
        assert!(!change(case, &key, Expiry::After(Duration::ZERO)).await);
    }
}

/// Also from a key that has none: the answer is whether the key is there.
pub async fn a_life_can_be_taken_away(case: &Case) {
    let key = case.key("k");
    // Long enough that the key is still there when its life is taken away, whatever else the machine does.
    case.put(&key, "v", SetOptions::new().ttl(LONG)).await;
    assert!(change(case, &key, Expiry::Never).await);
    case.assert_forever(&key).await;
    assert!(change(case, &key, Expiry::Never).await);
    case.let_short_pass().await;
    case.assert_value(&key, "v").await;
    assert!(change(case, &key, Expiry::At(UnixMillis::FOREVER)).await);
    case.assert_forever(&key).await;
}

/// And does not bring it into being.
pub async fn changing_the_life_of_an_absent_key_answers_false(case: &Case) {
    let key = case.key("k");
    let later = Expiry::At(case.wall() + LONG);
    let past = Expiry::At(UnixMillis(1));
    for expiry in [Expiry::After(LONG), Expiry::After(Duration::ZERO), later, past, Expiry::Never] {
        assert!(!change(case, &key, expiry).await, "{expiry:?}");
        case.assert_absent(&key).await;
    }
}
