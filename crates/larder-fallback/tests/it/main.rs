//! Tests of the public interface.

mod breaker;
mod cancelled;
mod conformance;
mod outage;
mod powers;
mod recovery;
mod settings;
mod world;
