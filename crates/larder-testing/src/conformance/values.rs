//! Values as bytes: what is stored comes back, whatever it is.

use bytes::Bytes;
use larder_core::{Key, MAX_KEY_BYTES, SetOptions};

use super::Case;

/// What was stored is read, and a key that never was is absent.
pub async fn what_was_set_is_read_back(case: &Case) {
    let (key, other) = (case.key("user:7"), case.key("user:8"));
    case.assert_absent(&key).await;
    case.put(&key, "Ada", SetOptions::new()).await;
    case.assert_value(&key, "Ada").await;
    case.assert_absent(&other).await;
}

/// The last write counts, whether it is longer or shorter.
pub async fn a_second_write_replaces_the_first(case: &Case) {
    let key = case.key("k");
    for value in ["first", "the second and longer one", "3"] {
        case.put(&key, value, SetOptions::new()).await;
        case.assert_value(&key, value).await;
    }
}

/// Digits, floating-point numbers, truth values, JSON, other alphabets, line ends, NUL and every other byte.
pub async fn bytes_of_every_kind_survive(case: &Case) {
    let every: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let values = [
        Bytes::from_static(b"2"),
        Bytes::from_static(b"-0012"),
        Bytes::from_static(b"1.2000000000000002"),
        Bytes::from_static(b"true"),
        Bytes::from_static(b"nil"),
        Bytes::from_static(b"$-1\r\n"),
        Bytes::from_static(b"\r\n"),
        Bytes::from_static(b"\0"),
        Bytes::from_static(b"\xff\xfe\xfd"),
        Bytes::from(r#"{"id":1,"seen":"2026-01-01T00:00:00Z","nested":{"a":[1,2.5,null]}}"#),
        Bytes::from("ключ — значение, 鍵と値, 🗝"),
        Bytes::from("s".repeat(1000)),
        Bytes::from(every),
    ];
    for (number, value) in values.iter().enumerate() {
        case.put(&case.key(&number), value.clone(), SetOptions::new()).await;
    }
    for (number, value) in values.into_iter().enumerate() {
        case.assert_value(&case.key(&number), value).await;
    }
}

/// A value of no bytes is there.
pub async fn an_empty_value_is_a_value(case: &Case) {
    let key = case.key("empty");
    case.put(&key, Bytes::new(), SetOptions::new()).await;
    case.assert_value(&key, Bytes::new()).await;
    case.assert_forever(&key).await;
}

/// A value of 1 MiB.
pub async fn a_mebibyte_survives(case: &Case) {
    let key = case.key("large");
    let mut random = fastrand::Rng::with_seed(7);
    let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
    case.put(&key, value.clone(), SetOptions::new()).await;
    // Not `assert_value`, which would print both.
    assert!(case.get(&key).await.is_some_and(|found| found == value), "1 MiB came back changed");
}

/// Keys in other alphabets, with spaces and with what globs give a meaning to.
pub async fn keys_of_any_script_work(case: &Case) {
    let names = ["ключ", "鍵", "🗝️", "a b", "tab\there", "100%", "[a-z]*?", r"back\slash", "{slot}", "line\nend"];
    for name in names {
        case.put(&case.key(name), name, SetOptions::new()).await;
    }
    for name in names {
        case.assert_value(&case.key(name), name).await;
    }
    let foreign = case.canonical_key("as another program wrote it: ключ*");
    case.put(&foreign, "1", SetOptions::new()).await;
    case.assert_value(&foreign, "1").await;
}

/// Keys that are alike are different.
pub async fn keys_differ_in_case_and_are_compared_whole(case: &Case) {
    let names = ["a", "A", "aa", "a:", "a:a", "á", "a\u{301}"];
    for name in names {
        case.put(&case.key(name), name, SetOptions::new()).await;
    }
    for name in names {
        case.assert_value(&case.key(name), name).await;
    }
}

/// Keys that are too long are cut and end in a digest, which keeps them apart.
pub async fn a_key_at_the_length_limit_works(case: &Case) {
    let keys: Vec<Key> = ["x", "y"].map(|end| case.key(&format!("{}{end}", "k".repeat(MAX_KEY_BYTES)))).into();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(key.as_str().len(), MAX_KEY_BYTES);
        case.put(key, number.to_string(), SetOptions::new()).await;
    }
    for (number, key) in keys.iter().enumerate() {
        case.assert_value(key, number.to_string()).await;
    }
}
