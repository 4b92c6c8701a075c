//! What the crate stands on, in one place: the model check in `tests/model` compiles the other files of this folder with
//! a checker's primitives in their stead.

pub(crate) use hashbrown::DefaultHashBuilder as RandomState;
pub(crate) use parking_lot::{Mutex, MutexGuard};

/// Tables that keys are spread over, so that unrelated keys seldom wait for each other's lock.
pub(crate) const SHARDS: usize = 64;

/// So many followers wait before one of them watches the clock for those who come.
pub(crate) const CROWD: usize = 16;
