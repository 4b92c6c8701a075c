//! Where candles come from: a seeded generator, or a CSV file.

mod csv;
mod generator;
mod resample;

pub use self::{
    csv::{CsvError, CsvFault, load, read},
    generator::{Series, TICK, redraw_last, rounded},
    resample::resample,
};
