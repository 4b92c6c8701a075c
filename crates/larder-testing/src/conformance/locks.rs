//! Locks with a token and a lease.

use larder_core::BackendExt;

use super::{Case, LONG, SHORT};

/// Others are refused until it is released; other locks are free.
pub async fn a_lock_has_one_holder_at_a_time(case: &Case) {
    let Some(lock) = case.lock() else { return };
    let (key, other) = (case.key("k"), case.key("other"));
    assert!(lock.acquire(&key, "one", LONG).await.unwrap());
    assert!(!lock.acquire(&key, "two", LONG).await.unwrap());
    assert!(case.backend().exists(&key).await.unwrap());
    assert!(lock.acquire(&other, "two", LONG).await.unwrap());
    assert!(lock.release(&key, "one").await.unwrap());
    assert!(!case.backend().exists(&key).await.unwrap());
    assert!(lock.acquire(&key, "two", LONG).await.unwrap());
    case.assert_remaining(&key, LONG).await;
}

/// As after an answer that was lost.
pub async fn the_holder_may_ask_again(case: &Case) {
    let Some(lock) = case.lock() else { return };
    let key = case.key("k");
    for _ in 0..3 {
        assert!(lock.acquire(&key, "one", LONG).await.unwrap());
        assert!(!lock.acquire(&key, "on", LONG).await.unwrap());
        assert!(!lock.acquire(&key, "one ", LONG).await.unwrap());
    }
    assert!(lock.release(&key, "one").await.unwrap(), "one release ends it, however often it was taken");
    assert!(lock.acquire(&key, "two", LONG).await.unwrap());
}

/// To the new lease, from now; nobody extends a lock that is free.
pub async fn only_the_holder_extends_the_lease(case: &Case) {
    let Some(lock) = case.lock() else { return };
    let key = case.key("k");
    assert!(!lock.extend(&key, "one", LONG).await.unwrap());
    assert!(!case.backend().exists(&key).await.unwrap());
    assert!(lock.acquire(&key, "one", LONG).await.unwrap());
    assert!(!lock.extend(&key, "two", LONG * 10).await.unwrap());
    case.assert_remaining(&key, LONG).await;
    assert!(lock.extend(&key, "one", LONG * 10).await.unwrap());
    case.assert_remaining(&key, LONG * 10).await;
    assert!(lock.release(&key, "one").await.unwrap());
    assert!(!lock.extend(&key, "one", LONG).await.unwrap());
}

/// Once, and not with another's token.
pub async fn only_the_holder_releases(case: &Case) {
    let Some(lock) = case.lock() else { return };
    let key = case.key("k");
    assert!(!lock.release(&key, "one").await.unwrap());
    assert!(lock.acquire(&key, "one", LONG).await.unwrap());
    for token in ["two", "", "on", "one1", "*"] {
        assert!(!lock.release(&key, token).await.unwrap(), "{token:?}");
    }
    assert!(!lock.acquire(&key, "two", LONG).await.unwrap());
    assert!(lock.release(&key, "one").await.unwrap());
    assert!(!lock.release(&key, "one").await.unwrap());
}

/// Afterwards another may take it, and the old holder can neither extend nor release.
pub async fn a_lease_ends_by_itself(case: &Case) {
    let Some(lock) = case.lock() else { return };
    let key = case.key("k");
    assert!(lock.acquire(&key, "one", SHORT).await.unwrap());
    case.expire(&key, SHORT).await;
    assert!(!lock.extend(&key, "one", LONG).await.unwrap());
    assert!(lock.acquire(&key, "two", LONG).await.unwrap());
    assert!(!lock.release(&key, "one").await.unwrap());
    assert!(!lock.extend(&key, "one", LONG * 10).await.unwrap());
    case.assert_remaining(&key, LONG).await;
    assert!(lock.release(&key, "two").await.unwrap());
}
