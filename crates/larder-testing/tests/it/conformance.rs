//! The suite against the model, with every power and with none, and as a decorator.

use std::{sync::Arc, time::Duration};

use larder_core::{BackendExt, Bytes, SetOptions, SystemClock};
use larder_testing::{
    FaultyBackend, ManualClock, ModelBackend,
    conformance::{self, Case, Fixture, Power},
};

async fn model() -> Fixture {
    let clock = ManualClock::new();
    Fixture::new(Arc::new(ModelBackend::new(Arc::new(clock.clone())))).powers(Power::ALL).manual_clock(clock)
}

async fn decorated() -> Fixture {
    let clock = ManualClock::new();
    let model = ModelBackend::new(Arc::new(clock.clone()));
    Fixture::new(Arc::new(FaultyBackend::new(Arc::new(model)))).powers(Power::ALL).manual_clock(clock)
}

async fn bare() -> Fixture {
    let clock = ManualClock::new();
    let model = FaultyBackend::new(Arc::new(ModelBackend::new(Arc::new(clock.clone()))));
    let bare = Power::ALL.into_iter().fold(model, FaultyBackend::without);
    Fixture::new(Arc::new(bare)).manual_clock(clock)
}

async fn real_time() -> Fixture {
    Fixture::new(Arc::new(ModelBackend::new(Arc::new(SystemClock::new())))).powers(Power::ALL)
}

mod with_every_power {
    use super::model;

    larder_testing::conformance_tests!(model);
}

mod behind_a_decorator {
    use super::decorated;

    larder_testing::conformance_tests!(decorated);
}

mod without_powers {
    use super::bare;

    larder_testing::conformance_tests!(bare);
}

mod in_real_time {
    use super::real_time;

    larder_testing::conformance_tests!(real_time);
}

#[test]
fn every_case_is_in_the_list() {
    let list = include_str!("../../src/conformance/macros.rs");
    let sources = [
        include_str!("../../src/conformance/atomic.rs"),
        include_str!("../../src/conformance/concurrency.rs"),
        include_str!("../../src/conformance/conditions.rs"),
        include_str!("../../src/conformance/counters.rs"),
        include_str!("../../src/conformance/locks.rs"),
        include_str!("../../src/conformance/many.rs"),
        include_str!("../../src/conformance/patterns.rs"),
        include_str!("../../src/conformance/powers.rs"),
        include_str!("../../src/conformance/timeouts.rs"),
        include_str!("../../src/conformance/ttl.rs"),
        include_str!("../../src/conformance/values.rs"),
    ];
    let cases = sources.iter().flat_map(|source| source.lines()).filter_map(|line| line.strip_prefix("pub async fn "));
    let missing: Vec<_> = cases
        .filter_map(|line| line.split_once('('))
        .filter(|(name, _)| !list.contains(&format!(" {name},")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
#[should_panic(expected = "Lock: declared by the fixture")]
fn a_power_that_is_there_and_not_declared_fails_every_case() {
    let fixture = async || {
        let fixture = model().await;
        fixture.powers(Power::ALL.into_iter().filter(|power| *power != Power::Lock))
    };
    conformance::run("undeclared", fixture, async |_: &Case| {});
}

#[test]
#[should_panic(expected = "Scan: declared by the fixture")]
fn a_power_that_is_declared_and_not_there_fails_every_case() {
    conformance::run("missing", async || bare().await.powers([Power::Scan]), async |_: &Case| {});
}

#[test]
#[should_panic(expected = "left: None\n right: Some(For(1ms))")]
fn a_key_that_goes_early_is_found_out() {
    conformance::run("early", model, async |case: &Case| {
        let key = case.key("k");
        case.put(&key, "v", SetOptions::new().ttl(Duration::from_millis(40))).await;
        case.expire(&key, Duration::from_millis(41)).await;
    });
}

#[test]
#[should_panic(expected = "left: Some(For(2ms))\n right: Some(For(1ms))")]
fn a_key_that_stays_too_long_is_found_out() {
    conformance::run("late", model, async |case: &Case| {
        let key = case.key("k");
        case.put(&key, "v", SetOptions::new().ttl(Duration::from_millis(41))).await;
        case.expire(&key, Duration::from_millis(40)).await;
    });
}

#[test]
fn a_case_removes_its_keys() {
    let model = ModelBackend::new(Arc::new(SystemClock::new()));
    let fixture = async || Fixture::new(Arc::new(model.clone())).powers(Power::ALL);
    conformance::run("clean", fixture, async |case: &Case| {
        let outcome = case.backend().set(&case.key("k"), Bytes::from("v"), SetOptions::new()).await;
        assert!(outcome.unwrap().is_stored());
    });
    assert!(model.keys().is_empty());
}
