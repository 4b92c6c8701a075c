//! A clock that stands still until it is moved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{Clock, Tick, UnixMillis};
use larder_memory::MemoryBackend;

/// Wall time at the clock's start, in milliseconds since 1970.
pub(crate) const START: u64 = 1_700_000_000_000;

#[derive(Debug, Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).expect("tests move it by little");
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    /// Behind by up to 4 ms, as the kernel's coarse clock is: what needs exactness must ask for it.
    fn now(&self) -> Tick {
        let nanos = self.0.load(Ordering::SeqCst);
        Tick::from_nanos(nanos - nanos % 4_000_000)
    }

    fn now_precise(&self) -> Tick {
        Tick::from_nanos(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(START + self.0.load(Ordering::SeqCst) / 1_000_000)
    }
}

/// A backend of 1 MiB and the clock that it goes by.
pub(crate) fn backend() -> (MemoryBackend, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let backend = MemoryBackend::builder().max_bytes(1 << 20).clock(Arc::<HandClock>::clone(&clock)).build();
    (backend.expect("settings that are allowed"), clock)
}
