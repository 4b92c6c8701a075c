//! Callers in several processes that all miss one cold key: `cargo xtask stampede` with smaller numbers.

use std::process::Command;

use larder_tests::stampede::{Options, Scenario, ScenarioReport, Stampede};

const PROGRAM: &str = env!("CARGO_BIN_EXE_larder-tests-stampede");

fn run(scenario: Scenario, callers: u32, processes: u32) -> ScenarioReport {
    let options = Options { callers, processes, load_ms: 200, remote_deadline_ms: 10_000, seed: 7 };
    let stampede = Stampede::start(PROGRAM, options).expect("there is a redis-server");
    stampede.run(scenario).expect("the processes run to their ends")
}

#[test]
fn processes_that_wait_for_the_one_that_loads_need_one_load() {
    let report = run(Scenario::WithLeases, 500, 3);
    assert_eq!(report.problems, [""; 0], "{report:?}");
    assert_eq!((report.loads, report.answered, report.values.len()), (1, 1500, 1));
}

#[test]
fn without_leases_each_process_loads_at_most_once() {
    let report = run(Scenario::WithoutLeases, 500, 3);
    assert_eq!(report.problems, [""; 0], "{report:?}");
    assert!((1..=3).contains(&report.loads), "{} loads", report.loads);
    assert_eq!(report.answered, 1500);
}

#[test]
fn callers_of_one_process_read_the_remote_tier_once_for_all() {
    // The key with the markers, the markers again for the load, and the heartbeats of a second; a read may be repeated
    // once.
    let report = run(Scenario::WithoutLeases, 500, 3);
    assert!((3..=24).contains(&report.reads), "{} reads", report.reads);
}

#[test]
fn when_the_process_that_loads_is_killed_the_next_one_takes_over() {
    let report = run(Scenario::LeaderKilled, 500, 3);
    assert_eq!(report.problems, [""; 0], "{report:?}");
    assert_eq!((report.loads, report.answered, report.values.len()), (2, 1000, 1));
    // The killed one answered nobody, and the two others loaded once.
    assert_eq!(report.processes.iter().map(|process| process.loads).sum::<u64>(), 1);
}

#[test]
fn of_two_processes_the_survivor_loads_when_the_other_is_killed() {
    let report = run(Scenario::LeaderKilled, 1, 2);
    assert_eq!((report.loads, report.answered), (2, 1));
}

#[test]
fn a_process_ends_with_the_one_that_started_it() {
    let server = larder_testing::RedisServer::start();
    let job = larder_tests::stampede::Job {
        url: server.url(),
        name: "left".to_owned(),
        process: 0,
        callers: 1,
        load_ms: 1,
        remote_deadline_ms: 10_000,
        delay_us: 0,
        lease: true,
        first_load_hangs: true,
    };
    // No input stands for a parent that is gone.
    let job = serde_json::to_string(&job).unwrap();
    let status = Command::new(PROGRAM).args(["--worker", &job]).stdin(std::process::Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
}
