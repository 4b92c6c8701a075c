//! How long it is measured.

use std::time::Duration;

/// How many rounds there are, and how much each contestant does in one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of what runs in this process.
    pub(crate) rounds: usize,
    /// Hits a round, on each thread.
    pub(crate) near_reads: usize,
    /// Rounds of what talks to a server.
    pub(crate) remote_rounds: usize,
    /// How long each of those asks the server.
    pub(crate) remote_time: Duration,
    /// Batches a round.
    pub(crate) batches: u32,
    /// How long each codec encodes, and decodes, a round.
    pub(crate) codec_time: Duration,
}

impl Effort {
    pub(crate) const QUICK: Self = Self {
        rounds: 11,
        near_reads: 200_000,
        remote_rounds: 7,
        remote_time: Duration::from_millis(60),
        batches: 10,
        codec_time: Duration::from_millis(4),
    };

    pub(crate) const FULL: Self = Self {
        rounds: 31,
        near_reads: 1_000_000,
        remote_rounds: 15,
        remote_time: Duration::from_millis(250),
        batches: 40,
        codec_time: Duration::from_millis(20),
    };
}
