//! Integer counters.

use larder_core::{BackendExt, ErrorKind, SetOptions};

use super::{Case, LONG, SHORT};

/// By one, by more, by less, below zero, and by nothing.
pub async fn a_counter_starts_at_zero_and_goes_both_ways(case: &Case) {
    let Some(counter) = case.counter() else { return };
    let key = case.key("k");
    let mut expected = 0;
    for amount in [1, 1, 10, -1, -30, 0, i64::from(u32::MAX)] {
        expected += amount;
        assert_eq!(counter.increment(&key, amount, None).await.unwrap(), expected);
        assert_eq!(counter.count(&key).await.unwrap(), Some(expected));
    }
    assert_eq!(counter.increment(&case.key("nothing"), 0, None).await.unwrap(), 0);
    assert_eq!(counter.count(&case.key("nothing")).await.unwrap(), Some(0));
}

/// Asking does not create it, and a deleted one starts again.
pub async fn an_absent_counter_has_no_count(case: &Case) {
    let Some(counter) = case.counter() else { return };
    let key = case.key("k");
    assert_eq!(counter.count(&key).await.unwrap(), None);
    case.assert_absent(&key).await;
    assert_eq!(counter.increment(&key, -5, None).await.unwrap(), -5);
    assert!(case.backend().delete(&key).await.unwrap());
    assert_eq!(counter.count(&key).await.unwrap(), None);
    assert_eq!(counter.increment(&key, 2, None).await.unwrap(), 2);
}

/// Later increments neither prolong nor end it.
pub async fn a_counter_gets_its_life_when_it_is_created(case: &Case) {
    let Some(counter) = case.counter() else { return };
    let (mortal, lasting) = (case.key("mortal"), case.key("lasting"));
    assert_eq!(counter.increment(&mortal, 1, Some(LONG)).await.unwrap(), 1);
    assert_eq!(counter.increment(&lasting, 1, None).await.unwrap(), 1);
    for ttl in [Some(LONG * 10), Some(SHORT), None] {
        counter.increment(&mortal, 1, ttl).await.unwrap();
        counter.increment(&lasting, 1, ttl).await.unwrap();
        case.assert_remaining(&mortal, LONG).await;
        case.assert_forever(&lasting).await;
    }
    assert_eq!(counter.count(&mortal).await.unwrap(), Some(4));
}

/// At zero and with the life of the increment that creates it.
pub async fn an_expired_counter_starts_again(case: &Case) {
    let Some(counter) = case.counter() else { return };
    let key = case.key("k");
    assert_eq!(counter.increment(&key, 7, Some(SHORT)).await.unwrap(), 7);
    case.expire(&key, SHORT).await;
    assert_eq!(counter.count(&key).await.unwrap(), None);
    assert_eq!(counter.increment(&key, 1, Some(LONG)).await.unwrap(), 1);
    case.assert_remaining(&key, LONG).await;
}

/// Exact up to both ends; beyond them an error, with value and life as before.
pub async fn an_overflow_is_an_error_and_changes_nothing(case: &Case) {
    let Some(counter) = case.counter() else { return };
    for (key, end, step) in [(case.key("up"), i64::MAX, 1), (case.key("down"), i64::MIN, -1)] {
        assert_eq!(counter.increment(&key, end - step, Some(LONG)).await.unwrap(), end - step);
        assert_eq!(counter.increment(&key, step, None).await.unwrap(), end);
        for amount in [step, end] {
            let error = counter.increment(&key, amount, None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overflow, "{error}");
            assert_eq!(counter.count(&key).await.unwrap(), Some(end));
        }
        case.assert_remaining(&key, LONG).await;
        assert_eq!(counter.increment(&key, -step, None).await.unwrap(), end - step);
    }
    let across = case.key("across");
    assert_eq!(counter.increment(&across, i64::MAX, None).await.unwrap(), i64::MAX);
    assert_eq!(counter.increment(&across, i64::MIN, None).await.unwrap(), -1);
}

/// Text, nothing, fractions, too many digits, and other spellings of a number.
pub async fn what_is_no_integer_is_no_counter(case: &Case) {
    let Some(counter) = case.counter() else { return };
    let key = case.key("k");
    for value in ["text", "", "1.5", " 1", "1 ", "+1", "007", "9223372036854775808", "\u{fffd}"] {
        case.put(&key, value, SetOptions::new().ttl(LONG)).await;
        let error = counter.increment(&key, 1, Some(SHORT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KindMismatch, "incrementing {value:?}: {error}");
        let error = counter.count(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KindMismatch, "the count of {value:?}: {error}");
        case.assert_value(&key, value).await;
        case.assert_remaining(&key, LONG).await;
    }
}

/// So that other programs read it, and may have written it.
pub async fn a_counter_is_its_decimal_text(case: &Case) {
    let Some(counter) = case.counter() else { return };
    let key = case.key("k");
    counter.increment(&key, -42, None).await.unwrap();
    case.assert_value(&key, "-42").await;
    case.put(&key, "99", SetOptions::new().ttl(LONG)).await;
    assert_eq!(counter.count(&key).await.unwrap(), Some(99));
    assert_eq!(counter.increment(&key, 1, None).await.unwrap(), 100);
    case.assert_remaining(&key, LONG).await;
}
