//! The suite finds out backends that break their contract: each flaw fails the case that is about it.

mod backend;

use std::sync::Arc;

use larder_testing::{
    ManualClock, ModelBackend,
    conformance::{self, Fixture, Power},
};

use self::backend::{Flaw, FlawedBackend};

fn flawed(flaw: Flaw) -> Fixture {
    let clock = ManualClock::new();
    let backend = FlawedBackend::new(ModelBackend::new(Arc::new(clock.clone())), flaw);
    Fixture::new(Arc::new(backend))
        .powers([Power::Scan, Power::Atomic, Power::Counter, Power::Lock])
        .manual_clock(clock)
}

/// One test of each flaw: the case panics on it, with this in its message.
macro_rules! found_out {
    ($($name:ident: $flaw:ident fails $subject:ident::$case:ident with $message:literal,)*) => {$(
        #[test]
        #[should_panic(expected = $message)]
        fn $name() {
            conformance::run(stringify!($name), async || flawed(Flaw::$flaw), conformance::$subject::$case);
        }
    )*};
}

found_out! {
    an_empty_value_that_is_taken_for_none:
        EmptyIsAbsent fails values::an_empty_value_is_a_value
            with ":empty\n  left: None",
    bytes_that_are_taken_for_text:
        TextOnly fails values::bytes_of_every_kind_survive
            with ":8\n  left: Some(b\"\\xef\\xbf\\xbd",
    conditions_that_are_ignored:
        ConditionsIgnored fails conditions::only_if_absent_stores_once_and_again_after_a_delete
            with "left: Stored\n right: Rejected",
    a_refused_write_that_renews_the_life:
        RefusedWriteRenews fails conditions::a_refused_write_leaves_value_and_life
            with ":mortal\n  left: Some(For(6000s))\n right: Some(For(600s))",
    a_kept_life_that_is_forgotten:
        KeepForgets fails conditions::keeping_the_life_keeps_it_and_starts_none
            with ":mortal\n  left: Some(Forever)\n right: Some(For(600s))",
    a_life_of_zero_that_stores:
        ZeroStores fails timeouts::a_life_of_zero_stores_nothing_and_removes_what_was_there
            with ":absent, which must be absent\n  left: Some(b\"new\")",
    lives_in_whole_seconds:
        WholeSeconds fails timeouts::lives_are_kept_to_the_millisecond
            with "left: Some(For(30s))\n right: Some(For(30.499s))",
    answers_in_another_order:
        AnswersBackwards fails many::answers_stand_in_the_order_of_the_keys
            with "left: [None, Some(",
    absent_keys_without_an_answer:
        AbsentAnswersLeftOut fails many::answers_stand_in_the_order_of_the_keys
            with "left: [Some(b\"3\"), Some(b\"1\")",
    a_delete_that_always_says_yes:
        DeleteAlwaysTrue fails many::deleting_tells_of_each_key_whether_it_was_there
            with "left: [true, true, true, true]",
    a_past_time_that_denies_the_key:
        PastTimeAnswersFalse fails ttl::a_past_time_removes_the_key
            with "1 ms",
    a_counter_whose_increments_renew_it:
        CounterRenewsItsLife fails counters::a_counter_gets_its_life_when_it_is_created
            with ":mortal\n  left: Some(For(6000s))\n right: Some(For(600s))",
    a_counter_that_wraps:
        CounterWraps fails counters::an_overflow_is_an_error_and_changes_nothing
            with "`Ok` value: -9223372036854775808",
    a_scan_of_one_page:
        FirstPageOnly fails patterns::pages_of_any_size_lose_no_key
            with "pages of 1 lose Some(",
    a_comparison_without_the_length:
        LengthIgnored fails atomic::a_comparison_by_prefix_length_or_the_whole
            with "length: Some(5) }\n  left: true",
    an_absent_key_that_compares:
        AbsentMatchesAnything fails atomic::an_absent_key_is_never_as_expected
            with "length: None }\n  left: Stored",
    a_lock_that_refuses_its_holder:
        HolderIsRefused fails locks::the_holder_may_ask_again
            with "lock.acquire(&key, \"one\", LONG)",
    a_lock_that_anyone_releases:
        AnyoneReleases fails locks::only_the_holder_releases
            with "two",
    a_get_and_a_set_instead_of_one_step:
        GetThenSet fails concurrency::one_of_many_stores_its_value
            with "right: 1",
}
