//! Changes that depend on what is stored.

use std::time::Duration;

use bytes::Bytes;
use larder_core::{Expected, SetOptions, SetOutcome};

use super::{Case, LONG, SHORT};

/// Whoever asks later gets it and changes nothing, not its life either.
pub async fn the_first_to_ask_stores_its_value(case: &Case) {
    let Some(atomic) = case.atomic() else { return };
    let key = case.key("k");
    assert_eq!(atomic.get_or_set(&key, Bytes::from("first"), LONG).await.unwrap(), None);
    for value in ["second", "first", ""] {
        let before = atomic.get_or_set(&key, Bytes::from(value), LONG * 10).await.unwrap();
        assert_eq!(before, Some(Bytes::from("first")));
    }
    case.assert_value(&key, "first").await;
    case.assert_remaining(&key, LONG).await;
    let empty = case.key("empty");
    case.put(&empty, "", SetOptions::new()).await;
    assert_eq!(atomic.get_or_set(&empty, Bytes::from("new"), LONG).await.unwrap(), Some(Bytes::new()));
    case.assert_forever(&empty).await;
}

/// And is free again afterwards.
pub async fn a_stored_value_has_the_life_it_was_given(case: &Case) {
    let Some(atomic) = case.atomic() else { return };
    let key = case.key("k");
    assert_eq!(atomic.get_or_set(&key, Bytes::from("first"), SHORT).await.unwrap(), None);
    case.expire(&key, SHORT).await;
    assert_eq!(atomic.get_or_set(&key, Bytes::from("second"), LONG).await.unwrap(), None);
    case.assert_value(&key, "second").await;
}

/// What does not hold changes neither value nor life.
pub async fn a_comparison_by_prefix_length_or_the_whole(case: &Case) {
    let Some(atomic) = case.atomic() else { return };
    let key = case.key("k");
    let stored = Bytes::from_static(b"\0tok*[n]\r\n-7");
    let cases = [
        (Expected::exactly(stored.clone()), true),
        (Expected::prefix(stored.clone()), true),
        (Expected::prefix(stored.slice(..5)), true),
        (Expected::prefix(""), true),
        (Expected::prefix("").with_length(stored.len()), true),
        (Expected::prefix(stored.slice(..5)).with_length(stored.len()), true),
        (Expected::exactly(stored.slice(..5)), false),
        (Expected::exactly(""), false),
        (Expected::prefix(stored.slice(1..)), false),
        (Expected::prefix("\0TOK"), false),
        (Expected::prefix([&stored[..], b"8"].concat()), false),
        (Expected::prefix(stored.slice(..5)).with_length(stored.len() - 1), false),
        (Expected::prefix(stored.slice(..5)).with_length(stored.len() + 1), false),
        (Expected::prefix("").with_length(0), false),
    ];
    for (expected, holds) in cases {
        case.put(&key, stored.clone(), SetOptions::new().ttl(LONG)).await;
        let outcome = atomic.compare_and_set(&key, &expected, Bytes::from("new"), SetOptions::new()).await.unwrap();
        assert_eq!(outcome.is_stored(), holds, "{expected:?}");
        if holds {
            case.assert_value(&key, "new").await;
            case.assert_forever(&key).await;
        } else {
            case.assert_value(&key, stored.clone()).await;
            case.assert_remaining(&key, LONG).await;
        }
    }
    case.put(&key, "", SetOptions::new()).await;
    let empty = atomic.compare_and_set(&key, &Expected::exactly(""), Bytes::from("new"), SetOptions::new()).await;
    assert_eq!(empty.unwrap(), SetOutcome::Stored);
}

/// Not even where any value would do, nor after the value has expired.
pub async fn an_absent_key_is_never_as_expected(case: &Case) {
    let Some(atomic) = case.atomic() else { return };
    let (absent, expired) = (case.key("absent"), case.key("expired"));
    case.put(&expired, "v", SetOptions::new().ttl(SHORT)).await;
    case.expire(&expired, SHORT).await;
    for key in [&absent, &expired] {
        for expected in [Expected::prefix(""), Expected::exactly(""), Expected::exactly("v")] {
            let outcome = atomic.compare_and_set(key, &expected, Bytes::from("new"), SetOptions::new()).await;
            assert_eq!(outcome.unwrap(), SetOutcome::Rejected, "{expected:?}");
            assert!(!atomic.compare_and_delete(key, &expected).await.unwrap(), "{expected:?}");
            case.assert_absent(key).await;
        }
    }
}

/// A new one, none, the old one, or an end at once.
pub async fn a_comparison_sets_the_life_of_its_value(case: &Case) {
    let Some(atomic) = case.atomic() else { return };
    let (key, any) = (case.key("k"), Expected::prefix(""));
    let set = |value: &'static str, options| atomic.compare_and_set(&key, &any, Bytes::from(value), options);
    case.put(&key, "0", SetOptions::new()).await;
    assert!(set("1", SetOptions::new().ttl(LONG)).await.unwrap().is_stored());
    case.assert_remaining(&key, LONG).await;
    assert!(set("2", SetOptions::new().keep_ttl()).await.unwrap().is_stored());
    case.assert_value(&key, "2").await;
    case.assert_remaining(&key, LONG).await;
    assert!(set("3", SetOptions::new()).await.unwrap().is_stored());
    case.assert_forever(&key).await;
    assert!(set("4", SetOptions::new().keep_ttl()).await.unwrap().is_stored());
    case.assert_forever(&key).await;
    assert!(set("5", SetOptions::new().ttl(Duration::ZERO)).await.unwrap().is_stored());
    case.assert_absent(&key).await;
}

/// Once.
pub async fn a_comparison_deletes_only_what_was_expected(case: &Case) {
    let Some(atomic) = case.atomic() else { return };
    let key = case.key("k");
    case.put(&key, "token-7", SetOptions::new()).await;
    for expected in [Expected::exactly("token"), Expected::prefix("token-8"), Expected::prefix("token").with_length(6)]
    {
        assert!(!atomic.compare_and_delete(&key, &expected).await.unwrap(), "{expected:?}");
        case.assert_value(&key, "token-7").await;
    }
    assert!(atomic.compare_and_delete(&key, &Expected::prefix("token")).await.unwrap());
    case.assert_absent(&key).await;
    assert!(!atomic.compare_and_delete(&key, &Expected::prefix("token")).await.unwrap());
}
