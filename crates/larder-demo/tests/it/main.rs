//! Tests of the demo's public interface, one module a subject.

#![expect(clippy::unwrap_used, reason = "the functions that tests share may fail a test as the tests do")]

mod candles;
mod database;
mod exchange;
mod indicators;
mod market;
mod reference;
mod service;
#[cfg(unix)]
mod topology;
mod workload;
