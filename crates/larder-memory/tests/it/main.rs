//! The public interface of `larder-memory`.

mod backend;
mod clock;
mod concurrency;
mod near;
mod powers;
