//! Tests of the public interface.

mod any;
mod compression;
mod entry;
mod golden;
mod hostile;
mod refusals;
mod round_trip;
mod values;
