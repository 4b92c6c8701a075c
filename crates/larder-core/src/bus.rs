//! How invalidations travel between processes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{Key, Result};

/// What a subscription says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusEvent {
    /// The server confirmed a subscription that this side sent: from here on nothing is missed until `Lost`.
    Confirmed,
    /// A message; the bytes are the sender's.
    Message(Bytes),
    /// Messages may have been lost since the last event.
    Lost,
}

/// Makes the message that tells of the removal of some keys. It is asked for each step of a removal that is to be told of,
/// with the keys that go in it, and must be quick.
pub type Announcement = Arc<dyn Fn(&[Key]) -> Bytes + Send + Sync>;

/// What a [`Tracking`](crate::Tracking) stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackingEvent {
    /// Every server tracks: from here on no change is missed until `Lost`.
    Confirmed,
    /// These keys changed or are gone.
    Keys(Vec<Key>),
    /// The whole store was emptied.
    Flushed,
    /// Changes may have been missed since the last event.
    Lost,
}

/// A channel that reaches the other processes of a namespace: at most once, without replay.
#[async_trait]
pub trait Bus: Send + Sync + std::fmt::Debug {
    /// Sends a message; answers how many receivers the transport knows of. There may be more: a node of a cluster knows
    /// only those that are connected to itself.
    async fn publish(&self, message: Bytes) -> Result<u64>;

    /// What arrives. The stream reconnects by itself, says [`BusEvent::Lost`] as soon as the link is in doubt, and
    /// [`BusEvent::Confirmed`] once it stands again. It ends when it is dropped.
    fn events(&self) -> BoxStream<'static, BusEvent>;
}
