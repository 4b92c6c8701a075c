//! The exchange: an HTTP server with latency and a request limit, and the client that lives with both.

pub mod client;
mod error;
mod limit;
mod routes;
mod server;

pub use self::{
    client::{ClientOptions, ExchangeClient},
    error::ExchangeError,
    limit::RequestLimit,
    server::{Exchange, ExchangeOptions},
};
