//! Caching policies for Larder: how long an entry is fresh, how long it may be served stale, when it is refreshed, what
//! happens when its source fails.
//!
//! A [`Strategy`] is plain data, checked by [`Strategy::validate`]; [`Strategy::plan`] turns it into the life of one entry
//! with a random source of the caller's, so that a seed makes it repeatable. Nothing here reads a clock, does I/O or
//! needs a runtime: the crate can serve another cache as well.
//!
//! ```
//! use std::time::Duration;
//! use larder_strategy::{EarlyRefresh, Strategy};
//!
//! const QUOTES: Strategy = Strategy::api_response().ttl(Duration::from_secs(20)).early_refresh(EarlyRefresh::Share(0.5));
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let quotes = QUOTES.name("quotes");
//! quotes.validate()?;
//! let plan = quotes.plan(None, Duration::from_millis(80), &mut fastrand::Rng::with_seed(7));
//! assert!(plan.fresh_for <= Duration::from_secs(20) && plan.fresh_for >= Duration::from_secs(18));
//! assert_eq!(plan.stale_for, plan.fresh_for + Duration::from_secs(60));
//! # Ok(())
//! # }
//! ```
//!
//! # The presets
//! Also as functions in [`presets`], where an attribute asks for a path.
//!
//! | | `api_response` | `database_query` | `indicator` | `session` |
//! |---|---|---|---|---|
//! | region | `api` | `db` | `indicator` | `session` |
//! | TTL | 1 min | 5 min | 1 h | 30 min |
//! | jitter | up to 10% off | up to 10% off | up to 10% off | none |
//! | stale window | 1 min | 5 min | 30 min | none |
//! | early refresh | at 80% of the TTL | XFetch, beta 1 | XFetch, beta 1 | off |
//! | fail-safe | 1 min, throttle 30 s | 5 min, throttle 30 s | 30 min, throttle 30 s | off |
//! | errors cached | no | no | no | no |
//! | `None` cached | no | no | no | no |
//! | tiers | near and remote | near and remote | near and remote | near and remote |
//! | near tier at most | as long as it lives | as long as it lives | as long as it lives | 10 s |
//! | codec | msgpack | msgpack | msgpack | msgpack |
//! | compression | none | none | none | none |
//! | deadline of the remote tier | 50 ms | 50 ms | 50 ms | 50 ms |
//! | soft time-out | none | none | none | none |
//! | hard time-out | 30 s | 30 s | 30 s | 30 s |
//! | load by another process | wait up to 5 s | wait up to 5 s | wait up to 5 s | wait up to 5 s |
//! | longest load | 1 min | 1 min | 1 min | 1 min |
//! | served in an outage | 1 min | 1 min | 1 min | 10 s |
//! | version | 0 | 0 | 0 | 0 |
//!
//! `session` has no stale window, no fail-safe and no jitter: a session that is served after its logout is a hole. No
//! preset caches errors or absent values; whether they may be cached depends on what they mean.
//!
//! # Recommended TTLs
//! In [`recommend`], with functions that give the strategy for each and check a TTL against the range. The last five go
//! by how often data changes.
//!
//! | data | from | to | start with | preset |
//! |---|---|---|---|---|
//! | `ticker` | 5 s | 30 s | 15 s | `api_response` |
//! | `order_book` | 10 s | 1 min | 30 s | `api_response` |
//! | `exchange_info` | 1 h | 1 d | 6 h | `api_response` |
//! | `news` | 5 min | 15 min | 10 min | `api_response` |
//! | `historical` | 5 min | 30 min | 15 min | `database_query` |
//! | `preferences` | 10 min | 1 h | 30 min | `database_query` |
//! | `settings` | 1 h | 1 d | 6 h | `database_query` |
//! | `static_data` | 1 d | 1 d | 1 d | `database_query` |
//! | `intraday` | 5 min | 15 min | 10 min | `indicator` |
//! | `hourly` | 30 min | 1 h | 45 min | `indicator` |
//! | `daily` | 4 h | 1 d | 12 h | `indicator` |
//! | `weekly` | 1 d | 7 d | 3 d | `indicator` |
//! | `auth_token` | 30 min | 1 h | 30 min | `session` |
//! | `positions` | 10 min | 30 min | 15 min | `session` |
//! | `form_state` | 5 min | 15 min | 10 min | `session` |
//! | `real_time` | 5 s | 1 min | 15 s | `api_response` |
//! | `frequent` | 1 min | 15 min | 5 min | `api_response` |
//! | `moderate` | 15 min | 1 h | 30 min | `database_query` |
//! | `rare` | 1 h | 1 d | 6 h | `database_query` |
//! | `unchanging` | 1 d | for ever | 1 d | `database_query` |

mod plan;
mod policy;
pub mod presets;
pub mod recommend;
mod span;
mod strategy;
mod table;
mod validate;

pub use larder_core::envelope::CodecId;
pub use plan::Plan;
pub use policy::{CompressionChoice, EarlyRefresh, FailSafe, Lease, Tiers};
pub use recommend::{Advice, Fit, Preset, RECOMMENDATIONS, Recommendation};
pub use strategy::Strategy;
pub use table::policy_table;
