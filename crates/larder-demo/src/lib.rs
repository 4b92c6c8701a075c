//! A small trading service, real in all its parts, that shows the Larder caching framework at work.
//!
//! This library holds what the service is built from and what can be used without it:
//!
//! | module | what it is |
//! |---|---|
//! | [`candle`], [`candles`] | candles, their seeded generator, their CSV loader |
//! | [`indicators`] | RSI, MACD and Bollinger bands |
//! | [`market`] | the instruments and everything the exchange knows about them, as pure functions |
//! | [`exchange`] | the exchange: an HTTP server with latency and a request limit, and its client |
//! | [`database`] | candles, users, preferences and positions in SQLite |
//! | [`model`] | what the exchange, the database and the service answer with |
//! | [`workload`], [`zipf`] | a reproducible mix of requests |
//! | [`service`] | the service itself: routes, and the cached functions behind them |
//! | [`smoke`] | the same requests with the cache off and on, and what they show |
//! | [`topology`] | Redis servers for the cache, which fail in the middle of a smoke run |
//! | [`seeded`], [`pace`] | where randomness and time come from |
//!
//! Every answer depends on the seed, the symbol and the symbol's revision, and on nothing else: neither on the wall
//! clock nor on the order of requests. That is what lets a run with the cache on be compared, body by body, with a run
//! with the cache off.

pub mod candle;
pub mod candles;
pub mod database;
pub mod exchange;
pub mod indicators;
pub mod interval;
pub mod market;
pub mod model;
pub mod pace;
pub mod seeded;
pub mod service;
pub mod smoke;
#[cfg(unix)]
pub mod topology;
pub mod workload;
pub mod zipf;
