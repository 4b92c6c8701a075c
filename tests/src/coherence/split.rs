//! A backend whose data and whose messages travel over different links, so that one can fail without the other; and the ways
//! to break it on purpose.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, future::ready, stream::BoxStream};
use larder_core::{
    Announcement, Atomic, Backend, BackendExt, Bus, BusEvent, BusSource, Bytes, Counter, Each, Expected, Expiry, Found,
    GetOptions, Inspect, Key, Lineage, Lock, Remaining, Result, Scan, SetItem, SetOptions, SetOutcome,
};
use larder_redis::RedisBackend;
use serde::{Deserialize, Serialize};

/// By how much a sabotaged store is late.
const LATE: Duration = Duration::from_millis(50);

/// How a process is broken on purpose: a torture test that does not notice is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sabotage {
    /// A third of the messages does not reach the readers' caches
    Messages,
    /// A third of the writer's removals is answered and not carried out
    Removals,
    /// Loads are stored late, and whatever stands under their key by then
    Fills,
}

impl Sabotage {
    /// Whether it breaks this process.
    pub(super) fn breaks(self, process: u32) -> bool {
        match self {
            Self::Messages => process != 0,
            Self::Removals => process == 0,
            Self::Fills => true,
        }
    }
}

/// Data over one backend, messages of others over another one.
#[derive(Debug)]
pub struct SplitBackend {
    data: RedisBackend,
    messages: RedisBackend,
    sabotage: Option<Sabotage>,
    losses: Arc<AtomicU64>,
}

impl SplitBackend {
    /// What is read, written and sent goes over `data`; what is heard comes over `messages`.
    #[must_use]
    pub fn new(data: RedisBackend, messages: RedisBackend, sabotage: Option<Sabotage>) -> Self {
        Self { data, messages, sabotage, losses: Arc::default() }
    }

    /// How often the link of the messages was lost.
    pub(super) fn losses(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.losses)
    }

    fn loses_removal(&self) -> bool {
        self.sabotage == Some(Sabotage::Removals) && fastrand::u8(..3) == 0
    }

    fn atomic(&self) -> &dyn Atomic {
        self.data.as_atomic().expect("Redis compares")
    }

    fn bus_of(backend: &RedisBackend) -> &dyn BusSource {
        backend.as_bus().expect("Redis carries messages")
    }
}

#[async_trait]
impl Backend for SplitBackend {
    fn name(&self) -> &str {
        self.data.name()
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        self.data.get_many(keys, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        self.data.set_many(items).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        if self.loses_removal() {
            return keys.iter().map(|_| Ok(true)).collect();
        }
        self.data.delete_many(keys).await
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        self.data.ttl_many(keys).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        self.data.expire_many(keys, expiry).await
    }

    async fn ping(&self) -> Result<()> {
        self.data.ping().await
    }

    fn as_scan(&self) -> Option<&dyn Scan> {
        self.data.as_scan()
    }

    fn as_atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn as_counter(&self) -> Option<&dyn Counter> {
        self.data.as_counter()
    }

    fn as_lock(&self) -> Option<&dyn Lock> {
        self.data.as_lock()
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        Some(self)
    }

    fn as_lineage(&self) -> Option<&dyn Lineage> {
        self.data.as_lineage()
    }

    fn as_inspect(&self) -> Option<&dyn Inspect> {
        self.data.as_inspect()
    }
}

#[async_trait]
impl Atomic for SplitBackend {
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>> {
        self.atomic().get_or_set(key, value, ttl).await
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        if self.sabotage == Some(Sabotage::Fills) {
            tokio::time::sleep(LATE).await;
            return self.data.set(key, value, SetOptions::new().ttl(options.ttl)).await;
        }
        self.atomic().compare_and_set(key, expected, value, options).await
    }

    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool> {
        self.atomic().compare_and_delete(key, expected).await
    }
}

#[async_trait]
impl BusSource for SplitBackend {
    async fn open_bus(&self, channel: &str) -> Result<Box<dyn Bus>> {
        let outward = Self::bus_of(&self.data).open_bus(channel).await?;
        let inward = Self::bus_of(&self.messages).open_bus(channel).await?;
        let deaf = self.sabotage == Some(Sabotage::Messages);
        Ok(Box::new(SplitBus { outward, inward, deaf, losses: Arc::clone(&self.losses) }))
    }

    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        if self.loses_removal() {
            return keys.iter().map(|_| Ok(true)).collect();
        }
        Self::bus_of(&self.data).remove_and_publish(keys, channel, message).await
    }
}

struct SplitBus {
    outward: Box<dyn Bus>,
    inward: Box<dyn Bus>,
    deaf: bool,
    losses: Arc<AtomicU64>,
}

impl fmt::Debug for SplitBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitBus").field("outward", &self.outward).field("inward", &self.inward).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bus for SplitBus {
    async fn publish(&self, message: Bytes) -> Result<u64> {
        self.outward.publish(message).await
    }

    fn events(&self) -> BoxStream<'static, BusEvent> {
        let (deaf, losses) = (self.deaf, Arc::clone(&self.losses));
        let events = self.inward.events().filter(move |event| {
            if matches!(event, BusEvent::Lost) {
                losses.fetch_add(1, Ordering::SeqCst);
            }
            let swallowed = deaf && matches!(event, BusEvent::Message(_)) && fastrand::u8(..3) == 0;
            ready(!swallowed)
        });
        events.boxed()
    }
}
