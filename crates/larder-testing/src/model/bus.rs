//! The model's bus, among its clones in this process.

use std::sync::PoisonError;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use larder_core::{Announcement, Bus, BusEvent, BusSource, Each, Key, Result};
use tokio::sync::broadcast::{self, error::RecvError};

use super::ModelBackend;

/// Messages that a slow listener may be behind before it is told that it lost some.
const BACKLOG: usize = 1024;

#[derive(Debug)]
struct ModelBus {
    channel: broadcast::Sender<Bytes>,
}

#[async_trait]
impl BusSource for ModelBackend {
    async fn open_bus(&self, channel: &str) -> Result<Box<dyn Bus>> {
        let mut channels = self.shared.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = channels.entry(channel.to_owned()).or_insert_with(|| broadcast::Sender::new(BACKLOG)).clone();
        Ok(Box::new(ModelBus { channel }))
    }

    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        let mut entries = self.live();
        let removed = keys.iter().map(|key| Ok(entries.remove(key).is_some())).collect();
        let channels = self.shared.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(channel).filter(|_| !keys.is_empty()) {
            // The only error is that nobody listens.
            drop(channel.send(message(keys)));
        }
        removed
    }
}

#[async_trait]
impl Bus for ModelBus {
    async fn publish(&self, message: Bytes) -> Result<u64> {
        // The only error is that nobody listens.
        Ok(self.channel.send(message).map_or(0, |receivers| receivers as u64))
    }

    /// Listens from this call on.
    fn events(&self) -> BoxStream<'static, BusEvent> {
        let messages = stream::unfold(self.channel.subscribe(), async |mut receiver| match receiver.recv().await {
            Ok(message) => Some((vec![BusEvent::Message(message)], receiver)),
            Err(RecvError::Lagged(_)) => Some((vec![BusEvent::Lost, BusEvent::Confirmed], receiver)),
            Err(RecvError::Closed) => None,
        });
        stream::iter([BusEvent::Confirmed]).chain(messages.flat_map(stream::iter)).boxed()
    }
}
