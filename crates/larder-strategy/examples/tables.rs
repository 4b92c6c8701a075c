//! Prints the tables of the crate's documentation, to be pasted there when a preset changes.
//!
//! `cargo run -p larder-strategy --example tables`

use std::io::{self, Write as _};

use larder_strategy::{policy_table, presets, recommend::recommendation_table};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", policy_table(&presets::all()))?;
    write!(out, "{}", recommendation_table())
}
