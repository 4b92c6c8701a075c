//! Tests of the public interface.

mod breaker;
mod cancelled;
mod combined;
mod conformance;
mod copy_back;
mod faults;
mod journal;
mod journal_file;
mod outage;
mod powers;
mod recovery;
mod settings;
mod world;
