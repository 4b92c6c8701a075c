//! Ten thousand callers that all miss one cold key at the same moment.

use std::time::{Duration, Instant};

use larder::with_cache;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Failure;
use crate::service::Stack;

/// How many callers there are.
const CALLERS: usize = 10_000;

/// What a stampede has shown.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StampedeReport {
    /// Callers that missed the key at the same moment.
    pub callers: usize,
    /// How often the function behind the key ran for them.
    pub loads: u64,
    /// Callers that got an error.
    pub failed: usize,
    /// Different values that the others got.
    pub values: usize,
    /// From the first call to the last answer.
    pub took: Duration,
    /// Whether another tier may have emptied the near one meanwhile, upon which a second load is right.
    pub may_load_again: bool,
}

impl StampedeReport {
    /// Invalidates a symbol, and lets all callers ask for its ticker at once.
    pub(super) async fn of(stack: &Stack) -> Result<Self, Failure> {
        let service = stack.service();
        let symbol = service.exchange().first_symbol();
        service.cache().invalidate().symbol(&symbol).await?;
        let loads = service.cache().stats().loads;
        let (start, started) = watch::channel(false);
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (service, symbol, mut started) = (service.clone(), symbol.clone(), started.clone());
                tokio::spawn(with_cache(service.cache().clone(), async move {
                    // An error means that nobody will give the signal any more.
                    drop(started.wait_for(|started| *started).await);
                    service.ticker(&symbol).await
                }))
            })
            .collect();
        // All stand by.
        tokio::task::yield_now().await;
        let began = Instant::now();
        start.send_replace(true);
        let (mut failed, mut values) = (0, Vec::new());
        for caller in callers {
            match caller.await? {
                Ok(ticker) if values.contains(&ticker) => {}
                Ok(ticker) => values.push(ticker),
                Err(_) => failed += 1,
            }
        }
        Ok(Self {
            callers: CALLERS,
            loads: service.cache().stats().loads - loads,
            failed,
            values: values.len(),
            took: began.elapsed(),
            may_load_again: service.cache().health().await.remote.is_some(),
        })
    }

    /// What is wrong with it.
    pub(super) fn failure(&self) -> Option<String> {
        if self.failed > 0 {
            return Some(format!("{} of {} callers of a cold key got an error", self.failed, self.callers));
        }
        let right = self.loads == 1 || self.may_load_again && self.loads <= 2;
        (!right).then(|| format!("{} callers of a cold key took {} loads", self.callers, self.loads))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "callers": self.callers,
            "loads": self.loads,
            "failed": self.failed,
            "values": self.values,
            "took_us": super::report::micros(self.took),
        })
    }
}
