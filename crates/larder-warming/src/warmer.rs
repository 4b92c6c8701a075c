//! The warmer: a function run for many keys.

use std::{collections::HashMap, fmt, num::NonZeroU32, pin::pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use larder_core::{Error, Key, Result, SystemClock, Timer, ToKey};
use tokio::task::{Id, JoinError, JoinSet};

use crate::{Failure, Progress, Report, Warmed, attempt::Attempts, pace::Pace};

type Callback = Arc<dyn Fn(Progress) + Send + Sync>;

/// Every pair of the two lists, the second running faster.
///
/// ```
/// let pairs = larder_warming::product(["BTC", "ETH"], [14, 21]);
/// assert_eq!(pairs, [("BTC", 14), ("BTC", 21), ("ETH", 14), ("ETH", 21)]);
/// ```
#[must_use]
pub fn product<A: Clone, B: Clone>(
    first: impl IntoIterator<Item = A>,
    second: impl IntoIterator<Item = B>,
) -> Vec<(A, B)> {
    let second: Vec<B> = second.into_iter().collect();
    first.into_iter().flat_map(|a| second.iter().map(move |b| (a.clone(), b.clone()))).collect()
}

/// Runs a function for many keys. Cheap to clone; clones and concurrent runs share the rate limit.
#[derive(Clone)]
pub struct Warmer {
    concurrency: usize,
    attempts: Attempts,
    failures_listed: usize,
    progress: Option<Callback>,
}

/// The settings of a [`Warmer`].
#[derive(Clone)]
#[must_use = "call `build`"]
pub struct WarmerBuilder {
    concurrency: usize,
    rate_per_second: Option<u32>,
    attempts: u32,
    first_pause: Duration,
    longest_pause: Duration,
    timeout: Duration,
    failures_listed: usize,
    progress: Option<Callback>,
    timer: Option<Arc<dyn Timer>>,
}

impl WarmerBuilder {
    /// How many keys are warmed at the same time, at least 1; 8 by default.
    pub fn concurrency(mut self, keys: usize) -> Self {
        self.concurrency = keys;
        self
    }

    /// How many attempts are begun in a second at most, at least 1, evenly spaced; no limit by default.
    pub fn rate_per_second(mut self, attempts: u32) -> Self {
        self.rate_per_second = Some(attempts);
        self
    }

    /// How often a key is tried in all, at least 1; 3 by default. A function that panics is not tried again.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The pause after the first failed attempt of a key, and the longest one. It doubles from attempt to attempt, with
    /// up to as much again at random. 100 ms and 5 s by default.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.first_pause, self.longest_pause) = (first, longest);
        self
    }

    /// How long one attempt may take, above zero; 30 s by default. Then its future is dropped.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many failures a report lists; 100 by default. All are counted.
    pub fn failures_listed(mut self, failures: usize) -> Self {
        self.failures_listed = failures;
        self
    }

    /// Is called after each key. It holds up the run: it must be quick.
    pub fn on_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// Where time comes from; the machine's clock by default.
    pub fn timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// The warmer.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting that is wrong.
    pub fn build(self) -> Result<Warmer> {
        let at_least_one = |field, given: usize| {
            if given == 0 { Err(Error::config(field, "is 0; it must be at least 1")) } else { Ok(()) }
        };
        at_least_one("concurrency", self.concurrency)?;
        at_least_one("attempts", usize::from(self.attempts > 0))?;
        if self.timeout.is_zero() {
            return Err(Error::config("timeout", "is zero; an attempt needs time, 30 s is usual"));
        }
        if self.longest_pause < self.first_pause {
            let message = format!("the longest ({:?}) is below the first ({:?})", self.longest_pause, self.first_pause);
            return Err(Error::config("pauses", message));
        }
        let timer = self.timer.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let pace = match self.rate_per_second.map(NonZeroU32::new) {
            None => None,
            Some(Some(rate)) => Some(Arc::new(Pace::new(rate, Arc::clone(&timer)))),
            Some(None) => return Err(Error::config("rate_per_second", "is 0; leave it unset for no limit")),
        };
        let attempts = Attempts {
            most: self.attempts,
            timeout: self.timeout,
            first_pause: self.first_pause,
            longest_pause: self.longest_pause,
            pace,
            timer,
        };
        let Self { concurrency, failures_listed, progress, .. } = self;
        Ok(Warmer { concurrency, attempts, failures_listed, progress })
    }
}

impl Warmer {
    /// A builder with the default settings.
    pub fn builder() -> WarmerBuilder {
        WarmerBuilder {
            concurrency: 8,
            rate_per_second: None,
            attempts: 3,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            failures_listed: 100,
            progress: None,
            timer: None,
        }
    }

    /// Runs `warm` for each key, each in a task of its own, and reports. One key's error, time-out or panic is a failure
    /// in the report and does not keep the others from being warmed. A key's future is made anew for each attempt.
    ///
    /// When the returned future is dropped, the tasks are aborted and no key is begun any more; what was warmed stays.
    /// Needs a tokio runtime.
    pub async fn run<K, F, Fut, E>(
        &self,
        name: impl Into<String>,
        keys: impl IntoIterator<Item = K, IntoIter: Send>,
        warm: F,
    ) -> Report
    where
        K: ToKey + Clone + Send + Sync + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Warmed, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.run_stream(name, stream::iter(keys), warm).await
    }

    /// As [`run`](Self::run), for keys that arrive one by one; the stream is read no further than the concurrency allows.
    pub async fn run_stream<K, F, Fut, E>(
        &self,
        name: impl Into<String>,
        keys: impl Stream<Item = K> + Send,
        warm: F,
    ) -> Report
    where
        K: ToKey + Clone + Send + Sync + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Warmed, E>> + Send + 'static,
        E: fmt::Display,
    {
        let total = exact_size(&keys);
        let mut keys = pin!(keys.fuse());
        let mut run = Run::new(self, name.into(), total);
        let warm = Arc::new(warm);
        loop {
            tokio::select! {
                biased;
                Some(joined) = run.tasks.join_next_with_id(), if !run.tasks.is_empty() => run.finished(joined),
                key = keys.next(), if run.tasks.len() < self.concurrency && !run.exhausted => match key {
                    Some(key) => run.begin(key, Arc::clone(&warm)),
                    None => run.exhausted = true,
                },
                else => break run.into_report(),
            }
        }
    }
}

/// One run under way. Dropping it aborts its tasks.
struct Run<'w> {
    warmer: &'w Warmer,
    report: Report,
    total: Option<usize>,
    started: larder_core::Tick,
    tasks: JoinSet<Result<Warmed, Failure>>,
    /// Names the key of a task that ended without a result.
    names: HashMap<Id, String>,
    exhausted: bool,
}

impl<'w> Run<'w> {
    fn new(warmer: &'w Warmer, name: String, total: Option<usize>) -> Self {
        let started = warmer.attempts.timer.now_precise();
        let (tasks, names) = (JoinSet::new(), HashMap::new());
        Self { warmer, report: Report::named(name), total, started, tasks, names, exhausted: false }
    }

    fn begin<K, F, Fut, E>(&mut self, key: K, warm: Arc<F>)
    where
        K: ToKey + Clone + Send + Sync + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Warmed, E>> + Send + 'static,
        E: fmt::Display,
    {
        let name = Key::new(&key).to_string();
        let attempts = self.warmer.attempts.clone();
        let failed_name = name.clone();
        let task = async move { attempts.run(&key, &*warm, failed_name).await };
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    fn finished(&mut self, joined: Result<(Id, Result<Warmed, Failure>), JoinError>) {
        let outcome = match joined {
            Ok((id, outcome)) => {
                self.names.remove(&id);
                outcome
            }
            // Panics are caught within the task: this one was aborted by a runtime that shuts down.
            Err(error) => {
                let key = self.names.remove(&error.id()).unwrap_or_default();
                Err(Failure { key, reason: error.to_string(), attempts: 1 })
            }
        };
        if let Err(failure) = &outcome {
            tracing::debug!(warming = %self.report.name, %failure, "a key could not be warmed");
        }
        self.report.count(outcome, self.warmer.failures_listed);
        if let Some(callback) = &self.warmer.progress {
            callback(self.report.progress(self.total, self.elapsed()));
        }
    }

    fn elapsed(&self) -> Duration {
        self.warmer.attempts.timer.now_precise().since(self.started)
    }

    fn into_report(mut self) -> Report {
        self.report.elapsed = self.elapsed();
        let Report { name, loaded, already_warm, failed, elapsed, .. } = &self.report;
        tracing::info!(warming = %name, loaded, already_warm, failed, ?elapsed, "warmed");
        self.report
    }
}

fn exact_size(keys: &impl Stream) -> Option<usize> {
    let (least, most) = keys.size_hint();
    most.filter(|most| *most == least)
}

impl fmt::Debug for Warmer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Warmer");
        out.field("concurrency", &self.concurrency).field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

impl fmt::Debug for WarmerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmerBuilder")
            .field("concurrency", &self.concurrency)
            .field("rate_per_second", &self.rate_per_second)
            .field("attempts", &self.attempts)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
