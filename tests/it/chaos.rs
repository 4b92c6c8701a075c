//! Every fault of `cargo xtask chaos` for a few seconds. What must hold at any speed is asserted; figures are only printed.

use larder_tests::chaos::{Problem, Report, Sabotage, Scenario, ScenarioReport, Settings, draw, run};

const SEED: u64 = 6;

async fn outcome(scenario: Scenario, settings: &Settings) -> ScenarioReport {
    let (report, latencies) = run(scenario, settings, &|_| ()).await.expect("servers can be started and commanded");
    let picture = draw(&report, &latencies);
    assert!(picture.contains(&scenario.name()) && picture.ends_with("</svg>\n"), "{picture}");
    for line in picture.lines().filter(|line| line.starts_with("<polyline")) {
        let points = line.split("points=\"").nth(1).expect("a line has points");
        assert!(points.split(' ').count() > 10 && !points.contains("NaN"), "{line}");
    }
    report
}

#[expect(clippy::print_stdout, reason = "shown where a test fails, and on request")]
async fn survives(scenario: Scenario) {
    let report = outcome(scenario, &Settings::short(SEED)).await;
    assert!(report.calls > 0 && report.changes > 0, "{report:?}");
    let problems = report.problems.clone();
    println!("{}", Report::new(SEED, 0, vec![report]));
    assert_eq!(problems, [], "{scenario}: see above");
}

/// A test for each scenario, named after it.
macro_rules! scenarios {
    ($($name:ident: $scenario:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                survives(Scenario::$scenario).await;
            }
        )*

        #[test]
        fn every_scenario_is_run() {
            assert_eq!([$(Scenario::$scenario),*], Scenario::all());
        }
    };
}

scenarios! {
    a_server_that_is_killed_and_restarted_costs_no_caller_anything: KillRestart,
    a_stopped_server_costs_no_caller_anything: Sigstop,
    a_black_hole_costs_no_caller_anything: Blackhole,
    answers_that_are_30_ms_late_cost_no_caller_anything: Delay30ms,
    answers_that_are_500_ms_late_cost_no_caller_anything: Delay500ms,
    connections_that_are_reset_cost_no_caller_anything: ResetEveryTenth,
    a_server_without_memory_costs_no_caller_anything: Oom,
    a_server_that_has_become_a_replica_costs_no_caller_anything: Readonly,
    a_changed_password_costs_no_caller_anything: AuthChanged,
    a_server_that_loads_its_data_costs_no_caller_anything: Loading,
    a_server_that_starts_again_empty_costs_no_caller_anything: RestartEmpty,
    what_was_invalidated_in_an_outage_does_not_come_back_with_the_dump: RestartOldDump,
    a_full_disk_under_the_journal_loses_no_invalidation_even_if_the_process_dies: JournalDiskFull,
    what_was_invalidated_before_a_crash_does_not_come_back_with_an_older_dump: CrashOldDump,
    a_removal_that_comes_late_while_the_breaker_stays_closed_is_not_lost: DelTimesOut,
    a_process_that_noticed_nothing_hears_what_was_invalidated_while_the_server_stopped: SigstopBusIntact,
    a_write_that_was_left_in_a_socket_does_not_bring_an_old_value_back: SetInSocketBuffer,
    a_flapping_server_costs_no_caller_anything: Flapping,
    of_two_processes_one_may_be_cut_off: TwoProcessesOneCutOff,
}

/// In a scenario in which Redis keeps what it has.
async fn noticed(sabotage: Sabotage) -> Vec<Problem> {
    let settings = Settings { sabotage, ..Settings::short(SEED) };
    outcome(Scenario::Delay30ms, &settings).await.problems
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidations_that_are_forgotten_are_noticed() {
    let problems = noticed(Sabotage::InvalidationsForgotten).await;
    assert!(problems.contains(&Problem::WrongValues) && problems.contains(&Problem::LostInvalidations), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_that_fail_are_noticed() {
    assert_eq!(noticed(Sabotage::LoadsFail).await, [Problem::Errors]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_behind_the_back_of_the_caches_is_noticed_in_redis() {
    let problems = noticed(Sabotage::LateWrite).await;
    assert!(problems.contains(&Problem::LostInvalidations) && !problems.contains(&Problem::Errors), "{problems:?}");
}
