//! The public interface of larder-warming.

mod clock;
mod jobs;
mod schedules;
mod warming;
