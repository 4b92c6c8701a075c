//! The decorator.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt;
use larder_core::{
    Atomic, Backend, BusSource, Condition, Counter, Each, Error, Expiry, Found, GetOptions, Inspect, Key, Lineage,
    Lock, Remaining, Result, Scan, SetItem, SetOutcome, Tick, Tracking,
};
use tokio::sync::watch;

use crate::{
    BreakerState, Deferred, FallbackBuilder, FallbackStats,
    call::{Attempt, Attempts},
    local::away_error,
    shared::{Gate, Shared},
    stats::count,
    terms::{Remember, Terms},
};

/// A primary backend with a secondary that stands in while it is away. See the [crate](crate) for what that means.
///
/// Needs a tokio runtime: the task that brings the primary back runs in that of the call that finds it away.
///
/// Dropping a future of a write or a removal leaves its outcome unknown, and so its keys are remembered for removal. Dropping
/// that of a read costs nothing.
#[derive(Debug)]
pub struct FallbackBackend {
    pub(crate) shared: Arc<Shared>,
}

impl FallbackBackend {
    /// Settings of a fallback from `primary` to `secondary`. The secondary should be empty and used by nothing else; a
    /// bounded memory backend is what is meant.
    pub fn builder(primary: Arc<dyn Backend>, secondary: Arc<dyn Backend>) -> FallbackBuilder {
        FallbackBuilder::new(primary, secondary)
    }

    pub(crate) fn assemble(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What the breaker lets through now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.shared.state()
    }

    /// How long the primary is waited for.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.shared.settings.deadline
    }

    /// Whether nothing is wrong: the breaker is closed and has no fault on its mind, and no removal is remembered. Costs one
    /// load of an atomic.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.shared.is_calm()
    }

    /// The name of the primary.
    #[must_use]
    pub fn primary_name(&self) -> &str {
        self.shared.primary.name()
    }

    /// Tells of every change of state. A receiver that is slow sees the latest one only.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.shared.subscribe()
    }

    /// The last fault of the primary, and when it was, by the fallback's clock. Faults that callers were not told of count
    /// too, and those of probes.
    #[must_use]
    pub fn last_fault(&self) -> Option<(Tick, Error)> {
        self.shared.last_fault()
    }

    /// Since when the breaker has let nothing through; `None` while it does.
    #[must_use]
    pub fn away_since(&self) -> Option<Tick> {
        self.shared.away_since()
    }

    /// Since when the primary has refused writes for lack of memory; `None` while it takes them. It is noticed by writes
    /// alone, both ways.
    #[must_use]
    pub fn writes_refused_since(&self) -> Option<Tick> {
        self.shared.refused_since()
    }

    /// Says that the primary may be back, as one who has just heard of a failover knows: if the breaker is open, the pause
    /// is over and the probe goes out at once, and so do removals that were refused and wait to be tried again. Its own bus
    /// does this by itself when a subscription is confirmed.
    pub fn nudge(&self) {
        self.shared.nudge();
    }

    /// Figures since the start.
    #[must_use]
    pub fn stats(&self) -> FallbackStats {
        self.shared.stats()
    }

    /// Lets nothing through to the primary, for maintenance of it, until [`auto`](Self::auto) or
    /// [`force_closed`](Self::force_closed).
    pub fn force_open(&self) {
        self.shared.change(None, |gate| gate.breaker.force_open());
    }

    /// Lets everything through to the primary, whatever it answers. Keys whose removal is remembered stay away from it until
    /// that has been carried out.
    pub fn force_closed(&self) {
        self.shared.change(None, |gate| gate.breaker.force_closed());
    }

    /// Takes back what was forced. After [`force_open`](Self::force_open) the primary is probed at once.
    pub fn auto(&self) {
        let now = self.shared.timer.now_precise();
        self.shared.change(None, |gate| gate.breaker.auto(now));
    }

    /// As [`get_many`](Backend::get_many), but a key for which the primary failed is an error, where that one takes it for
    /// absent. While the primary is not asked the secondary answers here too. The primary is waited for until the deadline,
    /// or for `limit` where that is less.
    pub async fn get_many_or_fault(&self, keys: &[Key], options: GetOptions, limit: Duration) -> Each<Option<Found>> {
        let terms = Terms { limit, ..Remember::Never.into() };
        self.shared.get_many_or_fault(keys, options, terms).await
    }

    /// As [`get_many_or_fault`](Self::get_many_or_fault) for one key, until the deadline; but where other keys are being read
    /// already, those that come at about the same time are read at once, if the primary
    /// [is one server](larder_core::Lineage::has_one_server). A caller that goes away leaves the others alone. It depends on the
    /// store what a key that does not hold bytes is then: absent or an error.
    ///
    /// # Errors
    /// As [`get_many_or_fault`](Self::get_many_or_fault) for the key, and
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) if the runtime of the other callers ends.
    pub async fn get_combined(&self, key: &Key) -> Result<Option<Found>> {
        self.shared.get_combined(key).await
    }

    /// Remembers removals as if the primary had not carried them out; answers whether all of them will be, or something that
    /// covers them. Returns when the journal's file, if there is one, holds them. For a removal that has to come after another
    /// one which is only remembered.
    pub async fn remember(&self, keys: &[Key]) -> bool {
        // No short cut: each of them is to be remembered.
        let kept = keys.iter().filter(|key| self.shared.remember(key)).count();
        self.shared.saved().await;
        kept == keys.len()
    }

    /// Drops what the secondary holds of these keys, because somebody else has changed them. A secondary that does not
    /// remove them at once, as one in memory does, loses all that it holds.
    pub fn forget(&self, keys: &[Key]) {
        let shared = &self.shared;
        let Some(epoch) = shared.used_epoch() else { return };
        let local: Vec<Key> = keys.iter().map(|key| shared.local_key(epoch, key)).collect();
        let removed = shared.secondary.delete_many(&local).now_or_never();
        if !removed.is_some_and(|answers| answers.iter().all(Result::is_ok)) {
            self.forget_all();
        }
    }

    /// Drops all that the secondary holds.
    pub fn forget_all(&self) {
        self.shared.change(None, Gate::next_epoch);
    }

    async fn set_away(&self, item: &SetItem, error: Option<Error>) -> Result<SetOutcome> {
        let shared = &self.shared;
        let conditional = item.options.condition != Condition::Always;
        let (located, epoch) = shared.locate(std::iter::once(&item.key));
        if !located.contains(&true) || conditional && !shared.settings.local_counters {
            return Err(error.unwrap_or_else(|| away_error("set_many", &item.key)));
        }
        if error.is_some() {
            count(&shared.counters.hidden);
        }
        let outcome = shared.store_local(item, epoch).await;
        if outcome.is_err() {
            // What it was to replace must not stay.
            self.forget(std::slice::from_ref(&item.key));
        }
        outcome
    }

    /// Removes keys in both backends: from the secondary also if this is dropped while the journal's file is waited for.
    pub(crate) async fn removing(
        &self,
        operation: &'static str,
        keys: &[Key],
        removal: impl Future<Output = Attempts<bool>>,
    ) -> Each<bool> {
        let mut unfinished = Unfinished { fallback: self, keys };
        let attempts = removal.await;
        let answers = self.removed(operation, keys, attempts).await;
        unfinished.keys = &[];
        answers
    }

    /// Takes the removed keys from the secondary too; what the primary did not confirm is an error that says what becomes
    /// of it.
    async fn removed(&self, operation: &'static str, keys: &[Key], attempts: Attempts<bool>) -> Each<bool> {
        let attempts = match attempts {
            Attempts::Answered(answers) => return answers,
            Attempts::Mixed(attempts) => attempts,
        };
        let lost: Vec<Option<bool>> = attempts
            .iter()
            .map(|attempt| match attempt {
                Attempt::Answer(_) => None,
                Attempt::Away { lost, .. } => Some(*lost),
            })
            .collect();
        let attempts = Attempts::Mixed(attempts);
        let answers =
            self.shared.fill_in(keys, attempts, |_, _| Ok(false), |secondary, keys| secondary.delete_many(keys)).await;
        let answers = keys.iter().zip(lost).zip(answers);
        answers
            .map(|((key, lost), answer)| match lost {
                Some(lost) => answer.and_then(|_| Err(Deferred::error(operation, key, lost))),
                None => answer,
            })
            .collect()
    }
}

/// What a removal has not taken from the secondary yet.
struct Unfinished<'a> {
    fallback: &'a FallbackBackend,
    keys: &'a [Key],
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.fallback.forget(self.keys);
        }
    }
}

impl Drop for FallbackBackend {
    fn drop(&mut self) {
        // The recovery task may be waiting out a long pause.
        self.shared.wake.notify_one();
        // It may also be in the middle of a probe, and is not waited for.
        if let Some(file) = &self.shared.file {
            file.close();
        }
    }
}

#[async_trait]
impl Backend for FallbackBackend {
    fn name(&self) -> &str {
        "fallback"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        let attempts =
            self.shared.each("get_many", keys, Remember::Never, move |primary, keys| primary.get_many(keys, options));
        let attempts = attempts.await;
        self.shared
            .fill_in(keys, attempts, |_, _| Ok(None), move |secondary, keys| secondary.get_many(keys, options))
            .await
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        // A removal of the key is remembered: the primary may hold an older value.
        let attempts = self.shared.each("set_many", items, Remember::Always, |primary, items| primary.set_many(items));
        let attempts = match attempts.await {
            Attempts::Answered(answers) => return answers,
            Attempts::Mixed(attempts) => attempts,
        };
        let mut outcomes = Vec::with_capacity(items.len());
        for (item, attempt) in items.iter().zip(attempts) {
            outcomes.push(match attempt {
                Attempt::Answer(answer) => answer,
                Attempt::Away { error, .. } => self.set_away(item, error).await,
            });
        }
        outcomes
    }

    /// While the primary is away the answer is an error that says what becomes of the removal: see [`Deferred`].
    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        let removal =
            self.shared.each("delete_many", keys, Remember::Always, |primary, keys| primary.delete_many(keys));
        self.removing("delete_many", keys, removal).await
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        let attempts =
            self.shared.each("ttl_many", keys, Remember::Never, |primary, keys| primary.ttl_many(keys)).await;
        self.shared.fill_in(keys, attempts, |_, _| Ok(None), |secondary, keys| secondary.ttl_many(keys)).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        // A removal is remembered: the primary's entry might outlive what was asked for.
        let attempts = self
            .shared
            .each("expire_many", keys, Remember::Always, move |primary, keys| primary.expire_many(keys, expiry));
        let attempts = attempts.await;
        let local = self.shared.bounded_expiry(expiry);
        let absent = |key: &Key, error: Option<Error>| Err(error.unwrap_or_else(|| away_error("expire_many", key)));
        self.shared.fill_in(keys, attempts, absent, move |secondary, keys| secondary.expire_many(keys, local)).await
    }

    /// The primary's sign of life; an error at once while the breaker is open.
    async fn ping(&self) -> Result<()> {
        self.shared.about("ping", true, self.shared.primary.ping()).await
    }

    fn as_scan(&self) -> Option<&dyn Scan> {
        self.shared.primary.as_scan().map(|_| self as &dyn Scan)
    }

    fn as_atomic(&self) -> Option<&dyn Atomic> {
        self.shared.primary.as_atomic().map(|_| self as &dyn Atomic)
    }

    fn as_counter(&self) -> Option<&dyn Counter> {
        self.shared.primary.as_counter().map(|_| self as &dyn Counter)
    }

    fn as_lock(&self) -> Option<&dyn Lock> {
        self.shared.primary.as_lock().map(|_| self as &dyn Lock)
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        self.shared.primary.as_bus().map(|_| self as &dyn BusSource)
    }

    fn as_lineage(&self) -> Option<&dyn Lineage> {
        self.shared.primary.as_lineage()
    }

    fn as_tracking(&self) -> Option<&dyn Tracking> {
        self.shared.primary.as_tracking()
    }

    fn as_inspect(&self) -> Option<&dyn Inspect> {
        self.shared.primary.as_inspect().map(|_| self as &dyn Inspect)
    }
}
