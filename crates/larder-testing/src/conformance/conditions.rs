//! Writes that depend on whether the key is there, and what they do to its life.

use larder_core::{BackendExt, SetItem, SetOptions, SetOutcome};

use super::{Case, LONG};

/// The second such write is refused; after a delete it works again.
pub async fn only_if_absent_stores_once_and_again_after_a_delete(case: &Case) {
    let key = case.key("k");
    let add = |value: &'static str| case.backend().set(&key, value.into(), SetOptions::new().only_if_absent());
    assert_eq!(add("first").await.unwrap(), SetOutcome::Stored);
    assert_eq!(add("second").await.unwrap(), SetOutcome::Rejected);
    case.assert_value(&key, "first").await;
    assert!(case.backend().delete(&key).await.unwrap());
    assert_eq!(add("third").await.unwrap(), SetOutcome::Stored);
    case.assert_value(&key, "third").await;
}

/// A refused write touches neither the value nor how long it lives.
pub async fn a_refused_write_leaves_value_and_life(case: &Case) {
    let (mortal, lasting) = (case.key("mortal"), case.key("lasting"));
    case.put(&mortal, "old", SetOptions::new().ttl(LONG)).await;
    case.put(&lasting, "old", SetOptions::new()).await;
    for key in [&mortal, &lasting] {
        for options in [SetOptions::new().only_if_absent().ttl(LONG * 10), SetOptions::new().only_if_absent()] {
            assert_eq!(case.backend().set(key, "new".into(), options).await.unwrap(), SetOutcome::Rejected);
        }
        case.assert_value(key, "old").await;
    }
    case.assert_remaining(&mortal, LONG).await;
    case.assert_forever(&lasting).await;
}

/// Refused while the key is absent; afterwards an ordinary write.
pub async fn only_if_present_writes_over_a_value_and_creates_none(case: &Case) {
    let key = case.key("k");
    let options = SetOptions::new().only_if_present();
    assert_eq!(case.backend().set(&key, "a".into(), options).await.unwrap(), SetOutcome::Rejected);
    case.assert_absent(&key).await;
    case.put(&key, "b", SetOptions::new()).await;
    case.put(&key, "c", options.ttl(LONG)).await;
    case.assert_value(&key, "c").await;
    case.assert_remaining(&key, LONG).await;
    case.put(&key, "d", options).await;
    case.assert_value(&key, "d").await;
    case.assert_forever(&key).await;
}

/// A write without a TTL makes the key lasting, one with another TTL replaces it.
pub async fn a_plain_write_discards_the_old_life(case: &Case) {
    let key = case.key("k");
    case.put(&key, "a", SetOptions::new().ttl(LONG)).await;
    case.put(&key, "b", SetOptions::new().ttl(LONG * 10)).await;
    case.assert_remaining(&key, LONG * 10).await;
    case.put(&key, "c", SetOptions::new()).await;
    case.assert_forever(&key).await;
}

/// `Keep` leaves the old value's end where it was, and where there was none, none.
pub async fn keeping_the_life_keeps_it_and_starts_none(case: &Case) {
    let (mortal, lasting, new) = (case.key("mortal"), case.key("lasting"), case.key("new"));
    let keep = SetOptions::new().keep_ttl();
    case.put(&mortal, "a", SetOptions::new().ttl(LONG)).await;
    case.put(&lasting, "a", SetOptions::new()).await;
    for key in [&mortal, &lasting, &new] {
        case.put(key, "b", keep).await;
        case.assert_value(key, "b").await;
    }
    case.assert_remaining(&mortal, LONG).await;
    case.assert_forever(&lasting).await;
    case.assert_forever(&new).await;
    case.put(&mortal, "c", keep.only_if_present()).await;
    case.assert_value(&mortal, "c").await;
    case.assert_remaining(&mortal, LONG).await;
    assert_eq!(case.backend().set(&mortal, "d".into(), keep.only_if_absent()).await.unwrap(), SetOutcome::Rejected);
    case.assert_value(&mortal, "c").await;
}

/// One refused write does not hold up the others.
pub async fn conditions_hold_one_by_one_in_a_batch(case: &Case) {
    let [present, absent, other, plain] = ["present", "absent", "other", "plain"].map(|name| case.key(name));
    case.put(&present, "old", SetOptions::new()).await;
    let items = [
        SetItem::new(present.clone(), "x", SetOptions::new().only_if_absent()),
        SetItem::new(absent.clone(), "x", SetOptions::new().only_if_absent().ttl(LONG)),
        SetItem::new(other.clone(), "x", SetOptions::new().only_if_present()),
        SetItem::new(plain.clone(), "x", SetOptions::new()),
    ];
    let outcomes: Vec<_> = case.backend().set_many(&items).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, [SetOutcome::Rejected, SetOutcome::Stored, SetOutcome::Rejected, SetOutcome::Stored]);
    case.assert_value(&present, "old").await;
    case.assert_value(&absent, "x").await;
    case.assert_remaining(&absent, LONG).await;
    case.assert_absent(&other).await;
    case.assert_value(&plain, "x").await;
}
