//! Several processes that read and invalidate while everything fails: `cargo xtask coherence` for some seconds.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use larder_tests::coherence::{Choice, Driver, Fault, Job, Options, Report, Rule, Sabotage, prepare};

use crate::until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_larder-tests-coherence");

/// Repeats what failed elsewhere: `LARDER_TORTURE_SEED=7 cargo xtask test coherence_torture`.
const SEED: &str = "LARDER_TORTURE_SEED";

fn seed() -> u64 {
    std::env::var(SEED).map_or(20_261_125, |seed| seed.parse().expect("a seed is a number"))
}

async fn torture(seconds: u64, faults: &[Fault], sabotage: Option<Sabotage>) -> Report {
    let faults = faults.iter().map(|fault| Choice(Some(*fault))).collect();
    let options = Options { seconds, seed: seed(), processes: 4, faults: Some(faults), sabotage };
    let driver = Driver::start(PROGRAM, options).await.expect("there is a redis-server");
    let report = driver.run(|_| ()).await.expect("the processes run to their ends");
    // Shown where a test fails.
    #[expect(clippy::print_stdout, reason = "a run is repeated with its seed")]
    {
        println!("{report}");
    }
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_falls_behind_what_was_promised_while_everything_fails() {
    let faults = Fault::ALL;
    let report = torture(10, &faults, None).await;
    assert!(report.holds, "{report}");
    assert!(report.reads > 0 && report.writes > 0 && report.invalidations > 0, "{report}");
    for fault in faults {
        assert!(report.faults.get(&fault).is_some_and(|count| *count > 0), "{fault} did not occur: {report}");
    }
    for rule in [Rule::Own, Rule::Heard, Rule::Elsewhere] {
        assert!(report.counts.bound_by.get(&rule).is_some_and(|count| *count > 0), "{rule} was not checked: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_faults_nothing_is_deferred_and_nothing_falls_behind() {
    let report = torture(3, &[], None).await;
    assert!(report.holds, "{report}");
    assert_eq!(report.faults.len(), 0);
    assert!(report.counts.heard > 0, "{report}");
}

/// A third of the messages gets lost without a word. Until that is noticed, old values may be read; it may take two heartbeats.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_does_not_get_messages_notices_and_keeps_nothing_old() {
    let report = torture(3, &[], Some(Sabotage::Messages)).await;
    assert!(report.reads > 0 && report.invalidations > 0, "{report}");
    for rule in [Rule::Own, Rule::End, Rule::Redis] {
        assert!(!report.violations_by_rule.contains_key(&rule), "{rule}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_that_do_not_happen_are_found() {
    let report = torture(3, &[], Some(Sabotage::Removals)).await;
    assert!(report.violations_by_rule.contains_key(&Rule::Own), "{report}");
    assert!(report.violations_by_rule.contains_key(&Rule::Heard), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_that_are_stored_although_they_are_old_are_found() {
    let report = torture(3, &[], Some(Sabotage::Fills)).await;
    assert!(report.violations > 0, "{report}");
}

/// The processes that a process has started, without those that have ended.
#[cfg(target_os = "linux")]
fn workers_of(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process is there");
    let children = tasks.flat_map(|task| {
        let children = std::fs::read_to_string(task.expect("tasks can be listed").path().join("children"));
        children.unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
    });
    children.filter(|id| is_worker(*id)).collect()
}

#[cfg(target_os = "linux")]
fn is_worker(process: u32) -> bool {
    let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.contains("--worker")
}

#[cfg(target_os = "linux")]
fn is_stopped(process: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_process_is_left_behind_not_even_a_stopped_one() {
    let driver = ["--seconds", "600", "--seed", "1", "--faults", "process-paused"];
    let mut driver = Command::new(PROGRAM).args(driver).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut workers = Vec::new();
    until("a process is stopped", || {
        workers = workers_of(driver.id());
        std::future::ready(workers.len() == 4 && workers.iter().any(|worker| is_stopped(*worker)))
    })
    .await;
    driver.kill().unwrap();
    driver.wait().unwrap();
    until("all have ended", || std::future::ready(!workers.iter().any(|worker| is_worker(*worker)))).await;
}

#[test]
fn a_process_ends_with_the_one_that_started_it() {
    let server = larder_testing::RedisServer::start();
    let folder = server.command(&["CONFIG", "GET", "dir"]).lines().nth(1).map(PathBuf::from).unwrap();
    prepare(&folder, 2).unwrap();
    let job = Job {
        data_url: server.url(),
        bus_url: server.url(),
        folder,
        process: 0,
        processes: 2,
        incarnation: 0,
        seed: 1,
        deadline_ms: 1000,
        began: 0,
        sabotage: None,
    };
    // No input stands for a parent that is gone.
    let job = serde_json::to_string(&job).unwrap();
    let status = Command::new(PROGRAM).args(["--worker", &job]).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
}
