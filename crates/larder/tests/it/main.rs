//! Tests of the public interface.

#![expect(clippy::unwrap_used, reason = "the functions that tests share may fail a test as the tests do")]

/// The methods of a [`Backend`](larder_core::Backend) that go on to the one in a field, beside those that a test has its own way with.
macro_rules! backend_over {
    ($type:ty, $name:literal, $inner:ident, { $($own:tt)* }) => {
        #[async_trait::async_trait]
        impl larder_core::Backend for $type {
            fn name(&self) -> &str {
                $name
            }

            async fn set_many(&self, items: &[larder_core::SetItem]) -> larder_core::Each<larder_core::SetOutcome> {
                self.$inner.set_many(items).await
            }

            async fn delete_many(&self, keys: &[larder_core::Key]) -> larder_core::Each<bool> {
                self.$inner.delete_many(keys).await
            }

            async fn ttl_many(
                &self,
                keys: &[larder_core::Key],
            ) -> larder_core::Each<Option<larder_core::Remaining>> {
                self.$inner.ttl_many(keys).await
            }

            async fn expire_many(
                &self,
                keys: &[larder_core::Key],
                expiry: larder_core::Expiry,
            ) -> larder_core::Each<bool> {
                self.$inner.expire_many(keys, expiry).await
            }

            async fn ping(&self) -> larder_core::Result<()> {
                self.$inner.ping().await
            }

            fn as_atomic(&self) -> Option<&dyn larder_core::Atomic> {
                self.$inner.as_atomic()
            }

            $($own)*
        }
    };
}

mod acceptance;
mod basics;
mod batches;
mod coherence;
mod degrade;
#[cfg(feature = "metrics")]
mod figures;
mod globals;
mod invalidations;
mod leases;
mod loads;
mod model;
mod order;
mod reads;
mod regression;
mod shutdown;
mod source;
mod stale;
mod tiers;
mod timeouts;
mod updates;

use std::sync::Arc;

use larder::{Cache, ManualClock};
use larder_memory::MemoryBackend;

/// A store that several caches share, as several processes share a Redis.
fn store(clock: &ManualClock) -> Arc<MemoryBackend> {
    let backend = MemoryBackend::builder().clock(Arc::new(clock.clone())).build();
    Arc::new(backend.expect("the default settings are valid"))
}

/// A cache of one "process" on a shared store.
async fn process(clock: &ManualClock, store: &Arc<MemoryBackend>) -> Cache {
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(store.clone());
    builder.build().await.expect("the settings are valid")
}
