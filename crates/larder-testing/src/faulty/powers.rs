//! The optional powers of a faulty backend: those of the one behind it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use larder_core::{
    Announcement, Atomic, Bus, BusEvent, BusSource, Counter, Each, Error, Expected, Inspect, Key, Lock, Pattern,
    Result, SamplePage, Scan, ServerFigures, ServerSettings, SetOptions, SetOutcome,
};

use super::{Controls, FaultyBackend, Operation};

impl FaultyBackend {
    /// A call about one key under the fault that is set.
    async fn single<T>(
        &self,
        operation: Operation,
        key: &Key,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.controls.run(operation, work).await.map_err(|error| error.with_key(key))?
    }

    fn lacks(&self, operation: Operation) -> Error {
        Error::unsupported(operation.as_str(), larder_core::Backend::name(self))
    }
}

impl Scan for FaultyBackend {
    /// The fault is looked up before each page, so that a scan can be made to fail in its midst.
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>> {
        let start = async move {
            let scan = self.inner.as_scan().ok_or_else(|| self.lacks(Operation::Scan))?;
            self.controls.run(Operation::Scan, async { scan.scan(pattern, page) }).await
        };
        let checked = async move |keys| self.controls.check(Operation::Scan).await.map(|()| keys);
        stream::once(start).try_flatten().and_then(checked).boxed()
    }
}

/// Passes a call on to a power, if the backend behind has it.
macro_rules! pass {
    ($self:ident, $power:ident, $operation:ident, $key:ident, $method:ident($($argument:expr),*)) => {{
        let power = $self.inner.$power().ok_or_else(|| $self.lacks(Operation::$operation))?;
        $self.single(Operation::$operation, $key, power.$method($($argument),*)).await
    }};
}

#[async_trait]
impl Atomic for FaultyBackend {
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>> {
        pass!(self, as_atomic, GetOrSet, key, get_or_set(key, value, ttl))
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        pass!(self, as_atomic, CompareAndSet, key, compare_and_set(key, expected, value, options))
    }

    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool> {
        pass!(self, as_atomic, CompareAndDelete, key, compare_and_delete(key, expected))
    }
}

#[async_trait]
impl Counter for FaultyBackend {
    async fn increment(&self, key: &Key, amount: i64, ttl: Option<Duration>) -> Result<i64> {
        pass!(self, as_counter, Increment, key, increment(key, amount, ttl))
    }

    async fn count(&self, key: &Key) -> Result<Option<i64>> {
        pass!(self, as_counter, Count, key, count(key))
    }
}

#[async_trait]
impl Lock for FaultyBackend {
    async fn acquire(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        pass!(self, as_lock, Acquire, key, acquire(key, token, lease))
    }

    async fn extend(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        pass!(self, as_lock, Extend, key, extend(key, token, lease))
    }

    async fn release(&self, key: &Key, token: &str) -> Result<bool> {
        pass!(self, as_lock, Release, key, release(key, token))
    }
}

#[async_trait]
impl BusSource for FaultyBackend {
    async fn open_bus(&self, channel: &str) -> Result<Box<dyn Bus>> {
        let source = self.inner.as_bus().ok_or_else(|| self.lacks(Operation::OpenBus))?;
        let inner = self.controls.run(Operation::OpenBus, source.open_bus(channel)).await??;
        Ok(Box::new(FaultyBus { inner, controls: Arc::clone(&self.controls) }))
    }

    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        let Some(source) = self.inner.as_bus() else {
            return keys.iter().map(|key| Err(self.lacks(Operation::RemoveAndPublish).with_key(key))).collect();
        };
        self.batch(Operation::RemoveAndPublish, keys.iter(), source.remove_and_publish(keys, channel, message)).await
    }
}

#[derive(Debug)]
struct FaultyBus {
    inner: Box<dyn Bus>,
    controls: Arc<Controls>,
}

#[async_trait]
impl Bus for FaultyBus {
    async fn publish(&self, message: Bytes) -> Result<u64> {
        self.controls.run(Operation::Publish, self.inner.publish(message)).await?
    }

    fn events(&self) -> BoxStream<'static, BusEvent> {
        self.inner.events()
    }
}

#[async_trait]
impl Inspect for FaultyBackend {
    async fn server_figures(&self) -> Result<ServerFigures> {
        let inspect = self.inner.as_inspect().ok_or_else(|| self.lacks(Operation::ServerFigures))?;
        self.controls.run(Operation::ServerFigures, inspect.server_figures()).await?
    }

    async fn settings(&self) -> Result<ServerSettings> {
        let inspect = self.inner.as_inspect().ok_or_else(|| self.lacks(Operation::Settings))?;
        self.controls.run(Operation::Settings, inspect.settings()).await?
    }

    fn sample(&self, keys: usize) -> BoxStream<'_, Result<SamplePage>> {
        let start = async move {
            let inspect = self.inner.as_inspect().ok_or_else(|| self.lacks(Operation::Sample))?;
            self.controls.run(Operation::Sample, async { inspect.sample(keys) }).await
        };
        let checked = async move |page| self.controls.check(Operation::Sample).await.map(|()| page);
        stream::once(start).try_flatten().and_then(checked).boxed()
    }
}
