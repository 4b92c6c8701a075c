//! Changes of one key by many threads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_executor::block_on;
use larder_core::{Atomic, BackendExt, Bytes, Counter, Expected, Key, Lock, SetOptions};
use larder_memory::MemoryBackend;

const THREADS: u64 = 4;
const ROUNDS: u64 = 2_000;

fn in_threads(run: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let run = &run;
            scope.spawn(move || run(thread));
        }
    });
}

#[test]
fn no_increment_is_lost() {
    let backend = MemoryBackend::new();
    let key = Key::new("c");
    in_threads(|_| {
        for _ in 0..ROUNDS {
            block_on(backend.increment(&key, 1, None)).unwrap();
        }
    });
    assert_eq!(block_on(backend.count(&key)).unwrap(), Some(i64::try_from(THREADS * ROUNDS).unwrap()));
}

#[test]
fn of_many_writes_to_an_absent_key_one_is_stored() {
    let backend = MemoryBackend::new();
    let stored = AtomicU64::new(0);
    in_threads(|thread| {
        for round in 0..ROUNDS {
            let value = Bytes::from(thread.to_string());
            let outcome = block_on(backend.set(&Key::new(&round), value, SetOptions::new().only_if_absent()));
            stored.fetch_add(u64::from(outcome.unwrap().is_stored()), Ordering::Relaxed);
        }
    });
    assert_eq!(stored.load(Ordering::Relaxed), ROUNDS);
}

#[test]
fn a_comparison_succeeds_for_one_of_those_that_expect_the_same() {
    let backend = MemoryBackend::new();
    let key = Key::new("a");
    block_on(backend.set(&key, Bytes::from("0"), SetOptions::new())).unwrap();
    let swaps = AtomicU64::new(0);
    in_threads(|_| {
        for _ in 0..ROUNDS {
            let seen = block_on(backend.get(&key)).unwrap().unwrap();
            let next: u64 = std::str::from_utf8(&seen).unwrap().parse::<u64>().unwrap() + 1;
            let expected = Expected::exactly(seen);
            let swap = backend.compare_and_set(&key, &expected, Bytes::from(next.to_string()), SetOptions::new());
            swaps.fetch_add(u64::from(block_on(swap).unwrap().is_stored()), Ordering::Relaxed);
        }
    });
    let last = block_on(backend.get(&key)).unwrap().unwrap();
    assert_eq!(last, swaps.load(Ordering::Relaxed).to_string());
}

#[test]
fn a_lock_keeps_threads_apart() {
    let backend = MemoryBackend::new();
    let key = Key::new("lock");
    let (inside, entered) = (AtomicU64::new(0), AtomicU64::new(0));
    in_threads(|thread| {
        for round in 0..ROUNDS / 10 {
            let token = format!("{thread}-{round}");
            while !block_on(backend.acquire(&key, &token, Duration::from_secs(60))).unwrap() {
                std::thread::yield_now();
            }
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            entered.fetch_add(1, Ordering::SeqCst);
            assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
            assert!(block_on(backend.release(&key, &token)).unwrap());
        }
    });
    assert_eq!(entered.load(Ordering::SeqCst), THREADS * (ROUNDS / 10));
}

#[test]
fn evictions_expiries_and_clears_at_once_leave_a_working_store() {
    let backend = MemoryBackend::builder().max_bytes(64 << 10).build().unwrap();
    in_threads(|thread| {
        for round in 0..ROUNDS {
            let options = SetOptions::new().ttl(Duration::from_millis(1 + round % 3));
            let key = Key::new(&(round % 500));
            block_on(backend.set(&key, Bytes::from(vec![0; 400]), options)).unwrap();
            block_on(backend.delete(&Key::new(&(round % 7)))).unwrap();
            if thread == 0 && round % 500 == 0 {
                backend.clear();
            }
        }
    });
    assert!(backend.bytes() <= 64 << 10);
    block_on(backend.set(&Key::new("a"), Bytes::from("1"), SetOptions::new())).unwrap();
    assert_eq!(block_on(backend.get(&Key::new("a"))).unwrap(), Some(Bytes::from("1")));
}
