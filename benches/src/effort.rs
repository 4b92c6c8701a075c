//! How long it is measured.

use std::time::Duration;

/// How many rounds there are, and how much each contestant does in one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of what runs in this process.
    pub(crate) rounds: usize,
    /// How often the near tier and what it is compared with are filled anew.
    pub(crate) near_fills: u64,
    /// Rounds on each of these fills.
    pub(crate) near_rounds: usize,
    /// Hits a round, on each thread.
    pub(crate) near_reads: usize,
    /// Hits a round of entries with tags and without.
    pub(crate) tagged_reads: usize,
    /// Rounds of what talks to a server.
    pub(crate) remote_rounds: usize,
    /// How long each of those asks the server.
    pub(crate) remote_time: Duration,
    /// Batches a round.
    pub(crate) batches: u32,
    /// How long each codec encodes, and decodes, a round.
    pub(crate) codec_time: Duration,
    /// Entries of the larger of two servers on which tags are invalidated.
    pub(crate) tagged_keys: usize,
    /// Keys that a pattern removes, and how often.
    pub(crate) swept_keys: usize,
    pub(crate) sweeps: usize,
    /// How long the server's answers are timed while nothing is removed.
    pub(crate) probe_time: Duration,
}

impl Effort {
    pub(crate) const QUICK: Self = Self {
        rounds: 11,
        near_fills: 5,
        near_rounds: 5,
        near_reads: 100_000,
        tagged_reads: 200_000,
        remote_rounds: 7,
        remote_time: Duration::from_millis(60),
        batches: 10,
        codec_time: Duration::from_millis(4),
        tagged_keys: 2_000_000,
        swept_keys: 200_000,
        sweeps: 1,
        probe_time: Duration::from_secs(1),
    };

    pub(crate) const FULL: Self = Self {
        rounds: 31,
        near_fills: 11,
        near_rounds: 9,
        near_reads: 300_000,
        tagged_reads: 1_000_000,
        remote_rounds: 15,
        remote_time: Duration::from_millis(250),
        batches: 40,
        codec_time: Duration::from_millis(20),
        tagged_keys: 2_000_000,
        swept_keys: 1_000_000,
        sweeps: 3,
        probe_time: Duration::from_secs(3),
    };
}
