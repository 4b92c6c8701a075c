//! What one process leaves to the next.

use std::{fs, io::Write, path::Path, sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_core::{Backend, BackendExt, ErrorKind, Expected, Key, SetOptions};
use larder_fallback::{BreakerState, Deferred, FallbackBackend, FallbackBuilder, FileState, Fsync};
use larder_memory::MemoryBackend;
use larder_testing::{Fault, FaultyBackend, ManualClock, Operation};

use crate::world::{MILLISECOND, SECOND, key, memory};

const GENERATION: &str = "generation";

/// One machine: its store lives on while its processes come and go.
struct Machine {
    clock: ManualClock,
    store: Arc<MemoryBackend>,
    primary: Arc<FaultyBackend>,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = memory(&clock);
        let primary = Arc::new(FaultyBackend::new(Arc::<MemoryBackend>::clone(&store)));
        Self { clock, store, primary, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("journal")
    }

    fn builder(&self, path: &Path) -> FallbackBuilder {
        FallbackBackend::builder(Arc::<FaultyBackend>::clone(&self.primary), memory(&self.clock))
            .timer(Arc::new(self.clock.clone()))
            .seed(7)
            .generation(key(GENERATION))
            .journal_file(path, Fsync::Always)
    }

    fn start(&self) -> FallbackBackend {
        self.builder(&self.path()).build().expect("a file that can be used")
    }

    /// As [`start`](Self::start) after the last process has died: what it had written is all that is left.
    fn start_from_a_copy(&self) -> FallbackBackend {
        let copy = self.folder.path().join("copy");
        fs::copy(self.path(), &copy).expect("the file can be read");
        self.builder(&copy).build().expect("a file that can be used")
    }

    async fn put(&self, names: &[&str]) {
        for name in names {
            self.store.set(&key(name), "old".into(), SetOptions::new()).await.expect("memory");
        }
    }

    async fn holds(&self, name: &str) -> bool {
        self.store.get(&key(name)).await.expect("memory").is_some()
    }
}

async fn defer(fallback: &FallbackBackend, names: &[&str]) {
    for name in names {
        let error = fallback.delete(&key(name)).await.expect_err("it is deferred");
        assert!(Deferred::of(&error).is_some_and(|deferred| !deferred.lost));
    }
}

#[tokio::test]
async fn what_a_process_left_when_it_ended_is_removed_before_it_is_read() {
    let machine = Machine::new();
    machine.put(&["a", "b", "other", GENERATION]).await;
    let first = machine.start();
    first.force_open();
    defer(&first, &["a", "b"]).await;
    drop(first);

    machine.primary.set_for(Operation::DeleteMany, Fault::Hold);
    let second = machine.start();
    machine.clock.settle().await;
    assert_eq!(second.stats().journal, 2);
    assert_eq!(second.get(&key("a")).await.unwrap(), None, "it waits to be removed");
    assert!(second.get(&key("other")).await.unwrap().is_some());
    machine.primary.heal();
    machine.clock.settle().await;
    assert_eq!((machine.holds("a").await, machine.holds("b").await), (false, false));
    assert!(machine.holds(GENERATION).await, "the process ended properly, so its journal is complete");
    drop(second);
    assert_eq!(fs::read(machine.path()).unwrap().len(), 16, "nothing but the header is left");
}

#[tokio::test]
async fn a_process_that_died_in_an_outage_costs_the_generation() {
    let machine = Machine::new();
    machine.put(&["a", "other", GENERATION]).await;
    let first = machine.start();
    first.force_open();
    defer(&first, &["a"]).await;

    machine.primary.set_for(Operation::DeleteMany, Fault::Hold);
    let second = machine.start_from_a_copy();
    machine.clock.settle().await;
    assert!(second.stats().overflown);
    assert_eq!(second.get(&key("other")).await.unwrap(), None, "nobody knows whether it was removed");
    machine.primary.heal();
    machine.clock.advance_and_settle(SECOND).await;
    assert_eq!((machine.holds("a").await, machine.holds(GENERATION).await), (false, false));
    assert_eq!(second.stats().generations_removed, 1);
    assert!(second.get(&key("other")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_process_that_died_after_an_outage_costs_nothing() {
    let machine = Machine::new();
    machine.put(&["a", GENERATION]).await;
    let first = machine.start();
    first.force_open();
    defer(&first, &["a"]).await;
    first.auto();
    machine.clock.settle().await;
    assert_eq!(first.stats().journal, 0);
    // The thread has come to the emptying once it has written what comes after.
    first.force_open();
    defer(&first, &["b"]).await;
    first.auto();
    machine.clock.settle().await;
    drop(first);
    let second = machine.start_from_a_copy();
    assert_eq!((second.stats().journal, second.stats().overflown), (0, false));
    assert!(machine.holds(GENERATION).await);
}

#[tokio::test]
async fn a_torn_tail_costs_the_generation_and_the_rest_is_replayed() {
    let machine = Machine::new();
    machine.put(&["a", "b", GENERATION]).await;
    let first = machine.start();
    first.force_open();
    defer(&first, &["a", "b"]).await;
    drop(first);
    let whole = fs::read(machine.path()).unwrap();
    fs::write(machine.path(), &whole[..whole.len() - 1]).unwrap();

    let second = machine.start();
    assert_eq!((second.stats().journal, second.stats().overflown), (1, true));
    machine.clock.advance_and_settle(SECOND).await;
    assert_eq!((machine.holds("a").await, machine.holds(GENERATION).await), (false, false));
    // What is written from now on can be read.
    second.force_open();
    defer(&second, &["c"]).await;
    drop(second);
    let third = machine.start();
    assert_eq!((third.stats().journal, third.stats().overflown), (1, false));
}

#[tokio::test]
async fn an_overflow_outlives_the_process_that_had_it() {
    let machine = Machine::new();
    machine.put(&[GENERATION]).await;
    let first = machine.builder(&machine.path()).journal_keys(1).build().unwrap();
    first.force_open();
    defer(&first, &["a", "b"]).await;
    drop(first);
    let second = machine.start();
    machine.clock.advance_and_settle(SECOND).await;
    assert_eq!(second.stats().generations_removed, 1);
    assert!(!machine.holds(GENERATION).await);
}

#[tokio::test]
async fn without_a_generation_it_is_said_that_removals_may_be_lost() {
    let machine = Machine::new();
    let first = machine.start();
    first.force_open();
    defer(&first, &["a"]).await;
    let copy = machine.folder.path().join("copy");
    fs::copy(machine.path(), &copy).unwrap();
    let second = FallbackBackend::builder(Arc::<FaultyBackend>::clone(&machine.primary), memory(&machine.clock))
        .timer(Arc::new(machine.clock.clone()))
        .journal_file(&copy, Fsync::Never)
        .build()
        .unwrap();
    let stats = second.stats();
    assert_eq!((stats.journal, stats.lost, stats.overflown), (1, 1, false));
}

#[tokio::test]
async fn the_file_does_not_grow_with_the_number_of_removals() {
    let machine = Machine::new();
    let fallback = machine.builder(&machine.path()).journal_file(machine.path(), Fsync::Never).build().unwrap();
    // One key stays, so that the journal is never empty.
    fallback.force_closed();
    machine.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
    fallback.delete(&key("stays")).await.expect_err("it is deferred");
    for number in 0..5_000_u32 {
        machine.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
        fallback.delete(&key(&format!("{number}:{}", "x".repeat(100)))).await.expect_err("it is deferred");
        if number % 500 == 499 {
            machine.primary.heal();
            machine.clock.advance_and_settle(SECOND * 10).await;
            machine.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
            fallback.delete(&key("stays")).await.expect_err("it is deferred");
        }
    }
    drop(fallback);
    let bytes = fs::metadata(machine.path()).unwrap().len();
    assert!(bytes < 256 << 10, "{bytes}");
}

#[tokio::test]
async fn two_processes_cannot_have_one_file() {
    let machine = Machine::new();
    let _first = machine.start();
    let error = machine.builder(&machine.path()).build().expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`journal_file`") && error.to_string().contains("another process"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_something_else_is_left_alone() {
    let machine = Machine::new();
    fs::File::create(machine.path()).unwrap().write_all(b"the only copy of a thesis").unwrap();
    let error = machine.builder(&machine.path()).build().expect_err("it is no journal");
    assert!(error.to_string().contains("no journal"), "{error}");
    assert_eq!(fs::read(machine.path()).unwrap(), b"the only copy of a thesis");
    let missing = machine.builder(&machine.path().join("no/such/folder")).build().expect_err("there is no folder");
    assert_eq!(missing.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn every_policy_writes_before_a_removal_is_said_to_be_remembered() {
    for fsync in [Fsync::Never, Fsync::Interval(Duration::from_secs(3600)), Fsync::Interval(MILLISECOND), Fsync::Always]
    {
        let machine = Machine::new();
        let fallback = machine.builder(&machine.path()).journal_file(machine.path(), fsync).build().unwrap();
        fallback.force_open();
        defer(&fallback, &["a"]).await;
        let written = fs::read(machine.path()).unwrap();
        assert!(written.ends_with(Key::new("a").as_str().as_bytes()), "{fsync:?}");
        assert_eq!(fallback.stats().file, FileState::Sound);
    }
}

#[test]
fn a_backend_without_a_file_says_so() {
    let machine = Machine::new();
    let fallback = FallbackBackend::builder(Arc::<FaultyBackend>::clone(&machine.primary), memory(&machine.clock));
    assert_eq!(fallback.build().unwrap().stats().file, FileState::None);
    assert!(machine.primary.as_scan().is_some());
}

#[tokio::test]
async fn the_longest_interval_there_is_writes_all_the_same() {
    let machine = Machine::new();
    let never = Fsync::Interval(Duration::MAX);
    let first = Arc::new(machine.builder(&machine.path()).journal_file(machine.path(), never).build().unwrap());
    first.force_open();
    for name in ["a", "b"] {
        let fallback = Arc::clone(&first);
        let removal = tokio::spawn(async move { fallback.delete(&key(name)).await });
        while !removal.is_finished() {
            machine.clock.advance_and_settle(MILLISECOND * 50).await;
        }
    }
    drop(first);
    let second = machine.start();
    assert_eq!((second.stats().journal, second.stats().overflown), (2, false));
}

#[tokio::test]
async fn what_a_torn_file_lacks_is_not_forgotten_when_more_is_written() {
    let machine = Machine::new();
    machine.put(&["a", "b", GENERATION]).await;
    let first = machine.start();
    first.force_open();
    defer(&first, &["a", "b"]).await;
    drop(first);
    let whole = fs::read(machine.path()).unwrap();
    fs::write(machine.path(), &whole[..whole.len() - 1]).unwrap();

    machine.primary.set_for(Operation::DeleteMany, Fault::Hold);
    let second = machine.start();
    assert!(second.stats().overflown);
    // As long as what was torn, so that the file can be read to its end again.
    second.force_open();
    defer(&second, &["c"]).await;
    let third = machine.start_from_a_copy();
    assert!(third.stats().overflown, "`b` was removed by the first process, and nobody else knows of it");
}

#[tokio::test]
async fn a_removal_whose_caller_does_not_wait_for_the_file_is_carried_out_here() {
    let machine = Machine::new();
    let fallback = machine.start();
    fallback.force_open();
    let (atomic, token) = (fallback.as_atomic().unwrap(), Expected::prefix("token"));
    for number in 0..1000 {
        // What a load fills in is in the secondary without being in the journal.
        let name = key(&number.to_string());
        assert_eq!(atomic.get_or_set(&name, "token".into(), SECOND).await.unwrap(), None);
        let filled = atomic.compare_and_set(&name, &token, "old".into(), SetOptions::new()).await.unwrap();
        assert!(filled.is_stored());
        if fallback.delete(&name).now_or_never().is_none() {
            assert_eq!(fallback.get(&name).await.unwrap(), None);
            return;
        }
    }
    panic!("the disk was always quicker");
}

#[tokio::test]
async fn a_conditional_removal_is_in_the_file_too_when_it_is_said_to_be_remembered() {
    let machine = Machine::new();
    let fallback = machine.start();
    fallback.force_open();
    let atomic = fallback.as_atomic().unwrap();
    for number in 0..200 {
        let name = key(&number.to_string());
        let deferred = atomic.compare_and_delete(&name, &Expected::prefix("v")).await.unwrap_err();
        assert!(Deferred::of(&deferred).is_some());
        let bytes = fs::read(machine.path()).unwrap();
        assert!(bytes.ends_with(name.as_str().as_bytes()), "{number}");
    }
}

#[tokio::test]
async fn a_backend_that_is_dropped_while_it_probes_leaves_its_file_to_the_next() {
    let machine = Machine::new();
    machine.primary.set_for(Operation::Ping, Fault::Hold);
    let first = machine.start();
    first.force_open();
    defer(&first, &["a"]).await;
    first.auto();
    machine.primary.until_stuck(1).await;
    drop(first);
    let second = machine.start();
    assert_eq!((second.stats().journal, second.stats().overflown), (1, false));
}

#[tokio::test]
async fn a_process_that_starts_into_an_outage_uses_the_primary_as_soon_as_it_hears_of_it() {
    let machine = Machine::new();
    machine.put(&["a", GENERATION]).await;
    let first = machine.start();
    first.force_open();
    defer(&first, &["a"]).await;

    machine.primary.fail(ErrorKind::Unavailable);
    let second = machine.start_from_a_copy();
    machine.clock.settle().await;
    assert!(!second.state().lets_calls_through(), "nothing may be read before the generation was removed");
    for _ in 0..60 {
        machine.clock.advance_and_settle(SECOND).await;
    }
    machine.primary.heal();
    second.nudge();
    machine.clock.settle().await;
    let stats = second.stats();
    assert_eq!((stats.state, stats.journal, stats.overflown), (BreakerState::Closed, 0, false));
}

#[tokio::test]
async fn removals_of_an_earlier_process_go_out_as_soon_as_the_primary_is_heard_of() {
    let machine = Machine::new();
    machine.put(&["a"]).await;
    let first = machine.start();
    first.force_open();
    defer(&first, &["a"]).await;
    drop(first);

    machine.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
    let second = machine.start();
    for _ in 0..60 {
        machine.clock.advance_and_settle(SECOND).await;
    }
    machine.primary.heal();
    second.nudge();
    machine.clock.settle().await;
    assert!(!machine.holds("a").await);
}
