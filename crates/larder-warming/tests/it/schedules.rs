use std::time::Duration;

use larder_core::{ErrorKind, UnixMillis};
use larder_warming::Schedule;

use crate::clock::at;

fn due(expression: &str, zone: &str, after: &str, count: usize) -> Vec<UnixMillis> {
    Schedule::cron(expression, zone).expect("a valid schedule").upcoming(at(after)).take(count).collect()
}

fn times<const N: usize>(times: [&str; N]) -> Vec<UnixMillis> {
    times.into_iter().map(at).collect()
}

#[test]
fn the_market_opens_at_the_same_local_time_before_and_after_the_clocks_change_in_new_york() {
    assert_eq!(
        due("30 9 * * Mon-Fri", "America/New_York", "2026-03-05T20:00:00Z", 3),
        times(["2026-03-06T14:30:00Z", "2026-03-09T13:30:00Z", "2026-03-10T13:30:00Z"])
    );
    assert_eq!(
        due("30 9 * * Mon-Fri", "America/New_York", "2026-10-30T12:00:00Z", 2),
        times(["2026-10-30T13:30:00Z", "2026-11-02T14:30:00Z"])
    );
}

#[test]
fn the_same_holds_in_london() {
    assert_eq!(
        due("0 8 * * *", "Europe/London", "2026-03-28T00:00:00Z", 3),
        times(["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"])
    );
    assert_eq!(
        due("0 8 * * *", "Europe/London", "2026-10-24T12:00:00Z", 2),
        times(["2026-10-25T08:00:00Z", "2026-10-26T08:00:00Z"])
    );
}

#[test]
fn a_fixed_time_that_the_clock_leaps_over_is_due_right_after_the_leap() {
    assert_eq!(
        due("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2),
        times(["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"])
    );
}

#[test]
fn a_fixed_time_that_comes_twice_is_due_once() {
    assert_eq!(
        due("30 1 * * *", "Europe/London", "2026-10-24T12:00:00Z", 2),
        times(["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"])
    );
}

#[test]
fn a_step_of_minutes_goes_by_elapsed_time_through_the_repeated_hour() {
    assert_eq!(
        due("*/30 * * * *", "America/New_York", "2026-11-01T04:45:00Z", 5),
        times([
            "2026-11-01T05:00:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:30:00Z",
            "2026-11-01T07:00:00Z"
        ])
    );
}

#[test]
fn half_an_hour_before_the_market_opens() {
    let opening = Schedule::cron("30 9 * * Mon-Fri", "America/New_York").unwrap().before(Duration::from_secs(1800));
    assert_eq!(opening.next_after(at("2026-03-06T13:59:59Z")), Some(at("2026-03-06T14:00:00Z")));
    assert_eq!(opening.next_after(at("2026-03-06T14:00:00Z")), Some(at("2026-03-09T13:00:00Z")));
    assert_eq!(opening.to_string(), "30 9 * * Mon-Fri (America/New_York), 1800s before");
}

#[test]
fn a_due_time_is_strictly_after_the_time_that_was_asked_for() {
    let hourly = Schedule::cron("0 * * * *", "UTC").unwrap();
    assert_eq!(hourly.next_after(at("2026-01-01T10:00:00Z")), Some(at("2026-01-01T11:00:00Z")));
    let millisecond_before = UnixMillis(at("2026-01-01T10:00:00Z").0 - 1);
    assert_eq!(hourly.next_after(millisecond_before), Some(at("2026-01-01T10:00:00Z")));
}

#[test]
fn seconds_may_stand_in_front() {
    assert_eq!(due("15 0 12 * * *", "UTC", "2026-01-01T00:00:00Z", 1), times(["2026-01-01T12:00:15Z"]));
}

#[test]
fn an_unreadable_expression_and_an_unknown_time_zone_are_refused_by_name() {
    for (expression, zone, expected) in [
        ("30 25 * * *", "UTC", "`expression` is \"30 25 * * *\""),
        ("every morning", "UTC", "`expression` is \"every morning\""),
        ("", "UTC", "`expression` is \"\""),
        ("0 9 * * * * 2026", "UTC", "`expression` is \"0 9 * * * * 2026\""),
        ("0 0 30 2 *", "UTC", "`expression` is \"0 0 30 2 *\", which no day ever meets"),
        ("0 9 * * *", "New York", "`zone` is \"New York\""),
        ("0 9 * * *", "", "`zone` is \"\""),
    ] {
        let error = Schedule::cron(expression, zone).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().starts_with(expected), "{expression} {zone}: {error}");
    }
}

#[test]
fn times_at_the_ends_of_the_calendar_do_no_harm() {
    let daily = Schedule::cron("0 9 * * *", "UTC").unwrap();
    assert_eq!(daily.next_after(UnixMillis::FOREVER), None);
    assert_eq!(daily.clone().before(Duration::MAX).next_after(UnixMillis(0)), None);
    assert!(daily.next_after(UnixMillis(0)).is_some());
}
