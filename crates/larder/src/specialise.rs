//! How an expansion finds out what a caller's error type can do: by method resolution, which prefers the implementation
//! that needs fewer dereferences. Each choice calls its method on as many references as it has traits.

use std::{error::Error as StdError, fmt, marker::PhantomData, sync::Arc};

use crate::load_error::{ErrorSlot, LoadFault, SharedError};

/// Stands for an error type.
pub struct Probe<E>(PhantomData<fn() -> E>);

impl<E> Probe<E> {
    /// A probe of a type.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Default for Probe<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for Probe<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// The error can be cloned.
pub trait ByClone<E> {
    /// An error for one caller.
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E>;
}

impl<E: Clone> ByClone<E> for &&Probe<E> {
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E> {
        slot.cloned()
    }
}

/// The error can be made from a shared one.
pub trait ByShared<E> {
    /// An error for one caller.
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E>;
}

impl<E: From<SharedError> + StdError + Send + Sync + 'static> ByShared<E> for &Probe<E> {
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E> {
        slot.share().map(|error: Arc<E>| E::from(SharedError::new(error)))
    }
}

/// One caller gets the error.
pub trait ByTake<E> {
    /// An error for one caller; `None` for the others.
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E>;
}

impl<E> ByTake<E> for Probe<E> {
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E> {
        slot.take()
    }
}

/// The error can tell Larder's faults.
pub trait FaultByFrom<E> {
    /// Whether it can.
    fn tells_faults(&self) -> bool;

    /// The fault as the caller's error.
    ///
    /// # Errors
    /// The fault, if it cannot be told.
    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault>;
}

impl<E: From<LoadFault>> FaultByFrom<E> for &Probe<E> {
    fn tells_faults(&self) -> bool {
        true
    }

    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault> {
        Ok(E::from(fault))
    }
}

/// It cannot.
pub trait FaultUntold<E> {
    /// Whether it can.
    fn tells_faults(&self) -> bool;

    /// The fault as the caller's error.
    ///
    /// # Errors
    /// The fault, if it cannot be told.
    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault>;
}

impl<E> FaultUntold<E> for Probe<E> {
    fn tells_faults(&self) -> bool {
        false
    }

    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault> {
        Err(fault)
    }
}

/// What `hard_timeout` asks of an error type.
#[diagnostic::on_unimplemented(
    message = "`hard_timeout` needs an error that can tell a time-out, and `{Self}` cannot",
    label = "no `From<larder::LoadFault>` for this error",
    note = "write `impl From<larder::LoadFault> for {Self}`, or leave `hard_timeout` out"
)]
pub trait TakesLoadFaults {}

impl<E: From<LoadFault>> TakesLoadFaults for E {}

/// Compiles only for such errors.
pub const fn takes_load_faults<E: TakesLoadFaults>() {}
