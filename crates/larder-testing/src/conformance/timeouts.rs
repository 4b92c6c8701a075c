//! How long written values live.

use std::time::Duration;

use larder_core::{BackendExt, Remaining, SetOptions, SetOutcome};

use super::{Case, LONG, SHORT};

/// Gone for reads, for the question of its life, and for a delete.
pub async fn a_value_is_gone_after_its_life(case: &Case) {
    let (key, lasting) = (case.key("k"), case.key("lasting"));
    case.put(&lasting, "stays", SetOptions::new()).await;
    case.put(&key, "goes", SetOptions::new().ttl(SHORT)).await;
    // In real time it may be gone by now, if the machine is busy with other things.
    assert!(case.get(&key).await.is_none_or(|value| value == "goes"));
    case.expire(&key, SHORT).await;
    assert_eq!(case.backend().get_with_ttl(&key).await.unwrap(), None);
    assert!(!case.backend().exists(&key).await.unwrap());
    assert!(!case.backend().delete(&key).await.unwrap());
    case.assert_value(&lasting, "stays").await;
}

/// An expired key is absent for conditions too, and leaves no life behind.
pub async fn an_expired_key_is_free_again(case: &Case) {
    let key = case.key("k");
    let add = |options: SetOptions| case.backend().set(&key, "v".into(), options.only_if_absent());
    assert_eq!(add(SetOptions::new().ttl(SHORT)).await.unwrap(), SetOutcome::Stored);
    case.expire(&key, SHORT).await;
    let present = SetOptions::new().only_if_present();
    assert_eq!(case.backend().set(&key, "v".into(), present).await.unwrap(), SetOutcome::Rejected);
    assert_eq!(add(SetOptions::new().keep_ttl()).await.unwrap(), SetOutcome::Stored);
    case.assert_forever(&key).await;
}

/// Whether there was nothing, something that expires, or something that does not.
pub async fn a_life_of_zero_stores_nothing_and_removes_what_was_there(case: &Case) {
    let [absent, mortal, lasting] = ["absent", "mortal", "lasting"].map(|name| case.key(name));
    case.put(&mortal, "old", SetOptions::new().ttl(LONG)).await;
    case.put(&lasting, "old", SetOptions::new()).await;
    for key in [&absent, &mortal, &lasting] {
        case.put(key, "new", SetOptions::new().ttl(Duration::ZERO)).await;
        case.assert_absent(key).await;
    }
}

/// A refused write of no life removes nothing.
pub async fn a_life_of_zero_obeys_conditions(case: &Case) {
    let (present, absent) = (case.key("present"), case.key("absent"));
    let zero = SetOptions::new().ttl(Duration::ZERO);
    let set = |key, options| case.backend().set(key, "new".into(), options);
    case.put(&present, "old", SetOptions::new()).await;
    assert_eq!(set(&present, zero.only_if_absent()).await.unwrap(), SetOutcome::Rejected);
    case.assert_value(&present, "old").await;
    case.assert_forever(&present).await;
    assert_eq!(set(&absent, zero.only_if_present()).await.unwrap(), SetOutcome::Rejected);
    assert_eq!(set(&absent, zero.only_if_absent()).await.unwrap(), SetOutcome::Stored);
    case.assert_absent(&absent).await;
    assert_eq!(set(&present, zero.only_if_present()).await.unwrap(), SetOutcome::Stored);
    case.assert_absent(&present).await;
}

/// What was left of a deadline that has passed: durations end at zero.
pub async fn a_life_that_was_counted_down_below_zero_is_zero(case: &Case) {
    let key = case.key("k");
    let left = SHORT.saturating_sub(LONG);
    case.put(&key, "old", SetOptions::new()).await;
    let add = SetOptions::new().ttl(left).only_if_absent();
    assert_eq!(case.backend().set(&key, "new".into(), add).await.unwrap(), SetOutcome::Rejected);
    case.assert_value(&key, "old").await;
    case.put(&key, "new", SetOptions::new().ttl(left)).await;
    case.assert_absent(&key).await;
}

/// Below a millisecond: stored for one, never refused and never for ever.
pub async fn a_tiny_life_is_no_error(case: &Case) {
    for (number, ttl) in
        [Duration::from_nanos(1), Duration::from_micros(10), Duration::from_micros(999)].iter().enumerate()
    {
        let key = case.key(&number);
        case.put(&key, "v", SetOptions::new().ttl(*ttl)).await;
        let found = case.get(&key).await;
        assert!(found.is_none_or(|value| value == "v"));
        case.expire(&key, Duration::from_millis(1)).await;
    }
}

/// Not to the second, and read in the same way as written.
pub async fn lives_are_kept_to_the_millisecond(case: &Case) {
    let key = case.key("k");
    for millis in [30_499, 60_001, 86_400_000] {
        let ttl = Duration::from_millis(millis);
        case.put(&key, "v", SetOptions::new().ttl(ttl)).await;
        case.assert_remaining(&key, ttl).await;
        let found = case.backend().get_with_ttl(&key).await.unwrap().unwrap();
        assert_eq!(found.value, "v");
        case.assert_is_left(found.remaining, ttl);
    }
}

/// The longest duration there is, and one that a server's arithmetic would overflow at.
pub async fn an_endless_life_does_not_expire(case: &Case) {
    for (number, ttl) in [Duration::MAX, Duration::from_millis(u64::MAX)].into_iter().enumerate() {
        let key = case.key(&number);
        case.put(&key, "v", SetOptions::new().ttl(ttl)).await;
        case.assert_value(&key, "v").await;
        let found = case.backend().get_with_ttl(&key).await.unwrap().unwrap();
        assert_eq!(found.remaining, Some(Remaining::Forever));
        case.assert_forever(&key).await;
    }
}
