//! A decorator that lets the backend behind it fail, hang or lose its answers, and counts what was asked.

mod controls;
mod powers;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
pub use controls::{Fault, Operation};
use larder_core::{
    Atomic, Backend, BusSource, Counter, Each, ErrorKind, Expiry, Found, GetOptions, Inspect, Key, Lineage, Lock,
    Remaining, Result, Scan, SetItem, SetOutcome, Tracking,
};

use self::controls::Controls;
use crate::conformance::Power;

/// A backend whose behaviour a test switches while it runs. Clones share the switches, the counts and the backend.
///
/// It has the powers of the backend behind it, except those that [`without`](Self::without) takes away.
#[derive(Clone)]
pub struct FaultyBackend {
    inner: Arc<dyn Backend>,
    controls: Arc<Controls>,
    hidden: Vec<Power>,
}

impl FaultyBackend {
    /// A decorator that passes everything on until it is told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, controls: Arc::default(), hidden: Vec::new() }
    }

    /// Hides a power of the backend behind this one.
    #[must_use]
    pub fn without(mut self, power: Power) -> Self {
        self.hidden.push(power);
        self
    }

    /// The backend behind this one, which never fails.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn Backend> {
        &self.inner
    }

    /// What happens to every call from now on, whatever was set before for all or for one operation.
    pub fn set(&self, fault: Fault) {
        self.controls.set(fault);
    }

    /// What happens to the calls of one operation from now on.
    pub fn set_for(&self, operation: Operation, fault: Fault) {
        self.controls.set_for(operation, fault);
    }

    /// Every call fails with this kind of error from now on.
    pub fn fail(&self, kind: ErrorKind) {
        self.set(Fault::Fail(kind));
    }

    /// The next `count` calls fail with this kind of error, whatever else is set; each key of a batch is refused by the
    /// same call.
    pub fn fail_next(&self, count: u64, kind: ErrorKind) {
        self.controls.fail_next(count, kind);
    }

    /// Every call from now on hangs until its future is dropped.
    pub fn hang(&self) {
        self.set(Fault::Hang);
    }

    /// Everything is passed on again, and the calls that were held go on.
    pub fn heal(&self) {
        self.controls.heal();
    }

    /// How many calls have come in since the start or the last [`reset_calls`](Self::reset_calls), failed ones too.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.controls.calls()
    }

    /// How many calls of one operation have come in.
    #[must_use]
    pub fn calls_of(&self, operation: Operation) -> u64 {
        self.controls.calls_of(operation)
    }

    /// Counts from zero again.
    pub fn reset_calls(&self) {
        self.controls.reset_calls();
    }

    /// How many calls are being held or hang at this moment.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.controls.stuck()
    }

    /// Completes once `count` calls are being held or hang at the same time.
    pub async fn until_stuck(&self, count: usize) {
        self.controls.until_stuck(count).await;
    }

    fn power(&self, power: Power) -> bool {
        !self.hidden.contains(&power) && power.is_of(&*self.inner)
    }

    /// A batch under the fault that is set: an error for each key, or what the backend answers, or both.
    async fn batch<T>(
        &self,
        operation: Operation,
        keys: impl Iterator<Item = &Key> + Send,
        work: impl Future<Output = Each<T>> + Send,
    ) -> Each<T> {
        let keys: Vec<_> = keys.collect();
        match self.controls.run(operation, work).await {
            Ok(answers) => answers,
            Err(error) => keys.into_iter().map(|key| Err(error.clone().with_key(key))).collect(),
        }
    }
}

impl fmt::Debug for FaultyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBackend").field("inner", &self.inner).field("controls", &self.controls).finish()
    }
}

#[async_trait]
impl Backend for FaultyBackend {
    /// The name of the backend behind this one.
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        self.batch(Operation::GetMany, keys.iter(), self.inner.get_many(keys, options)).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        self.batch(Operation::SetMany, items.iter().map(|item| &item.key), self.inner.set_many(items)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        self.batch(Operation::DeleteMany, keys.iter(), self.inner.delete_many(keys)).await
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        self.batch(Operation::TtlMany, keys.iter(), self.inner.ttl_many(keys)).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        self.batch(Operation::ExpireMany, keys.iter(), self.inner.expire_many(keys, expiry)).await
    }

    async fn ping(&self) -> Result<()> {
        self.controls.run(Operation::Ping, self.inner.ping()).await?
    }

    fn as_scan(&self) -> Option<&dyn Scan> {
        self.power(Power::Scan).then_some(self as &dyn Scan)
    }

    fn as_atomic(&self) -> Option<&dyn Atomic> {
        self.power(Power::Atomic).then_some(self as &dyn Atomic)
    }

    fn as_counter(&self) -> Option<&dyn Counter> {
        self.power(Power::Counter).then_some(self as &dyn Counter)
    }

    fn as_lock(&self) -> Option<&dyn Lock> {
        self.power(Power::Lock).then_some(self as &dyn Lock)
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        self.power(Power::Bus).then_some(self as &dyn BusSource)
    }

    fn as_lineage(&self) -> Option<&dyn Lineage> {
        self.inner.as_lineage()
    }

    fn as_tracking(&self) -> Option<&dyn Tracking> {
        self.inner.as_tracking()
    }

    fn as_inspect(&self) -> Option<&dyn Inspect> {
        self.power(Power::Inspect).then_some(self as &dyn Inspect)
    }
}
