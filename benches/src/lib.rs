//! Larder beside other caches and beside the libraries it stands on: its budgets, as ratios within one run.
//!
//! `larder-bench` prints them as a table and writes `target/larder-bench/summary.json` and `docs/performance.md`; the
//! criterion benches show the near tier and the codecs in detail. What is read is the same in both: [`workload`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the measurements talk to the person who runs them")]

mod backend;
#[cfg(feature = "rivals")]
mod backend_rivals;
mod caches;
mod codecs;
mod coherence;
mod contest;
mod effort;
mod flight;
mod invalidation;
mod listener;
pub mod market;
mod memory;
mod near;
mod outage;
mod process;
mod reasons;
mod remote;
mod report;
#[cfg(feature = "rivals")]
mod rivals;
mod row;
mod suite;
mod sweeper;
pub mod workload;

pub use caches::{Caches, Keys};
pub use suite::{Options, run};
