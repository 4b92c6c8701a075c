//! The list of the cases.

/// Makes one test of each case of the [suite](crate::conformance), in a module a subject. The argument names an
/// `async fn() -> Fixture` in the same module.
#[macro_export]
macro_rules! conformance_tests {
    ($make:ident) => {
        $crate::__conformance_cases! { __conformance_tests, $make }
    };
}

/// Runs every case of the [suite](crate::conformance), one after the other, for a backend whose servers are too slow to
/// start for each of them. The argument is an `AsyncFn() -> Fixture`.
#[macro_export]
macro_rules! conformance_suite {
    ($make:expr) => {{
        let make = $make;
        $crate::__conformance_cases! { __conformance_suite, make }
    }};
}

/// Not part of the interface: the cases, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($then:ident, $make:ident) => {
        $crate::$then! { $make
            values {
                what_was_set_is_read_back,
                a_second_write_replaces_the_first,
                bytes_of_every_kind_survive,
                an_empty_value_is_a_value,
                a_mebibyte_survives,
                keys_of_any_script_work,
                keys_differ_in_case_and_are_compared_whole,
                a_key_at_the_length_limit_works,
            }
            conditions {
                only_if_absent_stores_once_and_again_after_a_delete,
                a_refused_write_leaves_value_and_life,
                only_if_present_writes_over_a_value_and_creates_none,
                a_plain_write_discards_the_old_life,
                keeping_the_life_keeps_it_and_starts_none,
                conditions_hold_one_by_one_in_a_batch,
            }
            timeouts {
                a_value_is_gone_after_its_life,
                an_expired_key_is_free_again,
                a_life_of_zero_stores_nothing_and_removes_what_was_there,
                a_life_of_zero_obeys_conditions,
                a_life_that_was_counted_down_below_zero_is_zero,
                a_tiny_life_is_no_error,
                lives_are_kept_to_the_millisecond,
                an_endless_life_does_not_expire,
            }
            many {
                answers_stand_in_the_order_of_the_keys,
                no_keys_get_no_answers,
                a_thousand_keys_in_one_call,
                a_later_write_of_a_batch_wins,
                deleting_tells_of_each_key_whether_it_was_there,
                lives_are_read_with_the_values,
                lives_are_changed_key_by_key,
            }
            ttl {
                a_key_without_a_life_stays_and_an_absent_one_has_none,
                a_life_can_be_given_and_replaced,
                a_key_whose_life_was_shortened_expires,
                a_key_can_expire_at_a_time,
                a_past_time_removes_the_key,
                a_life_of_zero_removes_the_key,
                a_life_can_be_taken_away,
                changing_the_life_of_an_absent_key_answers_false,
            }
            counters {
                a_counter_starts_at_zero_and_goes_both_ways,
                an_absent_counter_has_no_count,
                a_counter_gets_its_life_when_it_is_created,
                an_expired_counter_starts_again,
                an_overflow_is_an_error_and_changes_nothing,
                what_is_no_integer_is_no_counter,
                a_counter_is_its_decimal_text,
            }
            patterns {
                deleting_by_pattern_removes_only_what_matches,
                a_star_in_a_key_can_be_asked_for,
                pages_of_any_size_lose_no_key,
                expired_keys_are_not_listed,
                clearing_a_prefix_leaves_the_others,
                a_scan_that_is_dropped_does_no_harm,
                globs_match_by_the_rules_of_redis,
            }
            atomic {
                the_first_to_ask_stores_its_value,
                a_stored_value_has_the_life_it_was_given,
                a_comparison_by_prefix_length_or_the_whole,
                an_absent_key_is_never_as_expected,
                a_comparison_sets_the_life_of_its_value,
                a_comparison_deletes_only_what_was_expected,
            }
            locks {
                a_lock_has_one_holder_at_a_time,
                the_holder_may_ask_again,
                only_the_holder_extends_the_lease,
                only_the_holder_releases,
                a_lease_ends_by_itself,
            }
            concurrency {
                no_increment_is_lost,
                one_of_many_stores_its_value,
                one_of_many_gets_the_lock,
                one_of_many_writes_if_absent,
                a_value_is_never_seen_in_part,
            }
            powers {
                the_backend_has_a_name_and_gives_a_sign_of_life,
                a_pattern_without_a_scan_is_unsupported,
                a_message_reaches_those_who_listen,
                keys_are_removed_and_told_of_in_one_step,
                figures_count_the_keys,
            }
        }
    };
}

/// Not part of the interface: what [`conformance_tests!`] expands to.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($make:ident $($subject:ident { $($case:ident),* $(,)? })*) => {$(
        mod $subject {$(
            #[test]
            fn $case() {
                $crate::conformance::run(stringify!($case), super::$make, $crate::conformance::$subject::$case);
            }
        )*}
    )*};
}

/// Not part of the interface: what [`conformance_suite!`] expands to.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_suite {
    ($make:ident $($subject:ident { $($case:ident),* $(,)? })*) => {$($(
        $crate::conformance::run(stringify!($case), &$make, $crate::conformance::$subject::$case);
    )*)*};
}
