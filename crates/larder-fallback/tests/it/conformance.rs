//! A fallback whose primary is well behaves as the primary does.

use std::sync::Arc;

use larder_fallback::FallbackBackend;
use larder_testing::{
    ManualClock,
    conformance::{Fixture, Power},
};

use crate::world::memory;

async fn fixture() -> Fixture {
    let clock = ManualClock::new();
    let fallback = FallbackBackend::builder(memory(&clock), memory(&clock)).timer(Arc::new(clock.clone())).build();
    Fixture::new(Arc::new(fallback.expect("settings that are allowed")))
        .powers([Power::Scan, Power::Atomic, Power::Counter, Power::Lock, Power::Inspect])
        .manual_clock(clock)
}

larder_testing::conformance_tests!(fixture);
