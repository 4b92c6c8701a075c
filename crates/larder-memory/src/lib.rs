//! Larder within one process: the near tier, which keeps typed values behind `Arc`.
//!
//! [`NearTier`] is what a hit of the cache is served from: values of any type, no serialization, bounded by bytes.
//!
//! All time is the caller's: deadlines are [`Tick`](larder_core::Tick)s of whatever clock the caller reads.

mod deadlines;
mod near;

pub use near::{Admission, AnyValue, ENTRY_OVERHEAD, NearConfig, NearEntry, NearStats, NearTier};
