//! One rule broken at a time: the checker must find an interleaving in which it shows.

use std::{
    future::Future,
    pin::pin,
    process::Command,
    task::{Context, Poll},
};

use futures_util::task::noop_waker;
use loom::future::block_on;

use crate::{
    Follower, Join, Leader, Ticket, Watch, scenarios,
    world::{ID, Rules, World, explore},
};

/// In the environment of a child: the mutant that it is to run.
const CHILD: &str = "LARDER_FLIGHT_MUTANT";

/// Runs a scenario that must fail in this way. A deadlock ends the process in the checker's own clean-up, so the scenario
/// runs in a process of its own.
fn fails(test: &str, scenario: fn(), how: &str) {
    if std::env::var_os(CHILD).is_some() {
        explore(Some(3), scenario);
        return;
    }
    let program = std::env::current_exe().unwrap();
    let test = format!("mutants::{test}");
    let child = Command::new(program).args(["--exact", &test, "--nocapture"]).env(CHILD, &test).output().unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success(), "`{how}` was not found in any interleaving");
    assert!(said.contains(how), "expected `{how}`, found: {said}");
}

macro_rules! mutants {
    ($($test:ident: $scenario:ident, $how:literal, { $($rule:item)* })*) => {
        $(#[test]
        fn $test() {
            struct Mutant;
            impl Rules for Mutant {
                $($rule)*
            }
            fails(stringify!($test), scenarios::$scenario::<Mutant>, $how);
        })*
    };
}

mutants! {
    a_commit_in_two_steps_is_noticed: a_load_beside_an_invalidation_is_not_kept, "stored across the fence", {
        fn commit(world: &World, ticket: &mut Ticket<u32>, value: u32) -> bool {
            let valid = ticket.is_valid();
            if valid {
                world.store.set(Some(value));
            }
            valid
        }
    }

    a_store_that_is_cleared_before_the_fence_is_noticed: a_load_beside_an_invalidation_is_not_kept,
        "stored across the fence",
    {
        fn invalidate(world: &World) {
            world.store.set(None);
            world.flights.raise(&world.key, || ());
        }
    }

    a_wide_invalidation_in_the_wrong_order_is_noticed: a_load_beside_a_wide_invalidation_is_not_kept,
        "stored across the fence",
    {
        fn invalidate_wide(world: &World) {
            world.store.set(None);
            world.flights.raise_where(|_| true);
        }
    }

    a_fence_that_does_not_detach_is_noticed: who_comes_after_an_invalidation_gets_the_newer_value,
        "older than the caller's own invalidation",
    {
        fn invalidate(world: &World) {
            // Voids what is under way as a newer value would, and leaves the flight in the table.
            world.flights.with_slot(&world.flights.hashed(&world.key), |slot| slot.sequence += 1);
            world.store.set(None);
        }
    }

    a_join_in_two_steps_is_noticed: three_callers_load_one_at_a_time_and_all_are_answered, "two loads at a time", {
        fn join(world: &World) -> Join<u32> {
            if world.flights.in_flight() == 0 {
                return Join::Lead(world.flights.lead_alone(&world.key, ID));
            }
            world.flights.join(&world.key, ID)
        }
    }

    a_leader_that_goes_away_without_a_word_is_noticed: the_followers_of_a_leader_that_is_cancelled_join_again,
        "deadlock",
    {
        #[expect(clippy::mem_forget, reason = "this is the defect")]
        fn abandon(_world: &World, leader: Leader<u32>) {
            std::mem::forget(leader);
        }
    }

    a_flight_that_is_left_in_the_table_is_noticed: three_callers_load_one_at_a_time_and_all_are_answered,
        "a flight was left over",
    {
        #[expect(clippy::mem_forget, reason = "this is the defect")]
        fn finish(_world: &World, leader: Leader<u32>, result: u32) {
            std::mem::forget(leader.answer(result).answer(result));
        }

        fn wait(follower: Follower<u32>) -> Option<u32> {
            drop(follower);
            Some(0)
        }
    }

    a_wake_up_that_is_lost_is_noticed: three_callers_load_one_at_a_time_and_all_are_answered, "deadlock", {
        fn wait(follower: Follower<u32>) -> Option<u32> {
            let mut waiting = pin!(follower.wait());
            // Looks, and asks to be woken without looking again.
            let looked = waiting.as_mut().poll(&mut Context::from_waker(&noop_waker()));
            if let Poll::Ready(result) = looked {
                return result;
            }
            let mut late = None;
            let mut asked = false;
            block_on(std::future::poll_fn(|context| {
                if let Some(result) = late.take() {
                    return Poll::Ready(result);
                }
                match waiting.as_mut().poll(context) {
                    Poll::Ready(result) if !asked => late = Some(result),
                    polled => {
                        asked = true;
                        return polled;
                    }
                }
                Poll::Pending
            }))
        }
    }

    a_write_that_voids_nothing_is_noticed: a_write_beside_a_load_is_read_by_its_writer, "older than the caller's own write", {
        fn commit(world: &World, ticket: &mut Ticket<u32>, value: u32) -> bool {
            ticket.commit_copy(|| world.store.set(Some(value)))
        }
    }

    a_promotion_without_a_fence_is_noticed: a_promotion_beside_a_write_is_not_kept, "stored across the fence", {
        fn promote(world: &World) {
            let found = world.source.get();
            world.store.set(Some(found));
        }
    }

    a_ticket_that_is_taken_after_the_question_is_noticed: a_promotion_beside_a_write_is_not_kept,
        "stored across the fence",
    {
        fn promote(world: &World) {
            let found = world.source.get();
            let ticket = world.flights.ticket(&world.key);
            ticket.commit_copy(|| world.store.set(Some(found)));
        }
    }

    a_watch_that_ends_without_a_word_is_noticed: a_watch_that_is_over_is_heard_of_while_the_flight_goes_on,
        "deadlock",
    {
        #[expect(clippy::mem_forget, reason = "this is the defect")]
        fn call(watch: Watch<u32>) {
            std::mem::forget(watch);
        }
    }
}
