//! The list of the cases.

/// Makes one test of each case of the [suite](crate::conformance), in a module a subject. The argument names an
/// `async fn() -> Fixture` in the same module.
#[macro_export]
macro_rules! conformance_tests {
    ($make:ident) => {
        $crate::__conformance_cases! { $make
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
        }
    };
}

/// Not part of the interface: what [`conformance_tests!`] expands to.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($make:ident $($subject:ident { $($case:ident),* $(,)? })*) => {$(
        mod $subject {$(
            #[test]
            fn $case() {
                $crate::conformance::run(stringify!($case), super::$make, $crate::conformance::$subject::$case);
            }
        )*}
    )*};
}
