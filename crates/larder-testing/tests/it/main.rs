//! The public interface of `larder-testing`.

mod redis_server;
