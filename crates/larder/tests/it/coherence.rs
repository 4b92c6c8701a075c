//! What processes hold in common, by the race that each rule of the protocol closes. The store and its bus are a model, the
//! clock moves by hand.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use larder::{Cache, ErrorKind, ManualClock, Region, Source, Status, Strategy, strategy::FailSafe};
use larder_core::{
    Announcement, Backend, BackendExt, BusSource, Bytes, Each, Found, GetOptions, Guard, Key, Lineage, UnixMillis,
};
use larder_testing::{Fault, FaultyBackend, ModelBackend, Operation};
use parking_lot::Mutex;

const SECOND: Duration = Duration::from_secs(1);

/// Longer than two heartbeats are waited for.
const SILENCE: Duration = Duration::from_secs(3);

/// Entries outlive a test, and what is held up is no fault.
fn lasting() -> Strategy {
    Strategy::new("lasting", SECOND * 10_000).jitter(0.0).remote_deadline(SECOND * 100)
}

struct Process {
    cache: Cache,
    backend: FaultyBackend,
}

impl Process {
    async fn start(clock: &ManualClock, shared: &ModelBackend) -> Self {
        Self::with(clock, shared, SECOND).await
    }

    async fn with(clock: &ManualClock, shared: &ModelBackend, blind_ttl: Duration) -> Self {
        let backend = FaultyBackend::new(Arc::new(shared.clone()));
        let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).strategy(lasting());
        let builder = builder.remote_command_deadline(SECOND * 10).blind_ttl(blind_ttl);
        let cache = builder.backend(Arc::new(backend.clone())).build().await.unwrap();
        clock.settle().await;
        Self { cache, backend }
    }

    fn region(&self, name: &str) -> Region<str, u32> {
        self.cache.region(name).strategy(lasting()).build().unwrap()
    }

    async fn load(&self, value: u32, tags: &[&str]) -> (u32, Source) {
        let mut load = self.cache.get_or_load("k", move || async move { Ok::<_, ()>(value) });
        for tag in tags {
            load = load.tag(*tag);
        }
        let outcome = load.outcome().await.unwrap();
        (*outcome.value, outcome.source)
    }

    /// Whether the near tier has the key `k`; nobody else is asked.
    async fn holds(&self) -> bool {
        self.cache.near().get::<_, u32>("k").await.is_some()
    }

    async fn is_trusting(&self) -> bool {
        self.cache.health().await.remote.unwrap().bus_trusted
    }

    fn reads(&self) -> u64 {
        self.backend.calls_of(Operation::GetMany)
    }
}

fn model(clock: &ManualClock) -> ModelBackend {
    ModelBackend::new(Arc::new(clock.clone()))
}

/// Two processes that both have `k` in their near tiers.
async fn pair(clock: &ManualClock, shared: &ModelBackend) -> (Process, Process) {
    let (one, two) = (Process::start(clock, shared).await, Process::start(clock, shared).await);
    assert_eq!(one.load(1, &["a", "b", "c"]).await, (1, Source::Loaded));
    clock.settle().await;
    assert_eq!(two.load(2, &["a", "b", "c"]).await, (1, Source::Remote));
    assert!(one.holds().await && two.holds().await);
    (one, two)
}

#[tokio::test]
async fn a_remote_hit_with_tags_costs_one_read_once_their_versions_are_known() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (_one, two) = pair(&clock, &shared).await;
    let before = two.reads();
    for _ in 0..3 {
        assert_eq!(two.cache.get::<_, u32>("k").skip_near().await.as_deref(), Some(&1));
    }
    assert_eq!(two.reads() - before, 3);
}

#[tokio::test]
async fn a_message_drops_a_known_version_and_the_entry_is_dead() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    assert_eq!(one.cache.invalidate().tag("b").await.unwrap().status, Status::Done);
    clock.settle().await;
    assert!(!two.holds().await && !one.holds().await);
    assert_eq!(two.load(3, &["a", "b", "c"]).await, (3, Source::Loaded));
    clock.settle().await;
    assert_eq!(one.load(4, &["a", "b", "c"]).await, (3, Source::Remote));
}

#[tokio::test]
async fn a_marker_that_was_evicted_makes_misses_and_the_processes_agree_within_a_second() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    assert!(shared.delete(&Key::from_canonical("t:%tag:b")).await.unwrap());
    clock.advance_and_settle(SECOND).await;
    assert!(!one.holds().await && !two.holds().await);
    assert_eq!(two.load(3, &["a", "b", "c"]).await, (3, Source::Loaded));
    clock.settle().await;
    assert_eq!(one.load(4, &["a", "b", "c"]).await, (3, Source::Remote));
}

#[tokio::test]
async fn a_known_version_counts_against_an_entry_only_after_it_was_read_again_and_not_more_often_than_once_a_second() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    // Nobody compares markers in the meantime.
    clock.advance(SECOND / 2);
    shared.delete(&Key::from_canonical("t:%tag:b")).await.unwrap();
    let stranger = Process::start(&clock, &shared).await;
    assert_eq!(stranger.load(3, &["a", "b", "c"]).await, (3, Source::Loaded));
    clock.settle().await;
    // Too early to read it again: it was read half a second ago.
    let read = || two.cache.get::<_, u32>("k").skip_near();
    assert_eq!(read().await, None);
    clock.advance(SECOND * 3 / 5);
    let before = two.reads();
    assert_eq!(read().await.as_deref(), Some(&3));
    assert_eq!(two.reads() - before, 2);
    assert_eq!(read().await.as_deref(), Some(&3));
    assert_eq!(two.reads() - before, 3);
    drop(one);
}

#[tokio::test]
async fn clearing_a_region_removes_one_marker_and_lists_nothing() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = (Process::start(&clock, &shared).await, Process::start(&clock, &shared).await);
    for name in ["users", "users:old", "orders"] {
        for key in 0..20 {
            one.region(name).set(&key.to_string(), key).await;
        }
        clock.settle().await;
        assert_eq!(two.region(name).get("7").await.as_deref(), Some(&7));
    }
    one.backend.reset_calls();
    let cleared = one.region("users").clear().await.unwrap();
    assert_eq!((cleared.remote, cleared.status), (1, Status::Done));
    assert_eq!((one.backend.calls_of(Operation::Scan), one.backend.calls_of(Operation::RemoveAndPublish)), (0, 1));
    clock.settle().await;
    for process in [&one, &two] {
        for name in ["users", "users:old"] {
            assert_eq!(process.region(name).get("7").await, None, "{name}");
        }
        assert_eq!(process.region("orders").get("7").await.as_deref(), Some(&7));
    }
    one.region("users").set("7", 70).await;
    clock.settle().await;
    assert_eq!(two.region("users").get("7").await.as_deref(), Some(&70));
}

#[tokio::test]
async fn clearing_the_namespace_removes_one_marker_and_leaves_counters_and_other_namespaces() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    let other = Cache::builder().namespace("other").timer(Arc::new(clock.clone())).backend(Arc::new(shared.clone()));
    let other = other.build().await.unwrap();
    other.set("k", 9_u32).await;
    one.cache.increment("n", 4).await.unwrap();
    one.backend.reset_calls();
    assert_eq!(one.cache.clear().await.unwrap().remote, 1);
    assert_eq!(one.backend.calls_of(Operation::Scan), 0);
    clock.settle().await;
    for process in [&one, &two] {
        assert!(!process.holds().await);
        assert_eq!(process.cache.get::<_, u32>("k").await, None);
        assert!(!process.cache.exists("k").await);
        assert_eq!(process.cache.counter("n").await.unwrap(), Some(4));
    }
    assert_eq!(other.get::<_, u32>("k").await.as_deref(), Some(&9));
    assert!(one.cache.add("k", 5_u32).await);
}

#[tokio::test]
async fn what_was_cleared_is_never_served_stale_or_in_place_of_an_error() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = (Process::start(&clock, &shared).await, Process::start(&clock, &shared).await);
    let strategy = Strategy::new("s", SECOND)
        .jitter(0.0)
        .stale_window(SECOND * 1000)
        .fail_safe(Some(FailSafe::new(SECOND * 1000)));
    let region = |process: &Process| process.cache.region::<str, u32>("r").strategy(strategy.clone()).build().unwrap();
    region(&one).get_or_load("k", || async { Ok::<_, ()>(1) }).await.unwrap();
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(region(&two).get("k").await.as_deref(), Some(&1));
    region(&one).clear().await.unwrap();
    clock.settle().await;
    assert!(region(&two).get_or_load("k", || async { Err::<u32, _>(()) }).await.is_err());
}

#[tokio::test]
async fn sixty_four_tags_go_with_those_that_an_entry_carries_by_itself() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = (Process::start(&clock, &shared).await, Process::start(&clock, &shared).await);
    let deep = "a:b:c:d:e:f:g";
    let tags: Vec<String> = (0..64).map(|tag| tag.to_string()).collect();
    let below = one.cache.prefix(deep);
    let mut set = below.set("k", 1_u32);
    for tag in &tags {
        set = set.tag(tag.as_str());
    }
    assert!(set.await);
    clock.settle().await;
    assert_eq!(two.cache.prefix(deep).get::<_, u32>("k").await.as_deref(), Some(&1));
    two.cache.prefix("a:b:c").clear().await.unwrap();
    clock.settle().await;
    assert_eq!(one.cache.prefix(deep).get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn what_was_fetched_between_the_first_fence_and_the_removal_is_not_kept() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, _two) = pair(&clock, &shared).await;
    one.backend.set_for(Operation::RemoveAndPublish, Fault::Hold);
    let cache = one.cache.clone();
    let clearing = tokio::spawn(async move { cache.clear().await });
    one.backend.until_stuck(1).await;
    assert_eq!(one.cache.get::<_, u32>("k").await.as_deref(), Some(&1), "it is still there");
    assert!(one.holds().await);
    one.backend.heal();
    assert_eq!(clearing.await.unwrap().unwrap().status, Status::Done);
    assert!(!one.holds().await);
    assert_eq!(one.cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_removal_that_nobody_confirmed_is_deferred_and_not_done() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    one.backend.set_for(Operation::RemoveAndPublish, Fault::LoseAnswer(ErrorKind::Timeout));
    assert_eq!(one.cache.invalidate().tag("a").await.unwrap().status, Status::Deferred);
    clock.settle().await;
    assert!(!two.holds().await);
    assert_eq!(one.cache.invalidate().key("k").await.unwrap().status, Status::Deferred);
    one.backend.heal();
    clock.advance_and_settle(SECOND * 10).await;
    assert_eq!(one.cache.invalidate().key("k").await.unwrap().status, Status::Done);
}

#[tokio::test]
async fn a_pattern_whose_message_was_not_sent_is_not_done() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    clock.advance_and_settle(SECOND * 2).await;
    // Evicted: only the message tells the other process of it.
    shared.delete(&Key::from_canonical("t:k")).await.unwrap();
    one.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    let invalidated = one.cache.invalidate().pattern("k*").await.unwrap();
    clock.settle().await;
    assert!(two.holds().await, "nobody has told it");
    assert_eq!(invalidated.status, Status::Deferred);
    one.backend.heal();
    clock.advance_and_settle(SECOND * 5).await;
    assert!(!two.holds().await, "it misses the message");
}

#[tokio::test]
async fn a_life_that_may_have_been_shortened_does_not_stay_long_with_the_others() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    one.backend.set_for(Operation::CompareAndSet, Fault::LoseAnswer(ErrorKind::Timeout));
    assert!(one.cache.expire("k", SECOND * 5).await.is_err());
    one.backend.heal();
    assert!(!one.holds().await);
    clock.advance_and_settle(SECOND).await;
    assert!(!two.holds().await, "the other one keeps the longer life");
    assert_eq!(two.cache.get::<_, u32>("k").await, None, "its removal made up for what is unknown");
}

#[tokio::test]
async fn regions_and_patterns_are_deferred_in_an_outage_and_dead_afterwards() {
    for by_pattern in [false, true] {
        let clock = ManualClock::new();
        let shared = model(&clock);
        let (one, two) = (Process::start(&clock, &shared).await, Process::start(&clock, &shared).await);
        one.region("r").set("k", 1).await;
        one.backend.fail(ErrorKind::Unavailable);
        for _ in 0..5 {
            one.region("r").get("other").await;
        }
        let invalidate = one.cache.invalidate();
        let deferred =
            if by_pattern { invalidate.pattern("r:*").await } else { one.region("r").clear().await }.unwrap();
        assert_eq!(deferred.status, Status::Deferred, "by pattern: {by_pattern}");
        assert_eq!(one.region("r").get("k").await, None);
        one.backend.heal();
        clock.advance_and_settle(SECOND * 30).await;
        assert_eq!(one.region("r").get("k").await, None);
        assert_eq!(two.region("r").get("k").await, None);
    }
}

#[tokio::test]
async fn a_write_that_failed_tells_nobody_and_ones_own_messages_are_ignored() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    one.backend.set_for(Operation::SetMany, Fault::Fail(ErrorKind::TooLarge));
    assert!(!one.cache.set("k", 2_u32).await);
    clock.settle().await;
    assert!(two.holds().await);
    one.backend.heal();
    assert!(two.cache.set("k", 3_u32).await);
    clock.settle().await;
    assert!(two.holds().await, "its own message dropped what it has just written");
    assert!(!one.holds().await);
}

#[tokio::test]
async fn a_message_that_got_lost_is_missed_and_the_near_tier_starts_anew() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    clock.advance_and_settle(SECOND * 2).await;
    assert!(two.holds().await && two.is_trusting().await);
    one.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    assert!(one.cache.set("k", 5_u32).await);
    one.backend.heal();
    assert!(two.holds().await, "nobody has told it");
    clock.advance_and_settle(SECOND * 5).await;
    assert!(!two.holds().await);
    assert_eq!(two.cache.get::<_, u32>("k").await.as_deref(), Some(&5));
    assert!(two.is_trusting().await, "a new subscription was confirmed");
    clock.advance_and_settle(SECOND * 5).await;
    assert!(two.holds().await);
}

#[tokio::test]
async fn a_message_that_may_not_have_been_sent_and_will_be_repeated_is_no_hole() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    clock.advance_and_settle(SECOND * 2).await;
    // A breaker that is open sends nothing, and remembers.
    one.backend.set_for(Operation::RemoveAndPublish, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(one.cache.invalidate().key("other").await.unwrap().status, Status::Deferred);
    one.backend.heal();
    clock.advance_and_settle(SECOND * 10).await;
    assert!(two.holds().await);
}

#[tokio::test]
async fn heartbeats_that_do_not_come_back_end_trust_and_a_hit_sees_it_by_the_clock_alone() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (_one, two) = pair(&clock, &shared).await;
    clock.advance_and_settle(SECOND * 20).await;
    assert!(two.holds().await && two.is_trusting().await);
    // No task runs in between.
    clock.advance(SILENCE);
    assert!(!two.holds().await && !two.is_trusting().await);
}

#[tokio::test]
async fn trust_comes_back_only_with_a_subscription_that_was_sent_afterwards() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    two.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    clock.advance_and_settle(SILENCE).await;
    assert!(!two.holds().await);
    two.backend.heal();
    // What was kept before the gap, and what was kept in it, is not served afterwards.
    two.cache.get::<_, u32>("k").await;
    clock.advance_and_settle(SECOND * 10).await;
    assert!(two.is_trusting().await && !two.holds().await);
    assert_eq!(two.load(7, &[]).await, (1, Source::Remote));
    clock.advance_and_settle(SECOND * 10).await;
    assert!(two.holds().await && one.holds().await);
}

#[tokio::test]
async fn a_load_that_began_before_trust_ended_is_not_kept() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (_one, two) = pair(&clock, &shared).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (cache, inside) = (two.cache.clone(), Arc::clone(&gate));
    let loading = tokio::spawn(async move {
        let load = cache.get_or_load("k", move || async move {
            inside.acquire().await.unwrap().forget();
            Ok::<_, ()>(8_u32)
        });
        *load.force_refresh().await.unwrap()
    });
    clock.settle().await;
    two.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    clock.advance_and_settle(SILENCE).await;
    gate.add_permits(1);
    assert_eq!(loading.await.unwrap(), 8);
    assert!(!two.holds().await);
    clock.settle().await;
    assert_eq!(two.cache.get::<_, u32>("k").await.as_deref(), Some(&1));
}

#[tokio::test]
async fn without_trust_near_copies_live_for_the_blind_ttl_or_are_not_kept() {
    for (blind_ttl, holds) in [(SECOND, true), (Duration::ZERO, false)] {
        let clock = ManualClock::new();
        let shared = model(&clock);
        let two = Process::with(&clock, &shared, blind_ttl).await;
        two.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
        clock.advance_and_settle(SILENCE).await;
        two.load(1, &["a"]).await;
        assert_eq!(two.holds().await, holds);
        clock.advance(SECOND);
        assert!(!two.holds().await);
    }
}

#[tokio::test]
async fn what_is_kept_near_alone_lives_for_the_blind_ttl_too_while_others_may_not_be_heard() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = (Process::start(&clock, &shared).await, Process::start(&clock, &shared).await);
    assert!(two.cache.near().set("k", 1_u32).await);
    assert!(one.cache.invalidate().key("k").await.is_ok());
    clock.settle().await;
    assert!(!two.holds().await, "they hear of each other");
    two.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    clock.advance_and_settle(SILENCE).await;
    assert!(two.cache.near().set("k", 2_u32).await);
    assert!(two.holds().await);
    clock.advance(SECOND);
    assert!(!two.holds().await);
}

#[tokio::test]
async fn without_trust_versions_are_read_together_with_the_value_where_the_call_names_the_tags() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (_one, two) = pair(&clock, &shared).await;
    two.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    clock.advance_and_settle(SILENCE).await;
    let before = two.reads();
    assert_eq!(two.load(3, &["a", "b", "c"]).await, (1, Source::Remote));
    assert_eq!(two.reads() - before, 1);
    assert_eq!(two.cache.get::<_, u32>("k").skip_near().await.as_deref(), Some(&1));
    assert_eq!(two.reads() - before, 3, "a call that names no tag reads them with one more command");
}

#[tokio::test]
async fn a_generation_that_is_not_the_known_one_is_noticed_although_no_message_told_of_it() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    shared.delete(&Key::from_canonical("t:%tag:%all")).await.unwrap();
    clock.advance_and_settle(SECOND).await;
    assert!(!one.holds().await && !two.holds().await);
    assert_eq!(two.load(3, &[]).await, (3, Source::Loaded));
}

#[tokio::test]
async fn a_machine_that_slept_trusts_nothing_that_it_held() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    clock.advance_and_settle(SECOND).await;
    assert!(two.holds().await);
    clock.advance_wall(SECOND * 5);
    clock.advance_and_settle(SECOND).await;
    assert!(!one.holds().await && !two.holds().await);
}

#[tokio::test]
async fn messages_of_another_protocol_are_ignored_and_counted() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (_one, two) = pair(&clock, &shared).await;
    let bus = shared.open_bus("t:%bus").await.unwrap();
    for message in ["larder 2\n0\n1\nkeys\nt:k", "larder 1\n0\n1\nnews", "?"] {
        bus.publish(Bytes::from(message)).await.unwrap();
    }
    clock.settle().await;
    assert_eq!(two.cache.health().await.remote.unwrap().bus_ignored, 3);
    assert!(two.holds().await && two.is_trusting().await);
}

#[tokio::test]
async fn a_near_copy_counts_its_life_from_when_it_was_asked_for() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = (Process::start(&clock, &shared).await, Process::start(&clock, &shared).await);
    one.cache.set("k", 1_u32).ttl(SECOND * 10).await;
    clock.settle().await;
    two.backend.set_for(Operation::GetMany, Fault::Hold);
    let cache = two.cache.clone();
    let reading = tokio::spawn(async move { cache.get::<_, u32>("k").await });
    two.backend.until_stuck(1).await;
    clock.advance(SECOND * 2);
    two.backend.heal();
    assert_eq!(reading.await.unwrap().as_deref(), Some(&1));
    // Eight seconds were left when the answer came, which may have been under way for two.
    clock.advance(SECOND * 2 - Duration::from_millis(1));
    assert!(two.holds().await || !two.is_trusting().await);
    let entry = two.cache.explain("k").await.unwrap().near.unwrap();
    assert_eq!(entry.stale_for, SECOND * 4 + Duration::from_millis(1));
}

/// A store whose server has a clock of its own, and that tells what it was asked to guard.
#[derive(Clone)]
struct Served {
    store: ModelBackend,
    server: ManualClock,
    guard: Arc<Mutex<Option<Guard>>>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

impl Lineage for Served {
    fn guard(&self, guard: Guard) {
        *self.guard.lock() = Some(guard);
    }

    fn server_time(&self, _key: &Key) -> Option<UnixMillis> {
        Some(larder_core::Clock::wall(&self.server))
    }

    fn has_one_server(&self) -> bool {
        true
    }
}

backend_over!(Served, "served", store, {
    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        self.store.get_many(keys, options).await
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        self.store.as_bus()
    }

    fn as_lineage(&self) -> Option<&dyn Lineage> {
        Some(self)
    }
});

async fn served(clock: &ManualClock, store: &Served) -> Cache {
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).strategy(lasting());
    let cache = builder.backend(Arc::new(store.clone())).build().await.unwrap();
    clock.settle().await;
    cache
}

#[tokio::test]
async fn processes_whose_wall_clocks_differ_agree_about_an_entrys_life() {
    let (server, early, late) = (ManualClock::new(), ManualClock::new(), ManualClock::new());
    late.advance_wall(SECOND * 600);
    let store = Served { store: model(&server), server: server.clone(), guard: Arc::default() };
    let (one, two) = (served(&early, &store).await, served(&late, &store).await);
    one.set("k", 1_u32).ttl(SECOND * 60).await;
    assert_eq!(two.get::<_, u32>("k").skip_near().await.as_deref(), Some(&1));
    let outcome = two.get::<_, u32>("k").skip_near().outcome().await.unwrap();
    assert_eq!(outcome.age, Duration::ZERO);
    two.set("k", 2_u32).ttl(SECOND * 60).await;
    assert_eq!(one.get::<_, u32>("k").skip_near().await.as_deref(), Some(&2));
    assert!(two.expire("k", SECOND * 30).await.unwrap());
    server.advance(SECOND * 29);
    assert!(one.get::<_, u32>("k").skip_near().await.is_some());
    server.advance(SECOND);
    assert!(one.get::<_, u32>("k").skip_near().await.is_none());
}

#[tokio::test]
async fn a_server_that_was_replaced_makes_the_near_tier_start_anew() {
    let clock = ManualClock::new();
    let store = Served { store: model(&clock), server: clock.clone(), guard: Arc::default() };
    let cache = served(&clock, &store).await;
    cache.set("k", 1_u32).await;
    assert!(cache.near().get::<_, u32>("k").await.is_some());
    let guard = store.guard.lock().clone().expect("the cache guards its namespace");
    assert_eq!(guard.generation, Key::from_canonical("t:%tag:%all"));
    store.store.delete(&guard.generation).await.unwrap();
    (guard.changed)();
    assert!(cache.near().get::<_, u32>("k").await.is_none());
    assert_eq!(cache.get::<_, u32>("k").await, None, "it is of the old server's generation");
    clock.advance_and_settle(SECOND).await;
    assert!(cache.health().await.remote.unwrap().bus_trusted);
}

#[tokio::test]
async fn writers_that_announce_at_once_share_a_message() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    one.backend.set_for(Operation::Publish, Fault::Hold);
    let before = one.backend.calls_of(Operation::Publish);
    let write = |number: u32| {
        let cache = one.cache.clone();
        tokio::spawn(
            async move { cache.set(if number == 50 { "k".into() } else { format!("w:{number}") }, number).await },
        )
    };
    let writers: Vec<_> = (0..100).map(write).collect();
    clock.settle().await;
    assert_eq!(one.backend.stuck(), 1);
    one.backend.heal();
    for writer in writers {
        assert!(writer.await.unwrap());
    }
    assert!(one.backend.calls_of(Operation::Publish) - before <= 2);
    clock.settle().await;
    assert!(!two.holds().await, "the others heard of every key");
}

/// A cluster of which each key lies on a node of its own: the first key's message arrives, those of the others do not, since
/// the node of those who listen has lost the ones of these keys for a moment.
#[derive(Debug, Clone)]
struct Scattered {
    store: FaultyBackend,
}

#[async_trait]
impl BusSource for Scattered {
    async fn open_bus(&self, channel: &str) -> larder_core::Result<Box<dyn larder_core::Bus>> {
        self.store.as_bus().unwrap().open_bus(channel).await
    }

    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        let (first, others) = keys.split_at(keys.len().min(1));
        let mut answers = self.store.as_bus().unwrap().remove_and_publish(first, channel, message).await;
        if !others.is_empty() {
            drop(message(others));
            answers.extend(self.store.delete_many(others).await);
        }
        answers
    }
}

backend_over!(Scattered, "scattered", store, {
    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        self.store.get_many(keys, options).await
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        Some(self)
    }
});

#[tokio::test]
async fn of_the_messages_of_one_removal_each_is_missed_that_gets_lost() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let two = Process::start(&clock, &shared).await;
    let store = FaultyBackend::new(Arc::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).strategy(lasting());
    let builder = builder.remote_command_deadline(SECOND * 10).backend(Arc::new(Scattered { store: store.clone() }));
    let one = builder.build().await.unwrap();
    clock.settle().await;
    assert!(one.set("first", 1_u32).await && one.set("k", 1_u32).await);
    clock.settle().await;

    store.set_for(Operation::DeleteMany, Fault::Hold);
    let cache = one.clone();
    let removing = tokio::spawn(async move { cache.invalidate().keys(["first", "k"]).await });
    store.until_stuck(1).await;
    clock.settle().await;
    assert_eq!(two.cache.get::<_, u32>("first").await, None);
    assert_eq!(two.cache.get::<_, u32>("k").await.as_deref(), Some(&1), "it was not removed yet");
    store.heal();
    assert_eq!(removing.await.unwrap().unwrap().status, Status::Done);
    clock.advance_and_settle(SECOND * 5).await;
    assert!(!two.holds().await, "the old value stays near, and the link is trusted");
    assert_eq!(two.cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_heartbeat_does_not_bring_a_generation_back_whose_removal_is_remembered() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, _two) = pair(&clock, &shared).await;
    one.backend.set_for(Operation::RemoveAndPublish, Fault::Fail(ErrorKind::Timeout));
    assert_eq!(one.cache.invalidate().everything().await.unwrap().status, Status::Deferred);
    for _ in 0..3 {
        clock.advance_and_settle(SECOND).await;
    }
    assert!(one.cache.fallback().unwrap().state().lets_calls_through() && one.is_trusting().await);
    assert_eq!(one.load(2, &["a", "b", "c"]).await, (2, Source::Loaded));
}

#[tokio::test]
async fn what_is_said_when_a_journal_is_replayed_does_not_stand_for_a_message_that_was_lost() {
    let clock = ManualClock::new();
    let shared = model(&clock);
    let (one, two) = pair(&clock, &shared).await;
    one.backend.set_for(Operation::RemoveAndPublish, Fault::Fail(ErrorKind::Timeout));
    assert_eq!(one.cache.invalidate().key("other").await.unwrap().status, Status::Deferred);
    // The last message before the replay.
    one.backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Timeout));
    assert!(one.cache.set("k", 5_u32).await);
    assert!(two.holds().await);
    one.backend.heal();
    for _ in 0..10 {
        clock.advance_and_settle(SECOND).await;
    }
    assert_eq!(one.cache.fallback().unwrap().stats().journal, 0);
    assert_eq!(two.load(9, &["a", "b", "c"]).await, (5, Source::Remote));
}
