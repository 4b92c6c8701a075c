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
    for _ in 0..10 {
        assert!(!breaker.failed(ticket, START, 1.0));
        assert!(!breaker.failed(ticket, START, 1.0));
        assert!(!breaker.is_calm());
        breaker.succeeded(ticket);
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
    breaker.succeeded(early);
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
}
