//! Listing and deleting keys by pattern.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{BackendExt, Key, Pattern, Scan, SetItem, SetOptions};

use super::{Case, SHORT, glob_cases};

async fn fill(case: &Case, keys: &[Key]) {
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "v", SetOptions::new())).collect();
    case.backend().set_many(&items).await.into_iter().for_each(|outcome| assert!(outcome.unwrap().is_stored()));
}

async fn listed(scan: &dyn Scan, pattern: &Pattern, page: usize) -> BTreeSet<Key> {
    let pages: Vec<Vec<Key>> = scan.scan(pattern, page).try_collect().await.unwrap();
    pages.into_iter().flatten().collect()
}

/// How many, and the second time none.
pub async fn deleting_by_pattern_removes_only_what_matches(case: &Case) {
    if case.scan().is_none() {
        return;
    }
    let orders: Vec<_> = (0..700).map(|number| case.key(&("order", number))).collect();
    let others = ["orders", "order", "user:1", "Order:1", "x:order:1"].map(|name| case.key(name));
    fill(case, &orders).await;
    fill(case, &others).await;
    let pattern = Pattern::new("order:*").unwrap().within(case.prefix());
    assert_eq!(case.backend().delete_pattern(&pattern).await.unwrap(), 700);
    assert_eq!(case.backend().delete_pattern(&pattern).await.unwrap(), 0);
    case.assert_absent(&orders[0]).await;
    for key in &others {
        case.assert_value(key, "v").await;
    }
}

/// Whether Larder wrote the key, which escapes it, or another program did.
pub async fn a_star_in_a_key_can_be_asked_for(case: &Case) {
    let Some(scan) = case.scan() else { return };
    let (star, plain) = (case.key("user:*:cart"), case.key("user:7:cart"));
    let foreign = case.canonical_key("raw*key");
    fill(case, &[star.clone(), plain.clone(), foreign.clone(), case.canonical_key("raw-key")]).await;
    let escaped = Pattern::new(r"user:\*:cart").unwrap().within(case.prefix());
    assert_eq!(listed(scan, &escaped, 10).await, BTreeSet::from([star.clone()]));
    let open = Pattern::new("user:*:cart").unwrap().within(case.prefix());
    assert_eq!(listed(scan, &open, 10).await, BTreeSet::from([star.clone(), plain.clone()]));
    let raw = Pattern::from_canonical(format!(r"{}raw\*key", case.prefix()));
    assert_eq!(listed(scan, &raw, 10).await, BTreeSet::from([foreign]));
    assert_eq!(case.backend().delete_pattern(&escaped).await.unwrap(), 1);
    case.assert_absent(&star).await;
    case.assert_value(&plain, "v").await;
}

/// The size of a page is a hint.
pub async fn pages_of_any_size_lose_no_key(case: &Case) {
    let Some(scan) = case.scan() else { return };
    let keys: Vec<_> = (0..500).map(|number| case.key(&("ключ 🗝", number))).collect();
    fill(case, &keys).await;
    fill(case, &[case.key("other")]).await;
    let pattern = Pattern::new("ключ 🗝:*").unwrap().within(case.prefix());
    let expected: BTreeSet<_> = keys.into_iter().collect();
    for page in [1, 7, 100, 499, 500, 501, 100_000] {
        let found = listed(scan, &pattern, page).await;
        // Not `assert_eq`, which would print a thousand keys.
        let (lost, strange) = (expected.difference(&found).next(), found.difference(&expected).next());
        assert!(lost.is_none() && strange.is_none(), "pages of {page} lose {lost:?} and list {strange:?} besides");
    }
    let nothing = Pattern::new("nothing:*").unwrap().within(case.prefix());
    assert!(listed(scan, &nothing, 10).await.is_empty());
}

/// Nor deleted and counted.
pub async fn expired_keys_are_not_listed(case: &Case) {
    let Some(scan) = case.scan() else { return };
    let (lasting, mortal) = (case.key("k:lasting"), case.key("k:mortal"));
    case.put(&lasting, "v", SetOptions::new()).await;
    case.put(&mortal, "v", SetOptions::new().ttl(SHORT)).await;
    case.expire(&mortal, SHORT).await;
    let pattern = Pattern::new("k:*").unwrap().within(case.prefix());
    assert_eq!(listed(scan, &pattern, 10).await, BTreeSet::from([lasting]));
    assert_eq!(case.backend().delete_pattern(&pattern).await.unwrap(), 1);
}

/// A namespace is emptied by its prefix.
pub async fn clearing_a_prefix_leaves_the_others(case: &Case) {
    if case.scan().is_none() {
        return;
    }
    let inside = ["shop:a", "shop:b:c", "shop:"].map(|name| case.key(name));
    let outside = ["shop", "shop2:a", "a:shop:b"].map(|name| case.key(name));
    fill(case, &inside).await;
    fill(case, &outside).await;
    let pattern = Pattern::prefix(case.key("shop:").as_str());
    assert_eq!(case.backend().delete_pattern(&pattern).await.unwrap(), 3);
    for key in &outside {
        case.assert_value(key, "v").await;
    }
    let whole = Pattern::prefix(case.prefix());
    assert_eq!(case.backend().delete_pattern(&whole).await.unwrap(), 3);
    assert_eq!(case.backend().delete_pattern(&whole).await.unwrap(), 0);
}

/// After its first page, or before it.
pub async fn a_scan_that_is_dropped_does_no_harm(case: &Case) {
    let Some(scan) = case.scan() else { return };
    let keys = case.keys(200);
    fill(case, &keys).await;
    let pattern = Pattern::prefix(case.prefix());
    for _ in 0..20 {
        let mut pages = scan.scan(&pattern, 3);
        assert!(!pages.next().await.unwrap().unwrap().is_empty());
        drop(pages);
        drop(scan.scan(&pattern, 3));
    }
    assert_eq!(listed(scan, &pattern, 64).await.len(), 200);
    case.assert_value(&keys[0], "v").await;
}

/// The [table](glob_cases).
pub async fn globs_match_by_the_rules_of_redis(case: &Case) {
    let Some(scan) = case.scan() else { return };
    for (number, glob) in glob_cases().iter().enumerate() {
        let key = |text: &&str| case.canonical_key(&format!("{number}:{text}"));
        let matching: BTreeSet<_> = glob.matching.iter().map(key).collect();
        let all: Vec<_> = glob.matching.iter().chain(glob.other).map(key).collect();
        fill(case, &all).await;
        let pattern = Pattern::from_canonical(format!("{}{number}:{}", case.prefix(), glob.pattern));
        assert_eq!(listed(scan, &pattern, 100).await, matching, "{:?}", glob.pattern);
    }
}
