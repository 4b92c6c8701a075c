use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{Clock as _, UnixMillis};
use larder_warming::{Report, Schedule, ScheduledJob, Warmed, Warmer};
use tokio::sync::{Semaphore, mpsc};

use crate::clock::{TestClock, at};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::cron(expression, zone).expect("a valid schedule")
}

/// A job that writes down when it runs.
fn recording(clock: &TestClock, schedule: Schedule) -> (ScheduledJob, Arc<Mutex<Vec<UnixMillis>>>) {
    let runs: Arc<Mutex<Vec<UnixMillis>>> = Arc::default();
    let (times, times_clock) = (Arc::clone(&runs), clock.clone());
    let job = ScheduledJob::spawn(clock.timer(), schedule, move || {
        times.lock().expect("no run panics while it holds the list").push(times_clock.wall());
        async { Report::default() }
    });
    (job, runs)
}

/// Moves time on and waits until the job has seen it, that is, sleeps again with nothing under way.
async fn step(clock: &TestClock, job: &ScheduledJob, by: Duration) {
    clock.somebody_sleeps().await;
    clock.advance(by);
    clock.somebody_sleeps().await;
    job.wait_until(|status| status.started == status.finished + status.panicked).await.expect("the job lives");
    clock.somebody_sleeps().await;
}

#[tokio::test]
async fn a_job_runs_exactly_once_at_each_due_time() {
    let clock = TestClock::at("2026-01-01T00:00:30Z");
    let (job, runs) = recording(&clock, schedule("0 * * * *", "UTC"));
    for _ in 0..(24 * 60 * 2) {
        step(&clock, &job, MINUTE / 2).await;
    }
    let expected: Vec<UnixMillis> = (1..=24).map(|hour| at("2026-01-01T00:00:00Z") + HOUR * hour).collect();
    assert_eq!(*runs.lock().unwrap(), expected);
    let status = job.stop().await;
    assert_eq!((status.started, status.finished, status.skipped, status.next_due), (24, 24, 0, None));
}

#[tokio::test]
async fn a_daily_job_keeps_its_local_time_when_the_clocks_change() {
    let clock = TestClock::at("2026-03-27T12:00:00Z");
    let (job, runs) = recording(&clock, schedule("0 8 * * *", "Europe/London").before(HOUR / 2));
    for _ in 0..(4 * 24 * 4) {
        step(&clock, &job, MINUTE * 15).await;
    }
    let expected = ["2026-03-28T07:30:00Z", "2026-03-29T06:30:00Z", "2026-03-30T06:30:00Z", "2026-03-31T06:30:00Z"];
    assert_eq!(*runs.lock().unwrap(), expected.map(at));
}

#[tokio::test]
async fn due_times_that_passed_while_the_machine_slept_are_made_up_for_by_one_run() {
    let clock = TestClock::at("2026-01-01T00:00:30Z");
    let (job, runs) = recording(&clock, schedule("0 * * * *", "UTC"));
    step(&clock, &job, HOUR * 5).await;
    assert_eq!(*runs.lock().unwrap(), [at("2026-01-01T05:00:30Z")]);
    assert_eq!((job.status().started, job.status().skipped), (1, 4));
    assert_eq!(job.status().next_due, Some(at("2026-01-01T06:00:00Z")));
}

#[tokio::test]
async fn a_wall_clock_set_forward_is_noticed_within_a_minute() {
    let clock = TestClock::at("2026-01-01T00:00:30Z");
    let (job, runs) = recording(&clock, schedule("0 12 * * *", "UTC"));
    step(&clock, &job, MINUTE).await;
    clock.set_wall(at("2026-01-01T12:00:05Z"));
    step(&clock, &job, MINUTE).await;
    assert_eq!(*runs.lock().unwrap(), [at("2026-01-01T12:01:05Z")]);
}

#[tokio::test]
async fn a_small_correction_backwards_repeats_no_run() {
    let clock = TestClock::at("2026-01-01T11:59:30Z");
    let (job, runs) = recording(&clock, schedule("0 12 * * *", "UTC"));
    step(&clock, &job, MINUTE).await;
    clock.set_wall(at("2026-01-01T11:58:00Z"));
    for _ in 0..10 {
        step(&clock, &job, MINUTE).await;
    }
    assert_eq!(*runs.lock().unwrap(), [at("2026-01-01T12:00:30Z")]);
}

#[tokio::test]
async fn a_clock_that_was_years_ahead_does_not_silence_the_job_until_then() {
    let clock = TestClock::at("2030-06-01T11:59:30Z");
    let (job, runs) = recording(&clock, schedule("0 12 * * *", "UTC"));
    step(&clock, &job, MINUTE).await;
    clock.set_wall(at("2026-01-01T11:57:00Z"));
    for _ in 0..4 {
        step(&clock, &job, MINUTE).await;
    }
    assert_eq!(*runs.lock().unwrap(), [at("2030-06-01T12:00:30Z"), at("2026-01-01T12:00:00Z")]);
}

#[tokio::test]
async fn a_job_never_overlaps_itself_and_counts_what_it_skips() {
    let clock = TestClock::at("2026-01-01T00:00:30Z");
    let gate = Arc::new(Semaphore::new(0));
    let (begun, mut begins) = mpsc::unbounded_channel();
    let pass = Arc::clone(&gate);
    let job = ScheduledJob::spawn(clock.timer(), schedule("* * * * *", "UTC"), move || {
        begun.send(()).unwrap();
        let pass = Arc::clone(&pass);
        async move {
            pass.acquire().await.unwrap().forget();
            Report::default()
        }
    });
    clock.somebody_sleeps().await;
    clock.advance(MINUTE);
    begins.recv().await.unwrap();
    for skipped in 1..=3 {
        clock.somebody_sleeps().await;
        clock.advance(MINUTE);
        let status = job.wait_until(|status| status.skipped == skipped).await.unwrap();
        assert_eq!(status.started, 1);
    }
    gate.add_permits(1);
    job.wait_until(|status| status.finished == 1).await.unwrap();
    clock.somebody_sleeps().await;
    clock.advance(MINUTE);
    begins.recv().await.unwrap();
    assert_eq!((job.status().started, job.status().skipped), (2, 3));
}

#[tokio::test]
async fn a_run_that_panics_does_not_end_the_job() {
    let clock = TestClock::at("2026-01-01T00:00:30Z");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let job = ScheduledJob::spawn(clock.timer(), schedule("* * * * *", "UTC"), move || {
        assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "the first run fails");
        async { Report::default() }
    });
    step(&clock, &job, MINUTE).await;
    assert_eq!((job.status().panicked, job.last_report()), (1, None));
    step(&clock, &job, MINUTE).await;
    assert_eq!((job.status().finished, job.last_report()), (1, Some(Report::default())));
}

#[tokio::test]
async fn stopping_lets_the_run_under_way_end_and_keeps_its_report() {
    let clock = TestClock::at("2026-01-01T00:00:30Z");
    let gate = Arc::new(Semaphore::new(0));
    let (begun, mut begins) = mpsc::unbounded_channel();
    let pass = Arc::clone(&gate);
    let job = ScheduledJob::spawn(clock.timer(), schedule("* * * * *", "UTC"), move || {
        begun.send(()).unwrap();
        let pass = Arc::clone(&pass);
        async move {
            pass.acquire().await.unwrap().forget();
            let warmer = Warmer::builder().build().unwrap();
            warmer.run("opening", ["BTC"], |_| async { Ok::<_, String>(Warmed::Loaded) }).await
        }
    });
    clock.somebody_sleeps().await;
    clock.advance(MINUTE);
    begins.recv().await.unwrap();
    let stopping = tokio::spawn(job.stop());
    clock.advance(MINUTE * 5);
    gate.add_permits(1);
    let status = stopping.await.unwrap();
    assert_eq!((status.started, status.finished), (1, 1));
    assert_eq!(status.last_report.unwrap().loaded, 1);
    // The job, and the sender in it, are gone: nothing begins again.
    assert_eq!(begins.recv().await, None);
}

#[tokio::test]
async fn dropping_the_handle_aborts_the_job_and_the_run_under_way() {
    let clock = TestClock::at("2026-01-01T00:00:30Z");
    let (begun, mut begins) = mpsc::unbounded_channel();
    let job = ScheduledJob::spawn(clock.timer(), schedule("* * * * *", "UTC"), move || {
        let begun = begun.clone();
        async move {
            begun.send(()).unwrap();
            pending::<Report>().await
        }
    });
    clock.somebody_sleeps().await;
    clock.advance(MINUTE);
    begins.recv().await.unwrap();
    drop(job);
    assert_eq!(begins.recv().await, None);
}
