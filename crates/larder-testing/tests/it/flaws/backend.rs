//! A backend that breaks its contract in one way.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream::BoxStream};
use larder_core::{
    Atomic, Backend, BackendExt, Bytes, Condition, Counter, Each, Expected, Expiry, Found, GetOptions, Key, Lock,
    Pattern, Remaining, Result, Scan, SetItem, SetOptions, SetOutcome, Ttl, UnixMillis,
};
use larder_testing::ModelBackend;
use tokio::sync::Barrier;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    AbsentAnswersLeftOut,
    AbsentMatchesAnything,
    AnswersBackwards,
    AnyoneReleases,
    ConditionsIgnored,
    CounterRenewsItsLife,
    CounterWraps,
    DeleteAlwaysTrue,
    EmptyIsAbsent,
    FirstPageOnly,
    GetThenSet,
    HolderIsRefused,
    KeepForgets,
    LengthIgnored,
    PastTimeAnswersFalse,
    RefusedWriteRenews,
    TextOnly,
    WholeSeconds,
    ZeroStores,
}

/// The model with a flaw.
#[derive(Debug)]
pub(super) struct FlawedBackend {
    model: ModelBackend,
    flaw: Flaw,
    /// Lets pairs of callers be between their read and their write at the same time.
    pair: Barrier,
}

impl FlawedBackend {
    pub(super) fn new(model: ModelBackend, flaw: Flaw) -> Self {
        Self { model, flaw, pair: Barrier::new(2) }
    }

    fn altered(&self, item: &SetItem) -> SetItem {
        let mut item = item.clone();
        match (self.flaw, item.options.ttl) {
            (Flaw::ConditionsIgnored, _) => item.options.condition = Condition::Always,
            (Flaw::KeepForgets, Ttl::Keep) => item.options.ttl = Ttl::Forever,
            (Flaw::WholeSeconds, Ttl::For(ttl)) => item.options.ttl = Ttl::For(Duration::from_secs(ttl.as_secs())),
            (Flaw::ZeroStores, Ttl::For(Duration::ZERO)) => item.options.ttl = Ttl::Forever,
            _ => {}
        }
        item
    }

    fn altered_value(&self, found: Found) -> Option<Found> {
        match self.flaw {
            Flaw::EmptyIsAbsent if found.value.is_empty() => None,
            Flaw::TextOnly => {
                let text = String::from_utf8_lossy(&found.value).into_owned();
                Some(Found::new(text, found.remaining))
            }
            _ => Some(found),
        }
    }
}

#[async_trait]
impl Backend for FlawedBackend {
    fn name(&self) -> &str {
        "flawed"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        let answers = self.model.get_many(keys, options).await.into_iter();
        let answers = answers.map(|answer| answer.map(|found| found.and_then(|found| self.altered_value(found))));
        match self.flaw {
            Flaw::AbsentAnswersLeftOut => answers.filter(|answer| !matches!(answer, Ok(None))).collect(),
            Flaw::AnswersBackwards => answers.rev().collect(),
            _ => answers.collect(),
        }
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        let items: Vec<_> = items.iter().map(|item| self.altered(item)).collect();
        let outcomes = self.model.set_many(&items).await;
        if self.flaw == Flaw::RefusedWriteRenews {
            for (item, outcome) in items.iter().zip(&outcomes) {
                if let (Ttl::For(ttl), Ok(SetOutcome::Rejected)) = (item.options.ttl, outcome) {
                    self.model.expire(&item.key, Expiry::After(ttl)).await.expect("the model does not fail");
                }
            }
        }
        outcomes
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        let answers = self.model.delete_many(keys).await.into_iter();
        answers.map(|answer| answer.map(|there| there || self.flaw == Flaw::DeleteAlwaysTrue)).collect()
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        self.model.ttl_many(keys).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        let past = matches!(expiry, Expiry::At(UnixMillis(0..=1)));
        let answers = self.model.expire_many(keys, expiry).await.into_iter();
        answers.map(|answer| answer.map(|there| there && !(past && self.flaw == Flaw::PastTimeAnswersFalse))).collect()
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn as_scan(&self) -> Option<&dyn Scan> {
        Some(self)
    }

    fn as_atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn as_counter(&self) -> Option<&dyn Counter> {
        Some(self)
    }

    fn as_lock(&self) -> Option<&dyn Lock> {
        Some(self)
    }
}

impl Scan for FlawedBackend {
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>> {
        let most = if self.flaw == Flaw::FirstPageOnly { 1 } else { usize::MAX };
        self.model.scan(pattern, page).take(most).boxed()
    }
}

#[async_trait]
impl Atomic for FlawedBackend {
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>> {
        if self.flaw != Flaw::GetThenSet {
            return self.model.get_or_set(key, value, ttl).await;
        }
        let before = self.model.get(key).await?;
        self.pair.wait().await;
        if before.is_none() {
            self.model.set(key, value, SetOptions::new().ttl(ttl)).await?;
        }
        Ok(before)
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        let mut expected = expected.clone();
        if self.flaw == Flaw::LengthIgnored {
            expected.length = None;
        }
        if self.flaw == Flaw::AbsentMatchesAnything && expected.holds(b"") && !self.model.exists(key).await? {
            return self.model.set(key, value, options).await;
        }
        self.model.compare_and_set(key, &expected, value, options).await
    }

    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool> {
        self.model.compare_and_delete(key, expected).await
    }
}

#[async_trait]
impl Counter for FlawedBackend {
    async fn increment(&self, key: &Key, amount: i64, ttl: Option<Duration>) -> Result<i64> {
        let count = self.model.count(key).await?;
        match (self.flaw, count, ttl) {
            (Flaw::CounterWraps, Some(count), _) => {
                let sum = count.wrapping_add(amount);
                self.model.set(key, sum.to_string().into(), SetOptions::new().keep_ttl()).await?;
                Ok(sum)
            }
            (Flaw::CounterRenewsItsLife, Some(_), Some(ttl)) => {
                self.model.expire(key, Expiry::After(ttl)).await?;
                self.model.increment(key, amount, None).await
            }
            _ => self.model.increment(key, amount, ttl).await,
        }
    }

    async fn count(&self, key: &Key) -> Result<Option<i64>> {
        self.model.count(key).await
    }
}

#[async_trait]
impl Lock for FlawedBackend {
    async fn acquire(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        if self.flaw == Flaw::HolderIsRefused && self.model.exists(key).await? {
            return Ok(false);
        }
        self.model.acquire(key, token, lease).await
    }

    async fn extend(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        self.model.extend(key, token, lease).await
    }

    async fn release(&self, key: &Key, token: &str) -> Result<bool> {
        if self.flaw == Flaw::AnyoneReleases {
            return self.model.delete(key).await;
        }
        self.model.release(key, token).await
    }
}
