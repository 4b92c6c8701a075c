//! One run of one case: its keys, its time, and what it asserts again and again.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use larder_core::{
    Atomic, Backend, BackendExt, Clock, Counter, Key, Lock, Pattern, Remaining, Scan, SetOptions, SetOutcome,
    SystemClock, ToKey, UnixMillis,
};

use super::{Fixture, Power};

/// A life that does not end during a case.
pub const LONG: Duration = Duration::from_secs(600);

/// A life whose end a case waits for.
pub const SHORT: Duration = Duration::from_millis(40);

/// How long real time may need to bring about what a case waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at a key that is to expire in real time.
const LOOK: Duration = Duration::from_millis(5);

/// What a case works with.
#[derive(Debug)]
pub struct Case {
    fixture: Fixture,
    prefix: String,
}

/// Runs a case on a runtime of its own with two workers, and removes its keys afterwards. A failed case leaves them.
///
/// # Panics
/// If the backend does not behave, naming what was expected.
pub fn run<M, C>(name: &str, make: M, case: C)
where
    M: AsyncFnOnce() -> Fixture,
    C: AsyncFnOnce(&Case),
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    // Where many cases are one test, it is here that one sees which of them failed.
    #[expect(clippy::print_stderr, reason = "the output of a test, which is shown when it fails")]
    {
        eprintln!("case {name}");
    }
    runtime.expect("a runtime can be started").block_on(async {
        let fixture = make().await;
        let prefix = format!("conformance:{name}:{:016x}:", fastrand::u64(..));
        let run = Case { fixture, prefix };
        run.check_powers();
        case(&run).await;
        run.clean().await;
    });
}

impl Case {
    /// The backend under test.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.fixture.backend
    }

    /// The prefix of this case's keys, which ends in `:`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A key of this case.
    #[must_use]
    pub fn key<K: ToKey + ?Sized>(&self, key: &K) -> Key {
        Key::with_prefix(&self.prefix, key)
    }

    /// A key of this case from text that is taken as it is.
    #[must_use]
    pub fn canonical_key(&self, text: &str) -> Key {
        Key::from_canonical(format!("{}{text}", self.prefix))
    }

    /// `count` keys of this case.
    #[must_use]
    pub fn keys(&self, count: usize) -> Vec<Key> {
        (0..count).map(|number| self.key(&number)).collect()
    }

    /// Stores a value.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn put(&self, key: &Key, value: impl Into<Bytes>, options: SetOptions) {
        let outcome = self.backend().set(key, value.into(), options).await;
        assert_eq!(outcome.expect("a write that is allowed"), SetOutcome::Stored, "{key}");
    }

    /// Reads a value.
    ///
    /// # Panics
    /// If the read fails.
    pub async fn get(&self, key: &Key) -> Option<Bytes> {
        self.backend().get(key).await.expect("a read that is allowed")
    }

    /// What a key has left.
    ///
    /// # Panics
    /// If the read fails.
    pub async fn remaining(&self, key: &Key) -> Option<Remaining> {
        self.backend().ttl(key).await.expect("a read that is allowed")
    }

    /// Asserts that a key is there with this value.
    ///
    /// # Panics
    /// If it is not.
    pub async fn assert_value(&self, key: &Key, value: impl Into<Bytes>) {
        assert_eq!(self.get(key).await, Some(value.into()), "the value of {key}");
    }

    /// Asserts that a key is not there, however it is asked for.
    ///
    /// # Panics
    /// If it is.
    pub async fn assert_absent(&self, key: &Key) {
        assert_eq!(self.get(key).await, None, "the value of {key}, which must be absent");
        assert_eq!(self.remaining(key).await, None, "the life of {key}, which must be absent");
    }

    /// Asserts that a key, which was just given `ttl`, has that left: exactly by a manual clock, at most in real time.
    ///
    /// # Panics
    /// If it has not.
    pub async fn assert_remaining(&self, key: &Key, ttl: Duration) {
        let remaining = self.remaining(key).await;
        self.assert_is_left_of(&format_args!("the life of {key}"), remaining, ttl);
    }

    /// Asserts it of an answer.
    ///
    /// # Panics
    /// If it does not hold.
    #[track_caller]
    pub fn assert_is_left(&self, remaining: Option<Remaining>, ttl: Duration) {
        self.assert_is_left_of(&"a key's life", remaining, ttl);
    }

    #[track_caller]
    fn assert_is_left_of(&self, what: &dyn fmt::Display, remaining: Option<Remaining>, ttl: Duration) {
        if self.fixture.clock.is_some() {
            assert_eq!(remaining, Some(Remaining::For(ttl)), "{what}");
            return;
        }
        let Some(Remaining::For(left)) = remaining else { panic!("{what} is {remaining:?} instead of {ttl:?}") };
        // A case is over long before; what is more than half gone was measured in the wrong unit.
        assert!(left <= ttl && left > ttl / 2, "{what}: {left:?} are left of {ttl:?}");
    }

    /// Asserts that a key does not expire.
    ///
    /// # Panics
    /// If it does or is absent.
    pub async fn assert_forever(&self, key: &Key) {
        assert_eq!(self.remaining(key).await, Some(Remaining::Forever), "the life of {key}");
    }

    /// Lets time pass until a key, which was given `ttl` a moment ago, is gone. By a manual clock it must live to the
    /// last millisecond and no longer.
    ///
    /// # Panics
    /// If it goes early or stays.
    pub async fn expire(&self, key: &Key, ttl: Duration) {
        let Some(clock) = &self.fixture.clock else {
            return self.see_it_go(key).await;
        };
        let last = Duration::from_millis(1);
        clock.advance_and_settle(ttl - last).await;
        assert_eq!(self.remaining(key).await, Some(Remaining::For(last)), "{key}, a millisecond before its end");
        assert!(self.get(key).await.is_some(), "{key} is gone a millisecond early");
        clock.advance_and_settle(last).await;
        self.assert_absent(key).await;
    }

    /// Lets [`SHORT`] pass, as seen by a key that is given this life and waited for.
    ///
    /// # Panics
    /// If that key does not expire.
    pub async fn let_short_pass(&self) {
        let witness = self.key("witness");
        self.put(&witness, "w", SetOptions::new().ttl(SHORT)).await;
        self.expire(&witness, SHORT).await;
    }

    async fn see_it_go(&self, key: &Key) {
        let looks = async {
            while self.get(key).await.is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("{key} does not expire"));
        self.assert_absent(key).await;
    }

    /// The wall-clock time that the backend goes by.
    #[must_use]
    pub fn wall(&self) -> UnixMillis {
        self.fixture.clock.as_ref().map_or_else(|| SystemClock::new().wall(), Clock::wall)
    }

    /// The backend's scan, `None` if the fixture declares that it has none.
    #[must_use]
    pub fn scan(&self) -> Option<&dyn Scan> {
        self.backend().as_scan()
    }

    /// The backend's comparisons, `None` if the fixture declares that it has none.
    #[must_use]
    pub fn atomic(&self) -> Option<&dyn Atomic> {
        self.backend().as_atomic()
    }

    /// The backend's counters, `None` if the fixture declares that it has none.
    #[must_use]
    pub fn counter(&self) -> Option<&dyn Counter> {
        self.backend().as_counter()
    }

    /// The backend's locks, `None` if the fixture declares that it has none.
    #[must_use]
    pub fn lock(&self) -> Option<&dyn Lock> {
        self.backend().as_lock()
    }

    /// Before every case, so that a missing power never passes for a success.
    fn check_powers(&self) {
        for power in Power::ALL {
            let declared = self.fixture.powers.contains(&power);
            let present = power.is_of(&**self.backend());
            assert_eq!(declared, present, "{power:?}: declared by the fixture, and what {} has", self.backend().name());
        }
    }

    async fn clean(&self) {
        if self.scan().is_some() {
            let removed = self.backend().delete_pattern(&Pattern::prefix(&self.prefix)).await;
            removed.expect("the keys of the case can be removed");
        }
    }
}
