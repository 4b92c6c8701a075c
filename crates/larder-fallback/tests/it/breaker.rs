use std::time::Duration;

use larder_core::{ErrorKind, Tick};
use larder_fallback::{Breaker, BreakerSettings, BreakerState};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const START: Tick = Tick::from_nanos(1_000_000_000_000);

fn breaker() -> Breaker {
    Breaker::new(BreakerSettings::default()).expect("the defaults are allowed")
}

/// Fails until it opens; answers how many faults that took.
fn open(breaker: &mut Breaker, now: Tick) -> u32 {
    for faults in 1..100 {
        let ticket = breaker.admit().expect("it is still closed");
        if breaker.failed(ticket, now, 1.0) {
            return faults;
        }
    }
    panic!("it does not open");
}

#[test]
fn it_opens_after_three_faults_in_a_row() {
    let mut breaker = breaker();
    assert_eq!(open(&mut breaker, START), 3);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.admit(), None);
}

#[test]
fn an_answer_between_two_faults_begins_the_row_anew() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    // Fewer calls than it takes for their share to say something.
    for _ in 0..6 {
        assert!(!breaker.failed(ticket, START, 1.0));
        assert!(!breaker.failed(ticket, START, 1.0));
        assert!(!breaker.is_calm());
        breaker.succeeded(ticket, START);
        assert!(breaker.is_calm());
    }
}

#[test]
fn faults_that_lie_further_apart_than_the_window_are_no_row() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    for step in 0..10 {
        assert!(!breaker.failed(ticket, START + SECOND * 11 * step, 1.0));
    }
}

#[test]
fn half_open_lets_exactly_one_probe_through() {
    let mut breaker = breaker();
    open(&mut breaker, START);
    assert!(!breaker.begin_probe(START + MILLISECOND * 249));
    let due = START + MILLISECOND * 250;
    assert_eq!(breaker.probe_due(), Some(due));
    assert!(breaker.begin_probe(due));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!((0..1000).all(|_| !breaker.begin_probe(due)));
    assert_eq!(breaker.admit(), None);
    assert!(breaker.probe_succeeded());
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(!breaker.probe_succeeded());
}

#[test]
fn pauses_double_up_to_the_longest_and_begin_anew_after_a_close() {
    let mut breaker = breaker();
    open(&mut breaker, START);
    let mut now = START;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let due = breaker.probe_due().unwrap();
        pauses.push(due.since(now).as_millis());
        now = due;
        assert!(breaker.begin_probe(now));
        breaker.probe_failed(now, 1.0);
    }
    assert_eq!(pauses, [250, 500, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000]);
    now = breaker.probe_due().unwrap();
    assert!(breaker.begin_probe(now) && breaker.probe_succeeded());
    open(&mut breaker, now);
    assert_eq!(breaker.probe_due(), Some(now + MILLISECOND * 250));
}

#[test]
fn chance_spreads_a_pause_over_its_upper_half() {
    for (chance, pause) in [(0.0, 125), (0.5, 187), (1.0, 250)] {
        let mut breaker = breaker();
        let ticket = breaker.admit().unwrap();
        for _ in 0..3 {
            breaker.failed(ticket, START, chance);
        }
        assert_eq!(breaker.probe_due().unwrap().since(START).as_millis(), pause);
    }
}

#[test]
fn a_call_from_before_the_last_change_says_nothing() {
    let mut breaker = breaker();
    let early = breaker.admit().unwrap();
    open(&mut breaker, START);
    let due = breaker.probe_due().unwrap();
    assert!(breaker.begin_probe(due) && breaker.probe_succeeded());
    for _ in 0..10 {
        assert!(!breaker.failed(early, due, 1.0));
    }
    assert!(breaker.is_calm());
    let ticket = breaker.admit().unwrap();
    breaker.failed(ticket, due, 1.0);
    breaker.succeeded(early, due);
    assert!(!breaker.is_calm());
}

#[test]
fn a_probe_that_was_dropped_may_be_begun_again_at_once() {
    let mut breaker = breaker();
    open(&mut breaker, START);
    let due = breaker.probe_due().unwrap();
    assert!(breaker.begin_probe(due));
    breaker.probe_dropped(due);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(breaker.begin_probe(due));
}

#[test]
fn what_is_forced_stays_until_it_is_taken_back() {
    let mut breaker = breaker();
    breaker.force_open();
    assert_eq!((breaker.state(), breaker.admit(), breaker.probe_due()), (BreakerState::ForcedOpen, None, None));
    breaker.auto(START);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(breaker.begin_probe(START) && breaker.probe_succeeded());

    breaker.force_closed();
    let ticket = breaker.admit().unwrap();
    assert!((0..10).all(|_| !breaker.failed(ticket, START, 1.0)));
    assert_eq!(breaker.state(), BreakerState::ForcedClosed);
    breaker.auto(START);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn wrong_settings_are_named() {
    let named = |change: &dyn Fn(&mut BreakerSettings)| {
        let mut settings = BreakerSettings::default();
        change(&mut settings);
        let error = Breaker::new(settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(named(&|settings| settings.failures = 0).contains("`failures`"));
    assert!(named(&|settings| settings.window = Duration::ZERO).contains("`window`"));
    assert!(named(&|settings| settings.first_pause = Duration::ZERO).contains("`first_pause`"));
    assert!(named(&|settings| settings.longest_pause = MILLISECOND).contains("`longest_pause`"));
    assert!(named(&|settings| settings.minimum_calls = 0).contains("`minimum_calls`"));
    assert!(named(&|settings| settings.window_calls = 1).contains("`window_calls`"));
    assert!(named(&|settings| settings.failure_percent = 0).contains("`failure_percent`"));
    assert!(named(&|settings| settings.slow_percent = 101).contains("`slow_percent`"));
    assert!(named(&|settings| settings.successes = 0).contains("`successes`"));
}

#[test]
fn half_of_the_calls_failing_opens_it_though_others_are_answered_in_between() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    let mut calls = 0;
    while !breaker.failed(ticket, START, 1.0) {
        breaker.succeeded(ticket, START);
        calls += 2;
        assert!(calls < 100, "it does not open");
    }
    assert_eq!(calls + 1, 21);
}

#[test]
fn a_third_of_the_calls_failing_does_not() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    for step in 0..1000 {
        assert!(!breaker.failed(ticket, START + MILLISECOND * step, 1.0));
        breaker.succeeded(ticket, START + MILLISECOND * step);
        breaker.succeeded_calmly(1, START + MILLISECOND * step);
    }
}

#[test]
fn a_million_good_calls_do_not_hide_that_it_fails_now() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    for _ in 0..1000 {
        breaker.succeeded_calmly(1000, START);
    }
    let mut faults = 1;
    while !breaker.failed(ticket, START, 1.0) {
        breaker.succeeded(ticket, START);
        faults += 1;
        assert!(faults <= 1000, "it does not open");
    }
}

#[test]
fn faults_leave_the_window_with_time() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    for _ in 0..9 {
        assert!(!breaker.failed(ticket, START, 1.0));
        breaker.succeeded(ticket, START);
    }
    let later = START + SECOND * 10;
    breaker.succeeded_calmly(10, later);
    for _ in 0..5 {
        assert!(!breaker.failed(ticket, later, 1.0));
        breaker.succeeded(ticket, later);
    }
}

#[test]
fn slow_calls_open_it_once_nearly_all_of_them_are() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    for _ in 0..250 {
        for _ in 0..3 {
            assert!(!breaker.slow(ticket, START, 1.0));
        }
        breaker.succeeded(ticket, START);
    }
    let mut slow = 1;
    while !breaker.slow(ticket, START, 1.0) {
        slow += 1;
        assert!(slow < 1000, "it does not open");
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn few_calls_say_nothing() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    assert!((0..19).all(|_| !breaker.slow(ticket, START, 1.0)));
    assert!(breaker.slow(ticket, START, 1.0));
}

#[test]
fn a_nudge_ends_the_pause_and_no_more() {
    let mut breaker = breaker();
    breaker.nudge(START);
    assert_eq!(breaker.state(), BreakerState::Closed);
    open(&mut breaker, START);
    breaker.nudge(START + MILLISECOND);
    assert_eq!(breaker.probe_due(), Some(START + MILLISECOND));
    assert!(breaker.begin_probe(START + MILLISECOND));
    breaker.probe_failed(START + MILLISECOND, 1.0);
    assert_eq!(breaker.probe_due(), Some(START + MILLISECOND * 501));
}

#[test]
fn what_the_backend_says_of_itself_opens_it_at_once() {
    let mut breaker = breaker();
    let ticket = breaker.admit().unwrap();
    assert!(breaker.open_now(ticket, START, 1.0));
    assert!(!breaker.open_now(ticket, START, 1.0));
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker.force_closed();
    assert!(!breaker.open_now(breaker.admit().unwrap(), START, 1.0));
}

#[test]
fn a_pause_may_be_as_long_as_can_be_said() {
    let mut settings = BreakerSettings::default();
    (settings.first_pause, settings.longest_pause) = (Duration::MAX, Duration::MAX);
    let mut breaker = Breaker::new(settings).unwrap();
    let ticket = breaker.admit().unwrap();
    assert!(breaker.open_now(ticket, Tick::ZERO, 1.0));
    assert_eq!(breaker.probe_due(), Some(Tick::FOREVER));
}

#[test]
fn a_nudge_during_a_probe_is_not_lost_if_that_fails() {
    let mut breaker = breaker();
    let due = START + SECOND;
    open(&mut breaker, START);
    assert!(breaker.begin_probe(due));
    breaker.nudge(due);
    breaker.probe_failed(due, 1.0);
    assert_eq!(breaker.probe_due(), Some(due));
    assert!(breaker.begin_probe(due));
    breaker.probe_failed(due, 1.0);
    assert_eq!(breaker.probe_due(), Some(due + SECOND));
}
