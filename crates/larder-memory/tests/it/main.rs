//! The public interface of `larder-memory`.

mod near;
