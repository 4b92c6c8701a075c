//! The public interface of `larder-memory`.

mod backend;
mod clock;
mod concurrency;
mod conformance;
mod near;
mod powers;
