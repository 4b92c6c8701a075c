//! Behaviour of the macros, through the facade.

mod arguments;
mod batches;
mod cached;
mod collisions;
mod errors;
mod keys;
mod methods;
mod options;
mod returns;
mod strict;
mod test_attribute;
mod ui;
