//! Caching policies.
mod plan;
mod policy;
pub mod presets;
mod span;
mod strategy;
mod validate;

pub use larder_core::envelope::CodecId;
pub use plan::Plan;
pub use policy::{CompressionChoice, EarlyRefresh, FailSafe, Lease, Tiers};
pub use strategy::Strategy;
