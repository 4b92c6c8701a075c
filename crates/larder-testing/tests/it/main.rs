//! The public interface of `larder-testing`.

mod conformance;
mod faulty;
mod glob;
mod proxy;
mod redis_server;
