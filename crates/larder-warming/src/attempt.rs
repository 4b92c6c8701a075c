//! Warming one key: attempts with pauses between them, each with a time-out.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::FutureExt as _;
use larder_core::Timer;

use crate::{
    Failure, Warmed,
    failure::{one_line, panic_message},
    pace::Pace,
};

/// How one key is tried.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    pub(crate) most: u32,
    pub(crate) timeout: Duration,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) pace: Option<Arc<Pace>>,
    pub(crate) timer: Arc<dyn Timer>,
}

/// Why one attempt failed.
struct Fault {
    reason: String,
    /// A panic is a defect: trying again would only repeat it.
    retry: bool,
}

impl Attempts {
    /// Tries until it works or the attempts are used up; `name` is the key as a failure calls it.
    pub(crate) async fn run<K, F, Fut, E>(&self, key: &K, warm: &F, name: String) -> Result<Warmed, Failure>
    where
        K: Clone,
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Warmed, E>>,
        E: fmt::Display,
    {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(usize::try_from(self.most.saturating_sub(1)).unwrap_or(usize::MAX))
            .with_jitter()
            .build();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let fault = match self.once(key, warm).await {
                Ok(warmed) => return Ok(warmed),
                Err(fault) => fault,
            };
            match pauses.next() {
                Some(pause) if fault.retry => self.timer.sleep(pause).await,
                _ => return Err(Failure { key: name, reason: one_line(&fault.reason), attempts }),
            }
        }
    }

    async fn once<K, F, Fut, E>(&self, key: &K, warm: &F) -> Result<Warmed, Fault>
    where
        K: Clone,
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Warmed, E>>,
        E: fmt::Display,
    {
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
        // The function may panic before it gives a future, too. Whatever a panic leaves behind is the function's own.
        let guarded =
            AssertUnwindSafe(async { warm(key.clone()).await.map_err(|error| error.to_string()) }).catch_unwind();
        tokio::select! {
            biased;
            outcome = guarded => match outcome {
                Ok(Ok(warmed)) => Ok(warmed),
                Ok(Err(reason)) => Err(Fault { reason, retry: true }),
                Err(panic) => Err(Fault { reason: panic_message(&*panic), retry: false }),
            },
            () = self.timer.sleep(self.timeout) => {
                Err(Fault { reason: format!("no result within {:?}", self.timeout), retry: true })
            }
        }
    }
}
