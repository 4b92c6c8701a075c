//! What must hold in every interleaving. Each scenario is generic in the rules, so that mutants run through the same.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use futures_util::task::noop_waker;
use larder_core::Tick;
use loom::future::block_on;

use crate::{
    FlightId, Join,
    world::{ID, Right, Rules, World, explore},
};

/// Says how many interleavings there were; a scenario that has become trivial fails.
fn check(name: &str, preemptions: Option<usize>, scenario: fn()) {
    let runs = explore(preemptions, scenario);
    let bound = preemptions.map_or_else(|| "all".to_owned(), |bound| format!("at most {bound} preemptions"));
    report(&format!("{name}: {runs} interleavings ({bound})"));
    assert!(runs > 10, "{name} has only {runs} interleavings");
}

#[expect(clippy::print_stdout, reason = "how much was checked is a part of the result")]
fn report(line: &str) {
    println!("{line}");
}

macro_rules! scenarios {
    ($($(#[$doc:meta])* $name:ident, $preemptions:expr, $world:ident => $body:block)*) => {
        $($(#[$doc])* pub(crate) fn $name<R: Rules>() {
            let $world = World::new();
            $body
        })*

        mod tests {
            use super::*;

            $(#[test]
            fn $name() {
                check(stringify!($name), $preemptions, super::$name::<Right>);
            })*
        }
    };
}

scenarios! {
    /// PROTOCOL 8: insert against bump.
    a_load_beside_an_invalidation_is_not_kept, None, world => {
        let loader = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate(&world);
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    /// PROTOCOL 9: join against detach.
    who_comes_after_an_invalidation_gets_the_newer_value, None, world => {
        let loader = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate(&world);
        assert!(R::load(&world) >= 1, "older than the caller's own invalidation");
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    two_callers_and_an_invalidation_by_a_third, Some(3), world => {
        let first = world.spawn(|world| { R::get(world); });
        let second = world.spawn(|world| { R::get(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate(&world);
        assert!(R::get(&world) >= 1, "older than the caller's own invalidation");
        first.join().unwrap();
        second.join().unwrap();
        world.check_at_rest(1);
    }

    a_load_beside_a_wide_invalidation_is_not_kept, None, world => {
        let loader = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate_wide(&world);
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    who_comes_after_a_wide_invalidation_gets_the_newer_value, None, world => {
        let loader = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate_wide(&world);
        assert!(R::load(&world) >= 1, "older than the caller's own invalidation");
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    three_callers_load_one_at_a_time_and_all_are_answered, Some(3), world => {
        let first = world.spawn(|world| assert_eq!(R::load(world), 0));
        let second = world.spawn(|world| assert_eq!(R::load(world), 0));
        assert_eq!(R::load(&world), 0);
        first.join().unwrap();
        second.join().unwrap();
        world.check_at_rest(0);
    }

    the_followers_of_a_leader_that_is_cancelled_join_again, Some(3), world => {
        let cancelled = world.spawn(|world| match R::join(world) {
            Join::Lead(leader) => R::abandon(world, leader),
            Join::Follow(follower) => { R::wait(follower); }
        });
        let other = world.spawn(|world| { R::load(world); });
        R::load(&world);
        cancelled.join().unwrap();
        other.join().unwrap();
        world.check_at_rest(0);
    }

    the_followers_of_a_leader_that_panics_join_again, None, world => {
        let panicking = world.spawn(|world| {
            let Join::Lead(leader) = R::join(world) else { return };
            let defect = catch_unwind(AssertUnwindSafe(|| {
                let _leader = leader;
                // Without the message of a panic.
                std::panic::resume_unwind(Box::new("the loader's defect"));
            }));
            assert!(defect.is_err());
        });
        R::load(&world);
        panicking.join().unwrap();
        world.check_at_rest(0);
    }

    a_follower_that_goes_away_takes_nobody_with_it, Some(3), world => {
        let cancelled = world.spawn(|world| match R::join(world) {
            Join::Lead(leader) => { R::lead(world, leader); }
            Join::Follow(follower) => {
                let waker = noop_waker();
                let mut waiting = pin!(follower.wait());
                let polled = waiting.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(matches!(polled, Poll::Pending | Poll::Ready(Some(0))));
            }
        });
        let other = world.spawn(|world| { R::load(world); });
        R::load(&world);
        cancelled.join().unwrap();
        other.join().unwrap();
        world.check_at_rest(0);
    }

    /// Whoever counts on another to watch the clock is told that the watch is over, or how the flight ended.
    who_is_watched_for_hears_of_the_end_or_of_the_watch, Some(3), world => {
        let Join::Lead(leader) = R::join(&world) else { panic!("nobody else is there") };
        let mut crowd = pin!(match R::join(&world) {
            Join::Follow(follower) => follower.wait(),
            Join::Lead(_) => panic!("there is a leader"),
        });
        let waker = noop_waker();
        assert!(crowd.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let (Join::Follow(watching), Join::Follow(watched)) = (R::join(&world), R::join(&world)) else {
            panic!("there is a leader")
        };
        let watch = watching.watch(Tick::ZERO).unwrap();
        let other = world.spawn(move |_| assert_eq!(R::wait_watched(watched), Some(0)));
        let caller = world.spawn(move |_| R::call(watch));
        R::lead(&world, leader);
        other.join().unwrap();
        caller.join().unwrap();
        world.check_at_rest(0);
    }

    /// The same while the flight goes on: it does not end before the watch has been heard of.
    a_watch_that_is_over_is_heard_of_while_the_flight_goes_on, None, world => {
        let Join::Lead(leader) = R::join(&world) else { panic!("nobody else is there") };
        let mut crowd = pin!(match R::join(&world) {
            Join::Follow(follower) => follower.wait(),
            Join::Lead(_) => panic!("there is a leader"),
        });
        let waker = noop_waker();
        assert!(crowd.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let (Join::Follow(watching), Join::Follow(mut watched)) = (R::join(&world), R::join(&world)) else {
            panic!("there is a leader")
        };
        let watch = watching.watch(Tick::ZERO).unwrap();
        let other = world.spawn(move |_| {
            assert!(block_on(watched.wait_watched(Tick::ZERO)).is_err(), "the flight has not ended");
        });
        R::call(watch);
        other.join().unwrap();
        R::lead(&world, leader);
        world.check_at_rest(0);
    }

    a_write_beside_a_load_is_read_by_its_writer, None, world => {
        let loader = world.spawn(|world| { R::load(world); });
        world.allow_another();
        world.allow_another();
        R::write(&world, 1, true);
        assert!(R::load(&world) >= 1, "older than the caller's own write");
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    /// The store may refuse a written value or drop it at once: the writer must not meet a load that began before.
    a_write_that_is_not_kept_is_read_by_its_writer, None, world => {
        let loader = world.spawn(|world| { R::load(world); });
        world.allow_another();
        world.allow_another();
        R::write(&world, 1, false);
        assert!(R::load(&world) >= 1, "older than the caller's own write");
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    a_promotion_beside_a_write_is_not_kept, None, world => {
        let promoter = world.spawn(|world| R::promote(world));
        R::write(&world, 1, true);
        promoter.join().unwrap();
        world.check_at_rest(1);
    }

    a_promotion_and_a_load_beside_an_invalidation_are_not_kept, Some(3), world => {
        let promoter = world.spawn(|world| R::promote(world));
        let loader = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate(&world);
        promoter.join().unwrap();
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    /// A copy of an older value does not replace what a load brought meanwhile.
    a_promotion_never_replaces_what_was_loaded_later, None, world => {
        let promoter = world.spawn(|world| R::promote(world));
        world.source.set(1);
        assert_eq!(R::load(&world), 1);
        promoter.join().unwrap();
        world.check_at_rest(1);
    }

    /// An expiry rewrites what is stored, within the fence; it must not bring back what an invalidation removed.
    an_expiry_beside_an_invalidation_brings_nothing_back, Some(3), world => {
        let expiry = world.spawn(|world| {
            world.allow_another();
            world.flights.raise(&world.key, || {
                let entry = world.store.get();
                world.store.set(entry);
            });
        });
        let loader = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate(&world);
        expiry.join().unwrap();
        loader.join().unwrap();
        world.check_at_rest(1);
    }

    /// A stale value for those who wait now, and the loaded one for those who come later.
    an_early_answer_reaches_everybody_once_and_no_later_caller, None, world => {
        let other = world.spawn(|world| { R::load(world); });
        if let Join::Lead(leader) = R::join(&world) {
            let leader = leader.answer(0);
            world.source.set(1);
            world.allow_another();
            R::invalidate(&world);
            R::lead(&world, leader);
        }
        other.join().unwrap();
        world.check_at_rest(0);
    }

    who_joins_after_an_invalidation_misses_an_earlier_answer, Some(3), world => {
        let leader = world.spawn(|world| if let Join::Lead(leader) = R::join(world) {
            // A stale value is found after the lead was taken, as the loaded one is.
            let found = world.source.get();
            let leader = leader.answer(found);
            let value = world.begin_load();
            world.end_load();
            R::finish(world, leader, value);
        });
        let other = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        R::invalidate(&world);
        assert!(R::load(&world) >= 1, "older than the caller's own invalidation");
        leader.join().unwrap();
        other.join().unwrap();
        world.check_at_rest(1);
    }

    a_forced_refresh_beside_two_callers_is_what_is_kept, Some(3), world => {
        let first = world.spawn(|world| { R::load(world); });
        let second = world.spawn(|world| { R::load(world); });
        world.source.set(1);
        world.allow_another();
        let forced = world.flights.lead_alone(&world.key, ID);
        assert_eq!(R::lead(&world, forced), 1);
        first.join().unwrap();
        second.join().unwrap();
        world.check_at_rest(1);
    }

    /// Calls of other options have flights of their own; the first commit voids and detaches the others.
    what_one_flight_committed_is_not_undone_by_another, None, world => {
        world.allowed.store(2, Ordering::Relaxed);
        let other = world.spawn(|world| {
            let id = FlightId { options: 1, ..ID };
            match world.flights.join(&world.key, id) {
                Join::Lead(leader) => { R::lead(world, leader); }
                Join::Follow(_) => panic!("nobody else has these options"),
            }
        });
        world.source.set(1);
        let Join::Lead(mut leader) = R::join(&world) else { panic!("nobody else has these options") };
        let committed = R::commit(&world, leader.ticket(), 1);
        R::finish(&world, leader, 1);
        other.join().unwrap();
        world.check_at_rest(u32::from(committed));
    }
}
