//! What a backend's tests hand to the suite.

use std::{any::Any, fmt, sync::Arc};

use larder_core::Backend;

use crate::ManualClock;

/// An optional power of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Power {
    /// [`Backend::as_scan`].
    Scan,
    /// [`Backend::as_atomic`].
    Atomic,
    /// [`Backend::as_counter`].
    Counter,
    /// [`Backend::as_lock`].
    Lock,
    /// [`Backend::as_bus`].
    Bus,
    /// [`Backend::as_inspect`].
    Inspect,
}

impl Power {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Scan, Self::Atomic, Self::Counter, Self::Lock, Self::Bus, Self::Inspect];

    /// Whether a backend has it.
    #[must_use]
    pub fn is_of(self, backend: &dyn Backend) -> bool {
        match self {
            Self::Scan => backend.as_scan().is_some(),
            Self::Atomic => backend.as_atomic().is_some(),
            Self::Counter => backend.as_counter().is_some(),
            Self::Lock => backend.as_lock().is_some(),
            Self::Bus => backend.as_bus().is_some(),
            Self::Inspect => backend.as_inspect().is_some(),
        }
    }
}

/// A backend for one case: the powers that it is meant to have, the clock that it goes by, and what must live as long.
pub struct Fixture {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) powers: Vec<Power>,
    pub(super) clock: Option<ManualClock>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A backend without optional powers that goes by real time.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, powers: Vec::new(), clock: None, kept: Vec::new() }
    }

    /// Declares the powers that the backend has, and with that the ones it has not.
    #[must_use]
    pub fn powers(mut self, powers: impl IntoIterator<Item = Power>) -> Self {
        self.powers = powers.into_iter().collect();
        self
    }

    /// The clock that the backend goes by, all of its time. Without one the cases wait for real time to pass.
    #[must_use]
    pub fn manual_clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Keeps something, such as the server, until the case is over; dropped in the order in which it was given, after
    /// the backend.
    #[must_use]
    pub fn keep(mut self, value: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(value));
        self
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("backend", &self.backend)
            .field("powers", &self.powers)
            .field("clock", &self.clock)
            .field("kept", &self.kept.len())
            .finish()
    }
}
