//! The primary's bus, which also tells that its server is back.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use larder_core::{Announcement, Bus, BusEvent, BusSource, Bytes, Each, Error, Key, Result};

use crate::{FallbackBackend, shared::Shared, terms::Remember};

/// Messages travel over the primary alone: a bus of the secondary would reach nobody else.
#[async_trait]
impl BusSource for FallbackBackend {
    async fn open_bus(&self, channel: &str) -> Result<Box<dyn Bus>> {
        let source = self.shared.primary.as_bus().ok_or_else(|| Error::unsupported("open_bus", "primary"))?;
        let inner = source.open_bus(channel).await?;
        Ok(Box::new(WatchedBus { inner, shared: Arc::downgrade(&self.shared) }))
    }

    /// While the primary is away the answer is an error that says what becomes of the removal: see
    /// [`Deferred`](crate::Deferred).
    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        let operation = "remove_and_publish";
        let (channel, message) = (channel.to_owned(), Arc::clone(message));
        let removal = self.shared.each(operation, keys, Remember::Always, move |primary, keys| {
            async move {
                match primary.as_bus() {
                    Some(bus) => bus.remove_and_publish(keys, &channel, &message).await,
                    None => primary.delete_many(keys).await,
                }
            }
            .boxed()
        });
        self.removing(operation, keys, removal).await
    }
}

/// A subscription that the server confirmed shows that it can be reached: there is no need to wait out a pause.
#[derive(Debug)]
struct WatchedBus {
    inner: Box<dyn Bus>,
    shared: Weak<Shared>,
}

#[async_trait]
impl Bus for WatchedBus {
    async fn publish(&self, message: Bytes) -> Result<u64> {
        self.inner.publish(message).await
    }

    fn events(&self) -> BoxStream<'static, BusEvent> {
        let shared = Weak::clone(&self.shared);
        let watched = self.inner.events().inspect(move |event| {
            if *event == BusEvent::Confirmed
                && let Some(shared) = shared.upgrade()
            {
                shared.nudge();
            }
        });
        watched.boxed()
    }
}
