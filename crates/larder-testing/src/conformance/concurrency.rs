//! Many tasks at once, on two threads.

use std::sync::Arc;

use bytes::Bytes;
use larder_core::{Backend, BackendExt, Key, SetOptions};
use tokio::{sync::Barrier, task::JoinSet};

use super::{Case, LONG};

/// Starts `count` tasks at the same moment and collects their answers.
async fn at_once<F, T>(case: &Case, count: usize, task: impl Fn(Arc<dyn Backend>, Key, usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let (barrier, key) = (Arc::new(Barrier::new(count)), case.key("k"));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (barrier, work) = (Arc::clone(&barrier), task(Arc::clone(case.backend()), key.clone(), number));
        tasks.spawn(async move {
            barrier.wait().await;
            work.await
        });
    }
    tasks.join_all().await
}

/// Each gets a count of its own, from 1 to 100.
pub async fn no_increment_is_lost(case: &Case) {
    if case.counter().is_none() {
        return;
    }
    let mut counts = at_once(case, 100, |backend, key, _| async move {
        backend.as_counter().unwrap().increment(&key, 1, Some(LONG)).await.unwrap()
    })
    .await;
    counts.sort_unstable();
    assert!(counts.into_iter().eq(1..=100));
}

/// All the others get the winner's.
pub async fn one_of_many_stores_its_value(case: &Case) {
    if case.atomic().is_none() {
        return;
    }
    let answers = at_once(case, 50, |backend, key, number| async move {
        let value = Bytes::from(number.to_string());
        let before = backend.as_atomic().unwrap().get_or_set(&key, value.clone(), LONG).await.unwrap();
        before.map_or(Ok(value), Err)
    })
    .await;
    let (winners, losers): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(winners.len(), 1);
    let winner = winners[0].clone().unwrap();
    assert!(losers.into_iter().all(|seen| seen.unwrap_err() == winner));
    case.assert_value(&case.key("k"), winner).await;
}

/// The others are refused.
pub async fn one_of_many_gets_the_lock(case: &Case) {
    if case.lock().is_none() {
        return;
    }
    let answers = at_once(case, 50, |backend, key, number| async move {
        backend.as_lock().unwrap().acquire(&key, &format!("token {number}"), LONG).await.unwrap()
    })
    .await;
    assert_eq!(answers.into_iter().filter(|granted| *granted).count(), 1);
}

/// And its value stays.
pub async fn one_of_many_writes_if_absent(case: &Case) {
    let outcomes = at_once(case, 50, |backend, key, number| async move {
        let options = SetOptions::new().only_if_absent();
        let stored = backend.set(&key, Bytes::from(number.to_string()), options).await.unwrap().is_stored();
        stored.then_some(number)
    })
    .await;
    let winners: Vec<_> = outcomes.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    case.assert_value(&case.key("k"), winners[0].to_string()).await;
}

/// Every read sees one write as a whole.
pub async fn a_value_is_never_seen_in_part(case: &Case) {
    const LENGTH: usize = 4096;
    let value = |number: usize| Bytes::from(vec![u8::try_from(number % 256).unwrap(); LENGTH]);
    case.put(&case.key("k"), value(0), SetOptions::new()).await;
    at_once(case, 16, |backend, key, number| async move {
        for round in 0..10 {
            if number % 2 == 0 {
                backend.set(&key, value(number * 10 + round), SetOptions::new()).await.unwrap();
            } else {
                let seen = backend.get(&key).await.unwrap().unwrap();
                assert_eq!(seen.len(), LENGTH);
                assert!(seen.iter().all(|byte| *byte == seen[0]), "two writes in one value");
            }
        }
    })
    .await;
}
