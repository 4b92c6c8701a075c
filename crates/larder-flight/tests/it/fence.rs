use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use larder_core::Key;
use larder_flight::{Flights, Join};

use crate::id;

#[test]
fn a_load_that_began_before_an_invalidation_is_not_stored() {
    let flights = Flights::<u32>::new();
    let key = Key::new("k");
    let Join::Lead(mut leader) = flights.join(&key, id()) else { panic!("nobody else loads") };
    flights.raise(&key, || ());
    assert!(!leader.ticket().commit(|| panic!("stored across the fence")));
    assert!(!leader.ticket().is_valid());
}

#[test]
fn a_ticket_taken_after_the_invalidation_is_valid() {
    let flights = Flights::<u32>::new();
    let key = Key::new("k");
    flights.raise(&key, || ());
    let mut ticket = flights.ticket(&key);
    let mut stored = false;
    assert!(ticket.commit(|| stored = true));
    assert!(stored);
}

#[test]
fn a_new_value_voids_older_copies_and_a_copy_voids_nothing() {
    let flights = Flights::<u32>::new();
    let key = Key::new("k");
    let promotion = flights.ticket(&key);
    let other_promotion = flights.ticket(&key);
    let mut load = flights.ticket(&key);
    assert!(promotion.commit_copy(|| ()));
    assert!(load.commit(|| ()));
    assert!(load.is_valid());
    assert!(!other_promotion.commit_copy(|| panic!("an older copy over a newer value")));
}

#[test]
fn a_wide_invalidation_concerns_only_the_keys_it_names() {
    let flights = Flights::<u32>::new();
    let mut user = flights.ticket(&Key::new("user:7"));
    let mut order = flights.ticket(&Key::new("order:7"));
    flights.raise_where(|key| key.starts_with("user:"));
    assert!(!user.commit(|| ()));
    assert!(order.commit(|| ()));
}

#[test]
fn the_table_is_empty_when_nobody_is_at_work() {
    let flights = Flights::<u32>::new();
    for number in 0..1000 {
        let key = Key::new(&number);
        let ticket = flights.ticket(&key);
        flights.raise(&key, || ());
        drop(ticket);
    }
    assert_eq!(flights.keys_at_work(), 0);
}

/// A store of one cell, with loads, invalidations and reads on two threads: whatever the interleaving, a value loaded
/// before an invalidation is never found after it.
#[test]
fn no_interleaving_of_insert_and_raise_leaves_an_old_value() {
    for _ in 0..2000 {
        let flights = Flights::<u32>::new();
        let key = Key::new("k");
        let stored = Arc::new(AtomicBool::new(false));
        let mut ticket = flights.ticket(&key);
        std::thread::scope(|scope| {
            scope.spawn(|| ticket.commit(|| stored.store(true, Ordering::Relaxed)));
            scope.spawn(|| flights.raise(&key, || stored.store(false, Ordering::Relaxed)));
        });
        assert!(!stored.load(Ordering::Relaxed));
    }
}

/// A store may refuse what is written, and some calls do not read it: whoever comes after a write must not be sent to a
/// load that began before it.
#[tokio::test]
async fn a_write_detaches_the_flights_that_began_before_it() {
    let flights = Flights::<u32>::new();
    let key = Key::new("k");
    let mut write = flights.ticket(&key);
    let Join::Lead(old) = flights.join(&key, id()) else { panic!("nobody else loads") };
    let waiter = old.follow();
    assert!(write.commit(|| ()));
    assert!(matches!(flights.join(&key, id()), Join::Lead(_)));
    drop(old.finish(1));
    assert_eq!(waiter.wait().await, Some(1));
}

#[test]
fn a_load_that_is_committed_goes_on_until_it_is_finished() {
    let flights = Flights::<u32>::new();
    let key = Key::new("k");
    let Join::Lead(mut leader) = flights.join(&key, id()) else { panic!("nobody else loads") };
    assert!(leader.ticket().commit(|| ()));
    assert!(matches!(flights.join(&key, id()), Join::Follow(_)));
}
