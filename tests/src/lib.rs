//! Tests of what crosses Larder's crates: `it/` runs whole caches on real Redis servers and in several processes, and the
//! modules here make the Rust snippets of the Markdown pages doc tests.
//!
//! A snippet that shows a test cannot run as a doc test, where the compiler drops it. Those stand in `it/snippets/` too, and
//! a test compares the pages with them.
//!
//! [`stampede`] is what `cargo xtask stampede` runs, [`coherence`] what `cargo xtask coherence` does, and [`chaos`] what `cargo
//! xtask chaos` does, with their numbers as they are given; `it/` runs them with small ones.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide-map.md")]
pub mod guide_map {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/architecture.md")]
pub mod architecture {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/strategies.md")]
pub mod strategies {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/behaviours/stampedes.md")]
pub mod stampedes {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/behaviours/staleness.md")]
pub mod staleness {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/behaviours/invalidation.md")]
pub mod invalidation {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/behaviours/timeouts.md")]
pub mod timeouts {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/behaviours/degradation.md")]
pub mod degradation {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/behaviours/batches.md")]
pub mod batches {}

#[cfg(doctest)]
#[doc = include_str!("../../docs/redis.md")]
pub mod redis {}

#[cfg(unix)]
pub mod chaos;
pub mod coherence;
#[cfg(unix)]
pub mod stampede;
