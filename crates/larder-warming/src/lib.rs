//! Warming a cache: loading what will be asked for before anybody asks, through the functions that the service calls.
//!
//! A [`Warmer`] runs a function for each key of a list, a [`product`] of lists or a stream, with bounded concurrency, a
//! rate limit, retries and a time-out, tells of its progress, and ends with a [`Report`]. A [`Schedule`] says when, in a
//! time zone; a [`ScheduledJob`] runs a warming at each of those times.
//!
//! ```
//! use larder_warming::{Report, Warmed, Warmer, product};
//!
//! # async fn indicator(_symbol: &str, _name: &str) -> Result<f64, std::io::Error> { Ok(0.5) }
//! async fn warm_indicators(warmer: &Warmer) -> Report {
//!     let keys = product(["BTCUSDT", "ETHUSDT"], ["rsi", "macd"]);
//!     let warm = |(symbol, name)| async move { indicator(symbol, name).await.map(|_| Warmed::Loaded) };
//!     warmer.run("indicators", keys, warm).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let warmer = Warmer::builder().concurrency(4).rate_per_second(50).attempts(2).build()?;
//! let report = warm_indicators(&warmer).await;
//! assert_eq!((report.loaded, report.failed), (4, 0));
//! # Ok(())
//! # }
//! ```
//!
//! Half an hour before the market opens, wherever the service runs:
//!
//! ```
//! use std::time::Duration;
//! use larder_warming::Schedule;
//!
//! let opening = Schedule::cron("30 9 * * Mon-Fri", "America/New_York")?.before(Duration::from_secs(1800));
//! # Ok::<(), larder_core::Error>(())
//! ```
//!
//! Time comes from a [`Timer`](larder_core::Timer), so that tests move it by hand.

mod attempt;
mod failure;
mod job;
mod pace;
mod progress;
mod report;
mod schedule;
mod warmer;

pub use failure::Failure;
pub use job::{JobStatus, ScheduledJob};
pub use progress::{Progress, Warmed};
pub use report::Report;
pub use schedule::Schedule;
pub use warmer::{Warmer, WarmerBuilder, product};
