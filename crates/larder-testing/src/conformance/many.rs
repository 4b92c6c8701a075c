//! Batches: one answer for each key, in the order of the keys.

use bytes::Bytes;
use larder_core::{BackendExt, Expiry, GetOptions, Key, Remaining, SetItem, SetOptions, SetOutcome};

use super::{Case, LONG};

async fn values(case: &Case, keys: &[Key]) -> Vec<Option<Bytes>> {
    let found = case.backend().get_many(keys, GetOptions::new()).await;
    found.into_iter().map(|answer| answer.unwrap().map(|found| found.value)).collect()
}

/// Absent keys among them, and the same key twice.
pub async fn answers_stand_in_the_order_of_the_keys(case: &Case) {
    let [a, b, c, absent] = ["a", "b", "c", "absent"].map(|name| case.key(name));
    for (key, value) in [(&a, "1"), (&b, "ä"), (&c, "3")] {
        case.put(key, value, SetOptions::new()).await;
    }
    let asked = [&c, &absent, &a, &c, &b, &absent].map(Key::clone);
    let expected = [Some("3"), None, Some("1"), Some("3"), Some("ä"), None].map(|value| value.map(Bytes::from));
    assert_eq!(values(case, &asked).await, expected);
}

/// Nothing is asked of the store, and it has no error to give.
pub async fn no_keys_get_no_answers(case: &Case) {
    let backend = case.backend();
    assert!(backend.get_many(&[], GetOptions::new()).await.is_empty());
    assert!(backend.get_many(&[], GetOptions::new().with_ttl()).await.is_empty());
    assert!(backend.set_many(&[]).await.is_empty());
    assert!(backend.delete_many(&[]).await.is_empty());
    assert!(backend.ttl_many(&[]).await.is_empty());
    assert!(backend.expire_many(&[], Expiry::Never).await.is_empty());
}

/// Written, read, asked for their lives and deleted in one call each.
pub async fn a_thousand_keys_in_one_call(case: &Case) {
    let keys = case.keys(1_000);
    let value = |number: usize| Bytes::from(format!("value {number}"));
    let item = |(number, key): (usize, &Key)| SetItem::new(key.clone(), value(number), SetOptions::new().ttl(LONG));
    let items: Vec<_> = keys.iter().enumerate().map(item).collect();
    let outcomes = case.backend().set_many(&items).await;
    assert_eq!(outcomes.len(), 1_000);
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap() == SetOutcome::Stored));
    let found = values(case, &keys).await;
    assert!(found.into_iter().eq((0..1_000).map(|number| Some(value(number)))));
    let lives = case.backend().ttl_many(&keys).await;
    assert_eq!(lives.len(), 1_000);
    lives.into_iter().for_each(|life| case.assert_is_left(life.unwrap(), LONG));
    let deleted = case.backend().delete_many(&keys).await;
    assert_eq!(deleted.into_iter().filter(|answer| *answer.as_ref().unwrap()).count(), 1_000);
    assert!(values(case, &keys).await.into_iter().all(|value| value.is_none()));
}

/// As if they had been written one after the other.
pub async fn a_later_write_of_a_batch_wins(case: &Case) {
    let key = case.key("k");
    let items = [
        SetItem::new(key.clone(), "first", SetOptions::new()),
        SetItem::new(key.clone(), "refused", SetOptions::new().only_if_absent()),
        SetItem::new(key.clone(), "last", SetOptions::new().ttl(LONG)),
    ];
    let outcomes: Vec<_> = case.backend().set_many(&items).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, [SetOutcome::Stored, SetOutcome::Rejected, SetOutcome::Stored]);
    case.assert_value(&key, "last").await;
    case.assert_remaining(&key, LONG).await;
}

/// True once for each; the keys that were not named stay.
pub async fn deleting_tells_of_each_key_whether_it_was_there(case: &Case) {
    let [a, b, absent, other] = ["a", "b", "absent", "other"].map(|name| case.key(name));
    for key in [&a, &b, &other] {
        case.put(key, "v", SetOptions::new()).await;
    }
    let asked = [&a, &absent, &b, &a].map(Key::clone);
    let answers: Vec<_> = case.backend().delete_many(&asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [true, false, true, false]);
    case.assert_absent(&a).await;
    assert!(!case.backend().delete(&b).await.unwrap());
    case.assert_value(&other, "v").await;
    assert!(case.backend().delete(&other).await.unwrap());
}

/// Only where they are asked for.
pub async fn lives_are_read_with_the_values(case: &Case) {
    let [mortal, lasting, absent] = ["mortal", "lasting", "absent"].map(|name| case.key(name));
    case.put(&mortal, "a", SetOptions::new().ttl(LONG)).await;
    case.put(&lasting, "b", SetOptions::new()).await;
    let keys = [absent, lasting, mortal];
    let found: Vec<_> = case.backend().get_many(&keys, GetOptions::new().with_ttl()).await;
    let [none, forever, limited]: [_; 3] = found.try_into().unwrap();
    assert_eq!(none.unwrap(), None);
    assert_eq!(forever.unwrap().unwrap().remaining, Some(Remaining::Forever));
    let limited = limited.unwrap().unwrap();
    assert_eq!(limited.value, "a");
    case.assert_is_left(limited.remaining, LONG);
    let plain = case.backend().get_many(&keys, GetOptions::new()).await;
    assert!(plain.into_iter().all(|answer| answer.unwrap().is_none_or(|found| found.remaining.is_none())));
}

/// An answer for each, whatever it had before.
pub async fn lives_are_changed_key_by_key(case: &Case) {
    let [mortal, lasting, absent] = ["mortal", "lasting", "absent"].map(|name| case.key(name));
    case.put(&mortal, "v", SetOptions::new().ttl(LONG)).await;
    case.put(&lasting, "v", SetOptions::new()).await;
    let keys = [absent.clone(), mortal.clone(), lasting.clone()];
    let answers = case.backend().expire_many(&keys, Expiry::After(LONG * 3)).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [false, true, true]);
    let [none, first, second]: [_; 3] = case.backend().ttl_many(&keys).await.try_into().unwrap();
    assert_eq!(none.unwrap(), None);
    case.assert_is_left(first.unwrap(), LONG * 3);
    case.assert_is_left(second.unwrap(), LONG * 3);
    case.assert_absent(&absent).await;
}
