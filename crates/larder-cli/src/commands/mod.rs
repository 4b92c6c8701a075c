//! One module a command.

mod bigkeys;
mod delete;
mod doctor;
mod explain;
mod get;
mod health;
mod invalidate;
mod keys;
mod memory;
mod stats;
mod ttl;

use anyhow::Result;

use crate::{
    options::{Command, Options},
    report::Report,
    session::Session,
};

/// Carries a command out.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let common = &options.common;
    match &options.command {
        Command::Get(get) => get::run(common, get).await,
        Command::Keys(keys) => keys::run(&Session::unconnected(common).await?, keys).await,
        Command::Ttl(keys) => ttl::run(&Session::unconnected(common).await?, keys).await,
        Command::Delete(keys) => delete::run(common, keys).await,
        Command::Invalidate(invalidate) => invalidate::run(common, invalidate).await,
        Command::Stats => stats::run(&Session::open(common).await?).await,
        Command::Health(health) => health::run(&Session::unconnected(common).await?, health).await,
        Command::Doctor(doctor) => doctor::run(&Session::unconnected(common).await?, doctor).await,
        Command::Memory(memory) => memory::run(&Session::unconnected(common).await?, memory).await,
        Command::Bigkeys(bigkeys) => bigkeys::run(&Session::unconnected(common).await?, bigkeys).await,
        Command::Explain(key) => explain::run(&Session::unconnected(common).await?, key).await,
    }
}
