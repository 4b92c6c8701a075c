use std::{future::Future, time::Duration};

use larder_core::{Key, Tick};
use larder_flight::{FlightId, Flights, Join, Unwatched};

use crate::id;

fn lead(flights: &Flights<u32>, key: &Key) -> larder_flight::Leader<u32> {
    match flights.join(key, id()) {
        Join::Lead(leader) => leader,
        Join::Follow(_) => panic!("somebody leads already"),
    }
}

fn follow(flights: &Flights<u32>, key: &Key) -> larder_flight::Follower<u32> {
    match flights.join(key, id()) {
        Join::Lead(_) => panic!("nobody leads"),
        Join::Follow(follower) => follower,
    }
}

#[tokio::test]
async fn followers_get_what_the_leader_loaded() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let followers: Vec<_> = (0..1000).map(|_| tokio::spawn(follow(&flights, &key).wait())).collect();
    drop(leader.finish(7));
    for follower in followers {
        assert_eq!(follower.await.unwrap(), Some(7));
    }
    assert_eq!(flights.keys_at_work(), 0);
}

#[tokio::test]
async fn a_follower_that_waits_after_the_end_still_gets_the_result() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let late = follow(&flights, &key);
    drop(leader.finish(7));
    assert_eq!(late.wait().await, Some(7));
}

#[tokio::test]
async fn a_dropped_leader_does_not_stall_followers() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let follower = follow(&flights, &key);
    drop(leader);
    assert_eq!(follower.wait().await, None);
    drop(lead(&flights, &key));
    assert_eq!(flights.keys_at_work(), 0);
}

#[tokio::test]
async fn a_leader_that_panics_does_not_stall_followers() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let follower = follow(&flights, &key);
    let task = tokio::spawn(async move {
        let _leader = leader;
        panic!("the loader's defect");
    });
    assert_eq!(follower.wait().await, None);
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(flights.in_flight(), 0);
}

#[test]
fn calls_of_other_types_or_options_do_not_share_a_flight() {
    let flights = Flights::<u32>::new();
    let key = Key::new("k");
    let _leader = lead(&flights, &key);
    let other = FlightId { options: 1, ..id() };
    assert!(matches!(flights.join(&key, other), Join::Lead(_)));
}

#[tokio::test]
async fn who_would_not_load_may_wait_for_a_flight_that_suits() {
    let flights = Flights::<u32>::new();
    let key = Key::new("k");
    let own = FlightId { options: 1, ..id() };
    let join = |suits: fn(&FlightId) -> bool| flights.join_unless(&key, own, suits);
    assert!(matches!(join(|_| true), Ok(Join::Lead(_))), "there is none");
    let leader = lead(&flights, &key);
    assert!(matches!(join(|flight| flight.options == 2), Ok(Join::Lead(_))), "none that suits");
    let follower = join(|flight| *flight == id()).expect_err("there is one");
    leader.end(7);
    assert_eq!(follower.wait().await, Some(7));
    assert!(matches!(join(|_| true), Ok(Join::Lead(_))), "it has ended");
    assert_eq!(flights.keys_at_work(), 0);
}

#[tokio::test]
async fn a_raised_fence_detaches_the_flight_but_its_waiters_keep_it() {
    let flights = Flights::new();
    let key = Key::new("k");
    let first = lead(&flights, &key);
    let waiter = follow(&flights, &key);
    flights.raise(&key, || ());
    let second = lead(&flights, &key);
    let newcomer = follow(&flights, &key);
    drop(first.finish(1));
    drop(second.finish(2));
    assert_eq!(waiter.wait().await, Some(1));
    assert_eq!(newcomer.wait().await, Some(2));
}

#[tokio::test]
async fn a_leader_may_answer_who_waits_and_lead_on() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let early = follow(&flights, &key);
    let leader = leader.answer(1);
    let late = follow(&flights, &key);
    assert_eq!(early.wait().await, Some(1));
    drop(leader.finish(2));
    assert_eq!(late.wait().await, Some(2));
    assert_eq!(flights.keys_at_work(), 0);
}

#[tokio::test]
async fn a_forced_refresh_flies_alone_and_later_callers_join_it() {
    let flights = Flights::new();
    let key = Key::new("k");
    let mut old = lead(&flights, &key);
    let waiter = follow(&flights, &key);
    let mut forced = flights.lead_alone(&key, id());
    let newcomer = follow(&flights, &key);
    assert!(!old.ticket().commit(|| panic!("the older load must not be stored")));
    assert!(forced.ticket().commit(|| ()));
    drop(old.finish(1));
    drop(forced.finish(2));
    assert_eq!(waiter.wait().await, Some(1));
    assert_eq!(newcomer.wait().await, Some(2));
    assert_eq!(flights.keys_at_work(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_make_one_load() {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };
    let flights = Flights::<u32>::new();
    let loads = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(tokio::sync::Barrier::new(10_000));
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let (flights, loads, gate) = (flights.clone(), Arc::clone(&loads), Arc::clone(&gate));
            tokio::spawn(async move {
                let joined = flights.join(&Key::new("hot"), id());
                // The load ends only once everybody has joined.
                gate.wait().await;
                match joined {
                    Join::Lead(leader) => {
                        loads.fetch_add(1, Ordering::Relaxed);
                        drop(leader.finish(7));
                        Some(7)
                    }
                    Join::Follow(follower) => follower.wait().await,
                }
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Some(7));
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(flights.keys_at_work(), 0);
}

#[tokio::test]
async fn a_follower_that_goes_away_is_forgotten_and_its_place_is_free() {
    use std::{
        pin::Pin,
        sync::Arc,
        task::{Context, Wake},
    };
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let task = Arc::new(Task);
    let waker = Arc::clone(&task).into();
    let poll = |waiting: &mut Pin<Box<dyn Future<Output = Option<u32>>>>| {
        waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
    };
    let mut staying: Pin<Box<dyn Future<Output = _>>> = Box::pin(follow(&flights, &key).wait());
    assert!(poll(&mut staying));
    let held = Arc::strong_count(&task);
    for _ in 0..10 {
        let mut leaving: Pin<Box<dyn Future<Output = _>>> = Box::pin(follow(&flights, &key).wait());
        assert!(poll(&mut leaving) && poll(&mut leaving));
        assert_eq!(Arc::strong_count(&task), held + 1);
    }
    assert_eq!(Arc::strong_count(&task), held);
    drop(leader.finish(7));
    assert_eq!(staying.await, Some(7));
    assert_eq!(Arc::strong_count(&task), held - 1);
}

/// A future may be polled by another task than before: the last one is woken.
#[tokio::test]
async fn a_follower_that_moves_to_another_task_is_woken_there() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let mut waiting = Box::pin(follow(&flights, &key).wait());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let (moved, polled) = tokio::sync::oneshot::channel();
    let mut moved = Some(moved);
    let other = tokio::spawn(std::future::poll_fn(move |context| {
        let result = waiting.as_mut().poll(context);
        if let Some(moved) = moved.take() {
            moved.send(()).unwrap();
        }
        result
    }));
    polled.await.unwrap();
    drop(leader.finish(7));
    assert_eq!(other.await.unwrap(), Some(7));
}

fn tick(seconds: u64) -> Tick {
    Tick::ZERO + Duration::from_secs(seconds)
}

#[tokio::test]
async fn one_of_a_crowd_watches_the_clock_for_those_whose_deadline_is_not_before_its_own() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let mut followers: Vec<_> = (0..100).map(|_| follow(&flights, &key)).collect();
    assert!(followers[0].watch(tick(1)).is_none(), "nobody waits yet");
    let mut waiting: Vec<_> = followers.split_off(50).into_iter().map(|follower| Box::pin(follower.wait())).collect();
    for waiting in &mut waiting {
        assert!(futures_util::poll!(waiting).is_pending());
    }

    assert_eq!(followers[1].wait_watched(tick(1)).await, Err(Unwatched), "nobody watches yet");
    let watch = followers[0].watch(tick(1)).unwrap();
    assert!(followers[1].watch(tick(1)).is_none(), "somebody has the duty");
    let (mut earlier, mut same, mut later) = (follow(&flights, &key), follow(&flights, &key), follow(&flights, &key));
    assert_eq!(earlier.wait_watched(tick(0)).await, Err(Unwatched));
    let mut covered = [Box::pin(same.wait_watched(tick(1))), Box::pin(later.wait_watched(tick(2)))];
    for covered in &mut covered {
        assert!(futures_util::poll!(covered).is_pending());
    }

    drop(watch);
    for covered in covered {
        assert_eq!(covered.await, Err(Unwatched), "called");
    }
    assert!(followers[1].watch(tick(9)).is_none(), "once in the life of a flight");
    assert_eq!(later.wait_watched(tick(9)).await, Err(Unwatched));
    let mut waiting_on = Box::pin(later.wait());
    assert!(futures_util::poll!(&mut waiting_on).is_pending());
    drop(leader.finish(7));
    assert_eq!(waiting_on.await, Some(7));
    for waiting in waiting {
        assert_eq!(waiting.await, Some(7));
    }
}

#[tokio::test]
async fn who_is_watched_for_gets_the_result_and_so_the_watch_ends() {
    let flights = Flights::new();
    let key = Key::new("k");
    let leader = lead(&flights, &key);
    let mut crowd: Vec<_> = (0..16).map(|_| Box::pin(follow(&flights, &key).wait())).collect();
    for waiting in &mut crowd {
        assert!(futures_util::poll!(waiting).is_pending());
    }
    let watch = follow(&flights, &key).watch(tick(1)).unwrap();
    let mut follower = follow(&flights, &key);
    let mut covered = Box::pin(follower.wait_watched(tick(1)));
    let mut ended = Box::pin(watch.ended());
    assert!(futures_util::poll!(&mut covered).is_pending() && futures_util::poll!(&mut ended).is_pending());
    drop(leader.finish(7));
    assert_eq!(covered.await, Ok(Some(7)));
    ended.await;
    drop(watch);
}
