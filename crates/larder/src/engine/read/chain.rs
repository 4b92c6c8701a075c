//! The keys that are being loaded on the way to here.

use std::{future::Future, sync::Arc};

use larder_core::Key;
use larder_flight::FlightId;

use super::LoadRequest;

tokio::task_local! {
    static CHAIN: Chain;
}

/// The keys that are being loaded on the way to here: a loader that asks for one of them would wait for itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain(Option<Arc<Link>>);

#[derive(Debug)]
struct Link {
    engine: u64,
    id: FlightId,
    key: Key,
    before: Chain,
}

impl Chain {
    pub(crate) fn current() -> Self {
        CHAIN.try_with(Clone::clone).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn with(self, request: &LoadRequest) -> Self {
        let link = Link { engine: request.engine.id, id: request.id, key: request.key.clone(), before: self };
        Self(Some(Arc::new(link)))
    }

    pub(crate) fn contains(&self, request: &LoadRequest) -> bool {
        let mut at = self.0.as_deref();
        while let Some(link) = at {
            if link.engine == request.engine.id && link.id == request.id && link.key == request.key {
                return true;
            }
            at = link.before.0.as_deref();
        }
        false
    }

    /// Whether the key is being loaded on the way here, by a load of any type.
    pub(crate) fn loads(&self, request: &LoadRequest) -> bool {
        let mut at = self.0.as_deref();
        while let Some(link) = at {
            if link.engine == request.engine.id && link.key == request.key {
                return true;
            }
            at = link.before.0.as_deref();
        }
        false
    }

    pub(crate) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CHAIN.scope(self, future)
    }
}
