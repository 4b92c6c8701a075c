//! The public interface of larder-strategy.

mod documentation;
mod planning;
mod recommendations;
mod validation;
