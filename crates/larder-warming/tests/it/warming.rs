use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::stream;
use larder_core::{Clock as _, ErrorKind};
use larder_warming::{Progress, Report, Warmed, Warmer, WarmerBuilder, product};
use tokio::sync::mpsc;

use crate::clock::TestClock;

const SYMBOLS: [&str; 4] = ["BTC", "ETH", "BNB", "SOL"];

fn clock() -> TestClock {
    TestClock::at("2026-01-01T00:00:00Z")
}

fn builder(clock: &TestClock) -> WarmerBuilder {
    Warmer::builder().timer(clock.timer())
}

#[tokio::test]
async fn a_report_counts_what_was_loaded_what_was_there_and_what_failed() {
    let clock = clock();
    let warm = |symbol: &'static str| async move {
        match symbol {
            "BTC" | "ETH" => Ok(Warmed::Loaded),
            "BNB" => Ok(Warmed::AlreadyWarm),
            _ => Err("the exchange answered 429"),
        }
    };
    let report = clock.drive(builder(&clock).attempts(2).build().unwrap().run("tickers", SYMBOLS, warm)).await;
    assert_eq!((report.loaded, report.already_warm, report.failed, report.total()), (2, 1, 1, 4));
    assert!(!report.is_complete());
    assert_eq!(report.failures[0].to_string(), "SOL (2 attempts): the exchange answered 429");
    let table = report.to_string();
    assert!(table.starts_with("tickers: 4 keys in "), "{table}");
    assert!(table.contains("  already warm        1\n"), "{table}");
    assert!(table.ends_with("    SOL (2 attempts): the exchange answered 429\n"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_keys_are_warmed_at_once_than_allowed() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (gauge, peak) = (Arc::clone(&running), Arc::clone(&most));
    let warm = move |_key: u32| {
        let (gauge, peak) = (Arc::clone(&gauge), Arc::clone(&peak));
        async move {
            peak.fetch_max(gauge.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            gauge.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, String>(Warmed::Loaded)
        }
    };
    let report = Warmer::builder().concurrency(3).build().unwrap().run("gauge", 0..200_u32, warm).await;
    assert_eq!(report.loaded, 200);
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn all_allowed_keys_are_under_way_together() {
    let barrier = Arc::new(tokio::sync::Barrier::new(4));
    let warm = move |_key: &'static str| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            Ok::<_, String>(Warmed::Loaded)
        }
    };
    let report = Warmer::builder().concurrency(4).build().unwrap().run("together", SYMBOLS, warm).await;
    assert_eq!(report.loaded, 4);
}

#[tokio::test]
async fn a_key_that_fails_is_tried_again_after_a_growing_pause() {
    let clock = clock();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (times, times_clock) = (Arc::clone(&begun), clock.clone());
    let warm = move |_key: &'static str| {
        let attempt = {
            let mut times = times.lock().unwrap();
            times.push(times_clock.now());
            times.len()
        };
        async move { if attempt < 3 { Err("not yet") } else { Ok(Warmed::Loaded) } }
    };
    let warmer = builder(&clock).pauses(Duration::from_secs(1), Duration::from_secs(10)).build().unwrap();
    let report = clock.drive(warmer.run("retry", ["BTC"], warm)).await;
    assert_eq!((report.loaded, report.failed), (1, 0));
    let begun = begun.lock().unwrap();
    let pauses: Vec<Duration> = begun.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses[0] >= Duration::from_secs(1) && pauses[0] <= Duration::from_secs(2), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_secs(2) && pauses[1] <= Duration::from_secs(4), "{pauses:?}");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_dropped_and_counts_as_failed() {
    let clock = clock();
    let warm = |_key: &'static str| pending::<Result<Warmed, String>>();
    let warmer = builder(&clock).timeout(Duration::from_secs(2)).attempts(1).build().unwrap();
    let report = clock.drive(warmer.run("slow", ["BTC"], warm)).await;
    assert_eq!(report.failures[0].reason, "no result within 2s");
    assert_eq!(report.elapsed, Duration::from_secs(2));
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_key_and_is_not_repeated() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let warm = move |symbol: &'static str| {
        counted.fetch_add(1, Ordering::SeqCst);
        assert!(symbol != "ETH", "no such market");
        async move {
            assert!(symbol != "BNB", "no candles for {symbol}");
            Ok::<_, String>(Warmed::Loaded)
        }
    };
    let report = Warmer::builder().concurrency(1).build().unwrap().run("panics", SYMBOLS, warm).await;
    assert_eq!((report.loaded, report.failed), (2, 2));
    let reasons: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, ["ETH (1 attempt): panicked: no such market", "BNB (1 attempt): panicked: no candles for BNB"]);
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn the_list_of_failures_is_bounded_and_their_number_is_not() {
    let clock = clock();
    let warmer = builder(&clock).attempts(1).failures_listed(2).build().unwrap();
    let report = clock.drive(warmer.run("all", 0..10_u32, |_| async { Err::<Warmed, _>("down") })).await;
    assert_eq!((report.failed, report.failures.len()), (10, 2));
    assert!(report.to_string().ends_with("    and 8 more\n"), "{report}");
}

#[tokio::test]
async fn progress_is_told_after_each_key_with_the_total_of_a_list_and_none_of_an_open_stream() {
    let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let heard = Arc::clone(&told);
    let warmer = Warmer::builder().on_progress(move |step| heard.lock().unwrap().push(step)).build().unwrap();
    warmer.run("list", SYMBOLS, |_| async { Ok::<_, String>(Warmed::AlreadyWarm) }).await;
    let open = stream::unfold(0_u32, |n| async move { (n < 3).then_some((n, n + 1)) });
    let report = warmer.run_stream("stream", open, |_| async { Ok::<_, String>(Warmed::Loaded) }).await;
    assert_eq!(report.loaded, 3);
    let steps: Vec<_> = told.lock().unwrap().iter().map(|step| (step.done, step.total, step.already_warm)).collect();
    let list = (1..=4).map(|done| (done, Some(4), done));
    let stream = (1..=3).map(|done| (done, None, 0));
    assert_eq!(steps, list.chain(stream).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_pair_of_a_product_is_warmed_and_named_by_its_parts() {
    let clock = clock();
    let pairs = product(SYMBOLS, ["rsi", "macd", "bollinger"]);
    assert_eq!(pairs.len(), 12);
    let warm = |(_, indicator): (&str, &str)| {
        let works = indicator != "macd";
        async move { if works { Ok(Warmed::Loaded) } else { Err("no data") } }
    };
    let report = clock.drive(builder(&clock).attempts(1).build().unwrap().run("indicators", pairs, warm)).await;
    assert_eq!(report.loaded, 8);
    let failed: BTreeSet<&str> = report.failures.iter().map(|failure| failure.key.as_str()).collect();
    assert_eq!(failed, BTreeSet::from(["BNB:macd", "BTC:macd", "ETH:macd", "SOL:macd"]));
}

#[tokio::test]
async fn attempts_begin_no_faster_than_the_rate_and_evenly() {
    let clock = clock();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let (times, times_clock) = (Arc::clone(&begun), clock.clone());
    let warm = move |_key: u32| {
        times.lock().unwrap().push(times_clock.now());
        async { Ok::<_, String>(Warmed::Loaded) }
    };
    let warmer = builder(&clock).concurrency(4).rate_per_second(10).build().unwrap();
    let report = clock.drive(warmer.run("paced", 0..20_u32, warm)).await;
    assert_eq!(report.loaded, 20);
    let begun = begun.lock().unwrap();
    assert!(begun.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_millis(100)), "{begun:?}");
    assert!(report.elapsed < Duration::from_millis(2100), "{:?}", report.elapsed);
}

#[tokio::test]
async fn dropping_the_run_stops_its_tasks_and_begins_no_more() {
    let (begun, mut begins) = mpsc::unbounded_channel();
    let warm = move |key: u32| {
        let begun = begun.clone();
        async move {
            begun.send(key).unwrap();
            pending::<Result<Warmed, String>>().await
        }
    };
    let warmer = Warmer::builder().concurrency(2).build().unwrap();
    let run = warmer.run("dropped", 0..100_u32, warm);
    tokio::select! {
        _ = run => unreachable!("no key ever ends"),
        () = async { for _ in 0..2 { begins.recv().await.unwrap(); } } => {}
    }
    // The channel closes once every task, each with its sender, is gone.
    assert_eq!(begins.recv().await, None);
}

#[tokio::test]
async fn a_list_without_keys_gives_an_empty_report() {
    let report = Warmer::builder().build().unwrap().run("none", [""; 0], |_| async { Err::<Warmed, _>("never") }).await;
    assert_eq!((report.total(), report.name.as_str(), report.is_complete()), (0, "none", true));
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let second = Duration::from_secs(1);
    for (field, builder) in [
        ("concurrency", Warmer::builder().concurrency(0)),
        ("attempts", Warmer::builder().attempts(0)),
        ("rate_per_second", Warmer::builder().rate_per_second(0)),
        ("timeout", Warmer::builder().timeout(Duration::ZERO)),
        ("pauses", Warmer::builder().pauses(second * 2, second)),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().starts_with(&format!("`{field}`")), "{error}");
    }
}

#[tokio::test]
async fn reports_of_several_warmings_add_up_under_the_first_name() {
    let warmer = Warmer::builder().build().unwrap();
    let one = warmer.run("market", SYMBOLS, |_| async { Ok::<_, String>(Warmed::Loaded) }).await;
    let two = warmer.run("users", [1_u32, 2], |_| async { Ok::<_, String>(Warmed::AlreadyWarm) }).await;
    let both: Report = one.and(two);
    assert_eq!((both.name.as_str(), both.loaded, both.already_warm), ("market", 4, 2));
}
