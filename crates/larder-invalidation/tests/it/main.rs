//! The public interface of larder-invalidation.

mod effects;
mod requests;
mod sinks;
