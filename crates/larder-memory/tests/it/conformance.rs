//! The suite that every backend passes, by a clock that is moved and by the machine's.

use std::sync::Arc;

use larder_core::Backend;
use larder_memory::MemoryBackend;
use larder_testing::{
    ManualClock,
    conformance::{Fixture, Power},
};

fn fixture_of(backend: MemoryBackend) -> Fixture {
    let backend: Arc<dyn Backend> = Arc::new(backend);
    Fixture::new(backend).powers([Power::Scan, Power::Atomic, Power::Counter, Power::Lock, Power::Inspect])
}

async fn manual() -> Fixture {
    let clock = ManualClock::new();
    let backend = MemoryBackend::builder().clock(Arc::new(clock.clone())).build();
    fixture_of(backend.expect("settings that are allowed")).manual_clock(clock)
}

async fn real() -> Fixture {
    fixture_of(MemoryBackend::new())
}

mod by_a_manual_clock {
    use super::manual;

    larder_testing::conformance_tests!(manual);
}

mod in_real_time {
    use super::real;

    larder_testing::conformance_tests!(real);
}
