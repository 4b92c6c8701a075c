//! Which faults happen when, as a seed decides it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The link of a process's messages is reset, and stays away for a moment.
    BusCut,
    /// Messages to a process are late.
    BusDelayed,
    /// The link of a process's messages stands and carries nothing, then carries all of it or breaks.
    BusHalfOpen,
    /// The link of a process's data is reset, and stays away for a moment.
    DataCut,
    /// What a process sends is late.
    DataDelayed,
    /// The link of a process's data stands and carries nothing, then carries all of it or breaks.
    DataHalfOpen,
    /// A process is stopped (SIGSTOP) and goes on later.
    ProcessPaused,
    /// A process is killed and started anew.
    ProcessKilled,
    /// The server is killed and started without its data.
    RedisEmptied,
    /// The server is killed and started from a dump that it wrote some time before.
    RedisRolledBack,
    /// The server is stopped (SIGSTOP) and goes on later.
    RedisPaused,
    /// The server breaks off all of its connections.
    RedisDisconnected,
    /// Some keys are gone, markers of tags among them, as an eviction or an operator does it.
    KeysEvicted,
}

impl Fault {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Self; 13] = [
        Self::BusCut,
        Self::BusDelayed,
        Self::BusHalfOpen,
        Self::DataCut,
        Self::DataDelayed,
        Self::DataHalfOpen,
        Self::ProcessPaused,
        Self::ProcessKilled,
        Self::RedisEmptied,
        Self::RedisRolledBack,
        Self::RedisPaused,
        Self::RedisDisconnected,
        Self::KeysEvicted,
    ];

    /// Whether it strikes the server, and so all processes.
    #[must_use]
    pub const fn is_of_redis(self) -> bool {
        matches!(
            self,
            Self::RedisEmptied
                | Self::RedisRolledBack
                | Self::RedisPaused
                | Self::RedisDisconnected
                | Self::KeysEvicted
        )
    }

    /// Whether commands wait for an answer for long.
    pub(super) const fn stalls_commands(self) -> bool {
        !matches!(
            self,
            Self::BusCut
                | Self::BusDelayed
                | Self::BusHalfOpen
                | Self::ProcessKilled
                | Self::RedisDisconnected
                | Self::KeysEvicted
        )
    }

    /// Whether it lasts until it is healed.
    const fn lasts(self) -> bool {
        !matches!(self, Self::RedisEmptied | Self::RedisDisconnected | Self::KeysEvicted)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BusCut => "bus-cut",
            Self::BusDelayed => "bus-delayed",
            Self::BusHalfOpen => "bus-half-open",
            Self::DataCut => "data-cut",
            Self::DataDelayed => "data-delayed",
            Self::DataHalfOpen => "data-half-open",
            Self::ProcessPaused => "process-paused",
            Self::ProcessKilled => "process-killed",
            Self::RedisEmptied => "redis-emptied",
            Self::RedisRolledBack => "redis-rolled-back",
            Self::RedisPaused => "redis-paused",
            Self::RedisDisconnected => "redis-disconnected",
            Self::KeysEvicted => "keys-evicted",
        })
    }
}

/// A fault that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// What happens.
    pub fault: Fault,
    /// To which process, where it does not concern the server.
    pub process: Option<u32>,
    /// When, in milliseconds after the start.
    pub at_ms: u64,
    /// For how long.
    pub lasts_ms: u64,
    /// Decides between variants: by how much a link is late, whether what it held comes through in the end.
    pub variant: u64,
}

/// The faults of a run, in the order of their time. Every process has at most one fault of its own at a time, and the server
/// one beside those. All `kinds` come in turn, so that a run of ten seconds has each of them.
#[must_use]
pub fn schedule(seed: u64, seconds: u64, processes: u32, kinds: &[Fault]) -> Vec<Incident> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (of_redis, of_processes): (Vec<Fault>, Vec<Fault>) = kinds.iter().partition(|kind| kind.is_of_redis());
    let end = seconds * 1000;
    let mut incidents = Vec::new();
    let mut deck = Deck::new(of_redis);
    let mut at = rng.u64(300..1200);
    while let Some(fault) = deck.deal(&mut rng) {
        let lasts_ms = duration(fault, end, &mut rng).min(2500);
        if at + lasts_ms > end {
            break;
        }
        incidents.push(Incident { fault, process: None, at_ms: at, lasts_ms, variant: rng.u64(..) });
        at += lasts_ms + pause(end, &mut rng);
    }
    let (mut deck, mut long) = (Deck::new(of_processes), false);
    let mut free: Vec<u64> = (0..processes).map(|_| rng.u64(100..900)).collect();
    while let Some(fault) = deck.deal(&mut rng) {
        // The process that has been whole for longest.
        let Some((process, from)) = (0..processes).zip(free.iter_mut()).min_by_key(|(_, from)| **from) else { break };
        if *from >= end {
            break;
        }
        let mut lasts_ms = duration(fault, end, &mut rng);
        if fault == Fault::BusHalfOpen && process > 0 && !std::mem::replace(&mut long, true) {
            // At least one reader is deaf for longer than anything older may be served.
            lasts_ms = longest(end);
        }
        let lasts_ms = lasts_ms.min(end - *from);
        incidents.push(Incident { fault, process: Some(process), at_ms: *from, lasts_ms, variant: rng.u64(..) });
        *from += lasts_ms + pause(end, &mut rng);
    }
    incidents.sort_by_key(|incident| incident.at_ms);
    incidents
}

/// Shorter in short runs, so that all kinds fit.
fn pause(end: u64, rng: &mut fastrand::Rng) -> u64 {
    rng.u64(200..=(end / 10).clamp(400, 3000))
}

/// Mostly a moment; now and then longer than anything older may be served.
fn duration(fault: Fault, end: u64, rng: &mut fastrand::Rng) -> u64 {
    if !fault.lasts() {
        return 0;
    }
    match rng.u8(..10) {
        0..5 => rng.u64(50..400),
        5..8 => rng.u64(400..1500),
        8 => rng.u64(1500..3000).min(longest(end)),
        _ => longest(end),
    }
}

fn longest(end: u64) -> u64 {
    let longest = super::ELSEWHERE + Duration::from_millis(1500);
    u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).min(end * 2 / 3)
}

/// Kinds in a random order, again and again.
struct Deck {
    kinds: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    fn new(kinds: Vec<Fault>) -> Self {
        Self { kinds, left: Vec::new() }
    }

    fn deal(&mut self, rng: &mut fastrand::Rng) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            rng.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_decides_the_faults() {
        assert_eq!(schedule(7, 60, 4, &Fault::ALL), schedule(7, 60, 4, &Fault::ALL));
        assert_ne!(schedule(7, 60, 4, &Fault::ALL), schedule(8, 60, 4, &Fault::ALL));
    }

    #[test]
    fn ten_seconds_have_every_kind_of_fault() {
        for seed in 0..500 {
            let kinds: BTreeSet<Fault> = schedule(seed, 10, 4, &Fault::ALL).iter().map(|found| found.fault).collect();
            assert_eq!(kinds.len(), Fault::ALL.len(), "seed {seed} has {kinds:?}");
        }
    }

    #[test]
    fn a_process_has_one_fault_at_a_time_and_all_end() {
        for seed in 0..100 {
            for lane in [None, Some(0), Some(1), Some(2), Some(3)] {
                let mut free = 0;
                for incident in schedule(seed, 60, 4, &Fault::ALL).iter().filter(|found| found.process == lane) {
                    assert!(incident.at_ms >= free, "seed {seed}: {incident:?} begins before {free} ms");
                    free = incident.at_ms + incident.lasts_ms;
                    assert!(free <= 60_000, "seed {seed}: {incident:?} ends after the run");
                }
            }
        }
    }

    #[test]
    fn without_kinds_nothing_happens() {
        assert_eq!(schedule(1, 60, 4, &[]), []);
    }
}
