//! Many tasks, many keys, and callers that go away at any point.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use larder_core::Key;
use larder_flight::{Flights, Join};

use crate::id;

const KEYS: u32 = 1000;
const TASKS: u64 = 64;
const CALLS: u64 = 500;

/// What became of the calls.
#[derive(Default)]
struct Tally {
    loaded: AtomicU64,
    followed: AtomicU64,
    written: AtomicU64,
    cancelled: AtomicU64,
}

impl Tally {
    fn sum(&self) -> u64 {
        [&self.loaded, &self.followed, &self.written, &self.cancelled]
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_soak_with_cancelled_callers_leaves_nothing_behind() {
    let seed = std::env::var("LARDER_SOAK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    report(&format!("seed: {seed} (LARDER_SOAK_SEED repeats the calls, not their interleaving)"));
    let flights = Flights::<u32>::new();
    let keys: Arc<Vec<Key>> = Arc::new((0..KEYS).map(|number| Key::new(&number)).collect());
    let tally = Arc::new(Tally::default());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (flights, keys, tally) = (flights.clone(), Arc::clone(&keys), Arc::clone(&tally));
            let rng = fastrand::Rng::with_seed(seed.wrapping_add(task));
            tokio::spawn(work(flights, keys, tally, rng))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(tally.sum(), TASKS * CALLS);
    let cancelled = tally.cancelled.load(Ordering::Relaxed);
    report(&format!("{cancelled} of {} calls were cancelled", TASKS * CALLS));
    assert!(cancelled > 0 && tally.followed.load(Ordering::Relaxed) > 0, "the soak has become trivial");
    assert_eq!(flights.in_flight(), 0);
    assert_eq!(flights.keys_at_work(), 0);
}

#[expect(clippy::print_stdout, reason = "a failure can be looked into only with its seed")]
fn report(line: &str) {
    println!("{line}");
}

async fn work(flights: Flights<u32>, keys: Arc<Vec<Key>>, tally: Arc<Tally>, mut rng: fastrand::Rng) {
    for _ in 0..CALLS {
        // Half of the calls go to a few keys, so that they meet.
        let number = if rng.bool() { rng.u32(..KEYS) } else { rng.u32(..4) };
        let key = &keys[number as usize];
        let polls = (rng.u8(..5) == 0).then(|| rng.usize(..4));
        let pauses = rng.usize(..6);
        let counter = match rng.u8(..20) {
            0 => {
                flights.raise(key, || ());
                &tally.written
            }
            1 => {
                let text = key.as_str().to_owned();
                flights.raise_where(|key| key == text);
                &tally.written
            }
            2 => {
                let mut ticket = flights.ticket(key);
                pause(pauses).await;
                ticket.commit(|| ());
                &tally.written
            }
            kind => match cancelled_after(polls, load(&flights, key, number, pauses, kind == 3)).await {
                None => &tally.cancelled,
                Some(true) => &tally.loaded,
                Some(false) => &tally.followed,
            },
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers whether this caller led.
async fn load(flights: &Flights<u32>, key: &Key, number: u32, pauses: usize, alone: bool) -> bool {
    loop {
        let joined = if alone { Join::Lead(flights.lead_alone(key, id())) } else { flights.join(key, id()) };
        match joined {
            Join::Lead(mut leader) => {
                pause(pauses).await;
                leader.ticket().commit(|| ());
                pause(1).await;
                drop(leader.finish(number));
                return true;
            }
            Join::Follow(follower) => {
                if let Some(result) = follower.wait().await {
                    assert_eq!(result, number, "another key's result");
                    return false;
                }
            }
        }
    }
}

async fn pause(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Drops the call if it is not done after so many polls.
async fn cancelled_after<F: Future>(polls: Option<usize>, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        match &mut left {
            Some(0) => return Poll::Ready(None),
            Some(left) => *left -= 1,
            None => {}
        }
        let polled = call.as_mut().poll(context).map(Some);
        if polled.is_pending() && left == Some(0) { Poll::Ready(None) } else { polled }
    })
    .await
}
