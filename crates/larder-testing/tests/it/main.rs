//! The public interface of `larder-testing`.

mod conformance;
mod faulty;
mod flaws;
mod glob;
mod proxy;
mod redis_cluster;
mod redis_sentinels;
mod redis_server;
mod watchdog;
