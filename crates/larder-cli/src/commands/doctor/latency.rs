//! How soon the server answers.

use std::time::{Duration, Instant};

use larder_core::{Backend, Result};
use serde_json::{Value, json};

use super::finding::{Finding, Grade};
use crate::session::Session;

/// A cache that answers more slowly than this helps few callers.
const SLOW_PING: Duration = Duration::from_millis(5);

/// How long each PING took, sorted.
#[derive(Debug)]
pub(super) struct Pings(Vec<Duration>);

impl Pings {
    /// So many, one after the other.
    pub(super) async fn take(session: &Session, count: u32) -> Result<Self> {
        let mut took = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let began = Instant::now();
            session.redis.ping().await?;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        Ok(Self(took))
    }

    /// The nearest rank: the least time that so many percent of them do not exceed.
    fn quantile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(super) fn finding(&self) -> Finding {
        let p99 = self.quantile(99);
        let found = format!("p50 {:.1?}, p99 {p99:.1?} of {} pings", self.quantile(50), self.0.len());
        if p99 <= SLOW_PING {
            return Finding::ok("latency", found);
        }
        let todo = "run the server nearer to its callers, and look for slow commands with SLOWLOG GET";
        Finding::new("latency", found, Grade::Advice, todo)
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "count": self.0.len(),
            "p50": micros(self.quantile(50)),
            "p99": micros(self.quantile(99)),
            "max": micros(self.quantile(100)),
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let pings = Pings((1..=200).map(Duration::from_micros).collect());
        assert_eq!([50, 99, 100].map(|percent| micros(pings.quantile(percent))), [100, 198, 200]);
        assert_eq!(Pings(vec![Duration::from_micros(7)]).quantile(50), Duration::from_micros(7));
    }

    #[test]
    fn a_slow_server_is_told_of() {
        let mut times = vec![Duration::from_micros(50); 98];
        times.extend([Duration::from_millis(6); 2]);
        assert_eq!(Pings(times).finding().grade, Grade::Advice);
        assert_eq!(Pings(vec![Duration::from_millis(5); 100]).finding().grade, Grade::Ok);
    }
}
