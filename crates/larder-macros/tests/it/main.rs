//! Behaviour of the macros, through the facade.

mod cached;
mod errors;
mod keys;
mod methods;
mod options;
mod ui;
