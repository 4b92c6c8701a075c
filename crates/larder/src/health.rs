//! Whether the cache is well, and what is wrong if it is not.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use larder_core::{BackendExt, Error, ErrorKind, Key, Result, SetOptions};
use serde::Serialize;

use crate::Cache;

/// How well the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthStatus {
    /// All tiers answer.
    Healthy,
    /// The remote tier does not; the cache works without it.
    Degraded,
    /// A probe read back something else than it wrote.
    Unhealthy,
}

/// What is known of the remote tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemoteHealth {
    /// The backend's name.
    pub backend: String,
    /// Whether it answered.
    pub reachable: bool,
    /// What the circuit breaker lets through: `closed` (everything), `half_open` (a probe), `open` (nothing).
    pub breaker: String,
    /// Removals that are remembered until the remote tier is back.
    pub journal: usize,
    /// Bytes in memory that stand in for the remote tier while it is away.
    pub fallback_bytes: u64,
    /// Whether invalidations of other processes arrive.
    pub bus_trusted: bool,
    /// The last fault, and how long ago it was, in milliseconds.
    pub last_fault: Option<(String, u64)>,
}

/// A report on the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// How well it is.
    pub status: HealthStatus,
    /// Why, where it is not healthy.
    pub why: Option<String>,
    /// Entries in the near tier.
    pub near_entries: u64,
    /// Bytes in the near tier.
    pub near_bytes: u64,
    /// The remote tier, if there is one.
    pub remote: Option<RemoteHealth>,
}

impl Health {
    /// Whether the service can use its cache: degraded is well enough.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.status != HealthStatus::Unhealthy
    }
}

/// Asks for a [`Health`]: `.await` pings the remote tier, [`probe`](Self::probe) writes and reads.
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct HealthCheck<'a> {
    cache: &'a Cache,
}

impl Cache {
    /// Reports on the cache. Never fails and takes no longer than the deadline of a remote read.
    pub fn health(&self) -> HealthCheck<'_> {
        HealthCheck { cache: self }
    }
}

impl<'a> HealthCheck<'a> {
    /// Also sets, gets, compares and deletes a value of its own in the remote tier, or in the near tier where there is
    /// no other.
    pub async fn probe(self) -> Health {
        let outcome = self.cache.probe().await;
        self.cache.report(outcome)
    }
}

impl<'a> IntoFuture for HealthCheck<'a> {
    type Output = Health;
    type IntoFuture = BoxFuture<'a, Health>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let outcome = self.cache.ping().await;
            self.cache.report(outcome)
        })
    }
}

impl Cache {
    async fn ping(&self) -> Result<()> {
        match &self.engine.remote {
            Some(remote) => self.bounded(remote.backend.ping()).await,
            None => Ok(()),
        }
    }

    async fn probe(&self) -> Result<()> {
        let token = Bytes::from(format!("{:032x}", fastrand::u128(..)));
        let key = Key::from_canonical(format!("{}%probe:{}", self.engine.prefix, fastrand::u64(..)));
        let store = self.engine.store();
        let options = SetOptions::new().ttl(Duration::from_secs(10));
        self.bounded(store.set(&key, token.clone(), options)).await?;
        let found = self.bounded(store.get(&key)).await?;
        self.bounded(store.delete(&key)).await?;
        if found.as_ref() == Some(&token) {
            return Ok(());
        }
        let message = "a value was read back as another one than was written";
        Err(Error::new(ErrorKind::Protocol, "probe", message).with_key(&key))
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.engine.within(self.engine.root.strategy.remote_deadline, call).await
    }

    fn report(&self, outcome: Result<()>) -> Health {
        let engine = &self.engine;
        let near = engine.near.stats();
        let status = match &outcome {
            Ok(()) => HealthStatus::Healthy,
            Err(error) if error.operation() == "probe" => HealthStatus::Unhealthy,
            Err(_) => HealthStatus::Degraded,
        };
        let now = engine.timer.now();
        let last_fault = engine
            .last_fault
            .lock()
            .as_ref()
            .map(|(at, error)| (error.to_string(), u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX)));
        Health {
            status,
            why: outcome.err().map(|error| error.to_string()),
            near_entries: near.entries,
            near_bytes: near.bytes,
            remote: engine.remote.as_ref().map(|remote| RemoteHealth {
                backend: remote.backend.name().to_owned(),
                reachable: status == HealthStatus::Healthy,
                breaker: engine
                    .fallback
                    .as_ref()
                    .map_or_else(String::new, |fallback| fallback.state().as_str().to_owned()),
                journal: engine.fallback.as_ref().map_or(0, |fallback| fallback.stats().journal),
                fallback_bytes: engine.secondary.as_ref().map_or(0, |secondary| secondary.bytes()),
                bus_trusted: engine.coherence.is_trusted(),
                last_fault,
            }),
        }
    }
}
