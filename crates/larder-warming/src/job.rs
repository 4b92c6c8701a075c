//! A warming that runs by a schedule.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use larder_core::{Timer, UnixMillis};
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle, JoinSet},
};

use crate::{Report, Schedule, failure::panic_message};

/// The longest sleep: a wall clock that is set, and a machine that slept, are noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A wall clock that was set back by more than this is believed: due times in the repeated span are due again. Smaller
/// steps are corrections, and must not run a job twice.
const CLOCK_WAS_WRONG: Duration = Duration::from_secs(3600);

/// What a scheduled job has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JobStatus {
    /// Runs that were started.
    pub started: u64,
    /// Runs that ended with a report.
    pub finished: u64,
    /// Runs that ended in a panic.
    pub panicked: u64,
    /// Due times that were passed over, because the run before was still under way, or because several had passed while
    /// the machine slept.
    pub skipped: u64,
    /// When the next run is due; `None` once the job has stopped.
    pub next_due: Option<UnixMillis>,
    /// The report of the last run that ended with one.
    pub last_report: Option<Report>,
}

/// A job that runs at each due time of a schedule, in a task of its own.
///
/// It never overlaps itself: a due time that comes while a run is under way is skipped, and logged. Due times that passed
/// unseen, because the machine slept or the clock was set forward, are made up for by a single run. A clock that is set
/// back by up to an hour repeats no run. A run that panics is logged, and the next one comes as planned.
///
/// Dropping the handle aborts the job, a run under way included; [`stop`](Self::stop) lets that run end.
pub struct ScheduledJob {
    task: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    status: watch::Receiver<JobStatus>,
}

impl ScheduledJob {
    /// Starts the job; its first run is at the first due time after now. Needs a tokio runtime.
    pub fn spawn<F, Fut>(timer: Arc<dyn Timer>, schedule: Schedule, job: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Report> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let (publish, status) = watch::channel(JobStatus::default());
        let handled = timer.wall();
        let worker = Worker { timer, schedule, publish, runs: JoinSet::new(), handled };
        let task = tokio::spawn(worker.work(Arc::new(job), stopped));
        Self { task: Some(task), stop, status }
    }

    /// What the job has done so far.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// The report of the last run that ended with one.
    #[must_use]
    pub fn last_report(&self) -> Option<Report> {
        self.status.borrow().last_report.clone()
    }

    /// Waits until the status is as asked, and answers it; `None` if the job ended before. Dropping the future changes
    /// nothing.
    pub async fn wait_until(&self, reached: impl FnMut(&JobStatus) -> bool) -> Option<JobStatus> {
        self.status.clone().wait_for(reached).await.ok().map(|status| status.clone())
    }

    /// Starts no more runs, waits for the one under way, and answers the last status. When this future is dropped, the
    /// run under way is aborted.
    pub async fn stop(mut self) -> JobStatus {
        self.stop.send_replace(true);
        if let Some(task) = &mut self.task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "a scheduled job ended abnormally");
        }
        self.task = None;
        self.status()
    }
}

impl Drop for ScheduledJob {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for ScheduledJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduledJob").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

/// The most missed due times that are counted one by one.
const MOST_COUNTED: usize = 1000;

/// How a run ended: with a report, or with what its panic said.
type Ended = Result<Report, String>;

/// The task behind a [`ScheduledJob`]; its runs are aborted with it.
struct Worker {
    timer: Arc<dyn Timer>,
    schedule: Schedule,
    publish: watch::Sender<JobStatus>,
    runs: JoinSet<Ended>,
    /// Due times up to here have been dealt with.
    handled: UnixMillis,
}

impl Worker {
    async fn work<F, Fut>(mut self, job: Arc<F>, mut stopped: watch::Receiver<bool>)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Report> + Send + 'static,
    {
        loop {
            let Some(due) = self.schedule.next_after(self.handled) else {
                tracing::warn!(schedule = %self.schedule, "the schedule has no further due time, the job ends");
                break;
            };
            self.publish.send_modify(|status| status.next_due = Some(due));
            // The deadline is taken before the wall clock is read: a jump in between is slept through for one turn at most.
            let now = self.timer.now_precise();
            let wait = due.remaining(self.timer.wall()).min(LONGEST_SLEEP);
            if wait.is_zero() {
                self.fire(due, &job);
                continue;
            }
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                Some(ended) = self.runs.join_next(), if !self.runs.is_empty() => self.ended(ended),
                () = self.timer.sleep_until(now + wait) => self.notice_a_clock_set_back(),
            }
        }
        while let Some(ended) = self.runs.join_next().await {
            self.ended(ended);
        }
        self.publish.send_modify(|status| status.next_due = None);
    }

    /// Deals with a due time that has come, and with all others that have passed by now.
    fn fire<F, Fut>(&mut self, due: UnixMillis, job: &Arc<F>)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Report> + Send + 'static,
    {
        let now = self.timer.wall().max(due);
        let passed = self.schedule.upcoming(self.handled).take_while(|time| *time <= now).take(MOST_COUNTED).count();
        self.handled = now;
        while let Some(ended) = self.runs.try_join_next() {
            self.ended(ended);
        }
        let busy = !self.runs.is_empty();
        let skipped = passed.saturating_sub(usize::from(!busy)) as u64;
        if skipped > 0 {
            let reason = if busy { "the run before is still under way" } else { "they passed unseen" };
            tracing::warn!(schedule = %self.schedule, skipped, reason, "due times of a scheduled job were skipped");
        }
        self.publish.send_modify(|status| {
            status.skipped += skipped;
            status.started += u64::from(!busy);
        });
        if !busy {
            let job = Arc::clone(job);
            let run = async move { AssertUnwindSafe(async { job().await }).catch_unwind().await };
            self.runs.spawn(run.map(|outcome| outcome.map_err(|panic| panic_message(&*panic))));
        }
    }

    fn ended(&self, ended: Result<Ended, JoinError>) {
        match ended.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(report) => self.publish.send_modify(|status| {
                status.finished += 1;
                status.last_report = Some(report);
            }),
            Err(reason) => {
                tracing::error!(schedule = %self.schedule, reason, "a scheduled job failed; it runs again when it is due");
                self.publish.send_modify(|status| status.panicked += 1);
            }
        }
    }

    fn notice_a_clock_set_back(&mut self) {
        let now = self.timer.wall();
        if now + CLOCK_WAS_WRONG < self.handled {
            tracing::warn!(schedule = %self.schedule, "the wall clock was set back by more than an hour, due times follow it");
            self.handled = now;
        }
    }
}
