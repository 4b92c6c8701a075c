use std::{sync::Arc, time::Duration};

use larder_core::ErrorKind;
use larder_fallback::{FallbackBackend, FallbackBuilder};
use larder_testing::ManualClock;

use crate::world::memory;

#[test]
fn a_wrong_setting_is_named_with_what_would_be_right() {
    let named = |change: fn(FallbackBuilder) -> FallbackBuilder| {
        let clock = ManualClock::new();
        let builder = FallbackBackend::builder(memory(&clock), memory(&clock)).timer(Arc::new(clock));
        let error = change(builder).build().expect_err("this is not allowed");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(named(|builder| builder.deadline(Duration::ZERO)).contains("`deadline`"));
    assert!(named(|builder| builder.outage_ttl(Duration::ZERO)).contains("`outage_ttl`"));
    assert!(named(|builder| builder.journal_keys(0)).contains("`journal_keys`"));
    assert!(named(|builder| builder.journal_bytes(0)).contains("`journal_bytes`"));
    assert!(named(|builder| builder.slow_call(Duration::ZERO)).contains("`slow_call`"));
    assert!(named(|builder| builder.max_calls(0)).contains("`max_calls`"));
    assert!(named(|builder| builder.failures(0)).contains("`failures`"));
}
