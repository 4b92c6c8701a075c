//! Measures Larder against its budgets.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    larder_benches::run(&larder_benches::Options::parse())
}
