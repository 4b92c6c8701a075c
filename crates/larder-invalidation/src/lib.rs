//! Asking for an invalidation: one builder over anything that can invalidate.
//!
//! [`Invalidate`] collects what is to go (keys, tags, patterns, regions, everything, or a [`Dimension`] such as a trading
//! symbol), checks it, and hands it target by target to an [`InvalidationSink`](larder_core::InvalidationSink): the cache,
//! or a recorder in a test. It keeps no state and does no I/O itself.
//!
//! ```
//! # use larder_core::{Invalidated, InvalidationSink, Result};
//! use larder_invalidation::Invalidate;
//!
//! async fn after_a_trade(cache: &dyn InvalidationSink, user: u64) -> Result<Invalidated> {
//!     Invalidate::new(cache).symbol("BTCUSDT").user_session(user).key("leaderboard").await
//! }
//! ```
//!
//! # What guards against mistakes
//! - Text that comes from users is data: a symbol `*` is the symbol named `*`. Only [`Invalidate::pattern`] takes globs.
//! - A pattern that would match every key is refused; [`Invalidate::everything`] says so by name.
//! - A symbol, exchange or user is matched as a whole part of a key, never as a substring: `BTC` leaves `BTCUSDT` alone.
//! - If one argument is wrong, nothing is invalidated. If one target fails, the others are still carried out.
//! - [`Invalidate::dry_run`] counts what would go.
//!
//! An application's own methods beside `symbol` come from [`dimensions!`].

mod dimension;
mod invalidate;
mod preview;

pub use dimension::{Dimension, WholePart};
pub use invalidate::{Invalidate, InvalidateExt, Progress};
pub use preview::{Preview, PreviewedTarget};
