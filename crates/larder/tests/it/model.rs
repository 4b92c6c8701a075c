//! Random operations against a plain model of what a cache may answer.
//!
//! Every value is new, so that an answer tells which write or load it came from. The model knows for each key which
//! values may still be served, and which one must be, as long as nothing has been lost in an outage.

use std::{sync::Arc, time::Duration};

use larder::{Cache, ErrorKind, ManualClock, Strategy, Tick};
use larder_core::Clock;
use larder_testing::FaultyBackend;
use proptest::{
    prelude::{Strategy as Generator, any, prop_oneof, proptest},
    test_runner::Config,
};
use tokio::sync::Semaphore;

use crate::store;

const TTL: Duration = Duration::from_secs(100);

/// A key, one of a few; those of one half match `a:*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name(u8);

impl Name {
    fn key(self) -> &'static str {
        ["a:1", "a:2", "b:1", "b:2"][usize::from(self.0)]
    }

    fn tag(self) -> &'static str {
        ["even", "odd"][usize::from(self.0 % 2)]
    }
}

#[derive(Debug, Clone, Copy)]
enum Removal {
    Key(Name),
    /// The tag of this key and of others.
    Tag(Name),
    Pattern,
    All,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Set(Name),
    Get(Name),
    Load(Name),
    Fail(Name),
    /// A load whose caller goes away; in the middle comes a removal or a write.
    Cancel(Name, Option<Removal>, bool),
    Remove(Removal),
    Advance(u8),
    Break,
    Heal,
}

fn name() -> impl Generator<Value = Name> {
    (0..4_u8).prop_map(Name)
}

fn removal() -> impl Generator<Value = Removal> {
    let all = proptest::strategy::Just(Removal::All);
    let pattern = proptest::strategy::Just(Removal::Pattern);
    prop_oneof![name().prop_map(Removal::Key), name().prop_map(Removal::Tag), pattern, all]
}

fn step() -> impl Generator<Value = Step> {
    prop_oneof![
        3 => name().prop_map(Step::Set),
        4 => name().prop_map(Step::Get),
        6 => name().prop_map(Step::Load),
        2 => name().prop_map(Step::Fail),
        4 => (name(), proptest::option::of(removal()), any::<bool>())
            .prop_map(|(name, removal, write)| Step::Cancel(name, removal, write)),
        3 => removal().prop_map(Step::Remove),
        4 => (0..60_u8).prop_map(Step::Advance),
        1 => proptest::strategy::Just(Step::Break),
        2 => proptest::strategy::Just(Step::Heal),
    ]
}

/// What is known of one key.
#[derive(Debug, Default)]
struct Known {
    /// Values that may be served, and until when.
    may: Vec<(u32, Tick)>,
    /// Whether the last of them must be.
    must: bool,
}

impl Known {
    fn only(&mut self, value: u32, until: Tick, must: bool) {
        *self = Self { may: vec![(value, until)], must };
    }

    /// A load stored a value. In an outage it may be known to the near tier alone, and what was not invalidated comes back.
    fn loaded(&mut self, value: u32, until: Tick, broken: bool) {
        if broken {
            self.may.push((value, until));
        } else {
            self.only(value, until, true);
        }
    }

    /// Whether a value may be served now.
    fn allows(&self, value: u32, now: Tick) -> bool {
        self.may.iter().any(|(known, until)| *known == value && now < *until)
    }

    /// The value that must be served now.
    fn due(&self, now: Tick) -> Option<u32> {
        let (value, until) = self.may.last().filter(|_| self.must)?;
        (now < *until).then_some(*value)
    }
}

struct World {
    clock: ManualClock,
    backend: Arc<FaultyBackend>,
    cache: Cache,
    known: [Known; 4],
    broken: bool,
    next: u32,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let backend = Arc::new(FaultyBackend::new(store(&clock)));
        let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
        let cache = builder.strategy(Strategy::new("r", TTL).jitter(0.0)).build().await.unwrap();
        Self { clock, backend, cache, known: Default::default(), broken: false, next: 0 }
    }

    fn of(&mut self, name: Name) -> &mut Known {
        &mut self.known[usize::from(name.0)]
    }

    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Set(name) => self.set(name).await,
            Step::Get(name) => {
                let (found, now) = (self.cache.get::<_, u32>(name.key()).await, self.clock.now());
                self.judge(name, found.map(|value| *value), now);
            }
            Step::Load(name) => self.load(name).await,
            Step::Fail(name) => {
                let found =
                    self.cache.get_or_load(name.key(), || async { Err::<u32, _>("down") }).tag(name.tag()).await;
                let now = self.clock.now();
                self.judge(name, found.ok().map(|value| *value), now);
            }
            Step::Cancel(name, removal, write) => self.cancel(name, removal, write).await,
            Step::Remove(removal) => self.remove(removal).await,
            Step::Advance(seconds) => self.clock.advance_and_settle(Duration::from_secs(seconds.into())).await,
            Step::Break => {
                self.backend.fail(ErrorKind::Unavailable);
                self.broken = true;
                self.known.iter_mut().for_each(|known| known.must = false);
            }
            Step::Heal if self.broken => {
                self.backend.heal();
                // Long enough for the breaker to close; what was stored meanwhile is dropped then.
                self.clock.advance_and_settle(Duration::from_secs(31)).await;
                self.broken = false;
                self.known.iter_mut().for_each(|known| known.must = false);
            }
            Step::Heal => {}
        }
        self.clock.settle().await;
    }

    /// An answer must be known, and what must be there must be the answer.
    fn judge(&mut self, name: Name, found: Option<u32>, now: Tick) {
        let known = self.of(name);
        if let Some(value) = found {
            assert!(known.allows(value, now), "{name:?} answers {value}, and there may be {:?} at {now:?}", known.may);
        }
        if let Some(due) = known.due(now) {
            assert_eq!(found, Some(due), "{name:?}");
        }
    }

    async fn set(&mut self, name: Name) {
        let value = self.fresh();
        let stored = self.cache.set(name.key(), value).tag(name.tag()).await;
        let (until, broken) = (self.clock.now() + TTL, self.broken);
        if stored {
            self.of(name).only(value, until, !broken);
        } else {
            assert!(broken, "a write fails only in an outage");
            self.of(name).may.push((value, until));
        }
    }

    async fn load(&mut self, name: Name) {
        let value = self.fresh();
        let load = self.cache.get_or_load(name.key(), move || async move { Ok::<_, ()>(value) });
        let found = *load.tag(name.tag()).await.unwrap();
        let (now, broken) = (self.clock.now(), self.broken);
        if found == value {
            assert_eq!(self.of(name).due(now), None, "{name:?} was loaded although it was there");
            self.of(name).loaded(value, now + TTL, broken);
        } else {
            self.judge(name, Some(found), now);
        }
    }

    async fn cancel(&mut self, name: Name, removal: Option<Removal>, write: bool) {
        let value = self.fresh();
        let gate = Arc::new(Semaphore::new(0));
        let (cache, inside) = (self.cache.clone(), Arc::clone(&gate));
        let caller = tokio::spawn(async move {
            let loader = move || async move {
                inside.acquire().await.unwrap().forget();
                Ok::<_, ()>(value)
            };
            *cache.get_or_load(name.key(), loader).tag(name.tag()).await.unwrap()
        });
        self.clock.settle().await;
        if caller.is_finished() {
            let (found, now) = (caller.await.unwrap(), self.clock.now());
            return self.judge(name, Some(found), now);
        }
        caller.abort();
        let now = self.clock.now();
        assert_eq!(self.of(name).due(now), None, "{name:?} was loaded although it was there");
        if let Some(removal) = removal {
            self.remove(removal).await;
        }
        if write {
            self.set(name).await;
        }
        gate.add_permits(1);
        self.clock.settle().await;
        let hit = removal.is_some_and(|removal| removal.concerns(name));
        let (until, broken) = (self.clock.now() + TTL, self.broken);
        if !hit && !write {
            self.of(name).loaded(value, until, broken);
        }
    }

    async fn remove(&mut self, removal: Removal) {
        let cache = self.cache.clone();
        let done = match removal {
            Removal::Key(name) => cache.invalidate().key(name.key()).await.is_ok(),
            Removal::Tag(name) => cache.invalidate().tag(name.tag()).await.is_ok(),
            Removal::Pattern => cache.delete_pattern("a:*").await.is_ok(),
            Removal::All => cache.clear().await.is_ok(),
        };
        assert!(done || self.broken, "an invalidation fails only in an outage");
        for name in (0..4).map(Name).filter(|name| removal.concerns(*name)) {
            let known = self.of(name);
            known.must = false;
            if done {
                known.may.clear();
            }
        }
    }
}

impl Removal {
    fn concerns(self, name: Name) -> bool {
        match self {
            Self::Key(other) => name == other,
            Self::Tag(other) => name.tag() == other.tag(),
            Self::Pattern => name.key().starts_with("a:"),
            Self::All => true,
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_cache_answers_what_its_model_allows(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.run(step).await;
            }
        });
    }
}
