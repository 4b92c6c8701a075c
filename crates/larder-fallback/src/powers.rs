//! The primary's powers, and what becomes of them while it is away.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use larder_core::{
    Atomic, Bytes, Counter, Error, Expected, Inspect, Key, Lock, Pattern, Result, SamplePage, Scan, ServerFigures,
    ServerSettings, SetItem, SetOptions, SetOutcome,
};

use crate::{
    Deferred, FallbackBackend,
    call::{Attempt, fault_of},
    local::{away, away_error},
    shared::Shared,
    stats::count,
    terms::Remember,
};

impl Scan for FallbackBackend {
    /// The primary's keys without those whose removal is remembered. An error while it is away, also in the middle.
    fn scan<'a>(&'a self, pattern: &'a Pattern, page: usize) -> BoxStream<'a, Result<Vec<Key>>> {
        let route = self.shared.route(std::iter::empty());
        let (Some(ticket), Some(scan)) = (route.ticket, self.shared.primary.as_scan()) else {
            return stream::iter([Err(away("scan"))]).boxed();
        };
        let pages = scan.scan(pattern, page).map(move |page| {
            if let Some(error) = fault_of(&page) {
                self.shared.failed(ticket, &error, 1);
            }
            page.and_then(|keys| self.shared.here(keys).ok_or_else(|| away("scan")))
        });
        pages.boxed()
    }
}

impl Shared {
    /// The key in the secondary, if the key is away and the secondary may be asked in its stead.
    fn stand_in(&self, operation: &'static str, key: &Key, error: Option<Error>) -> Result<Key> {
        let (away, epoch) = self.locate(std::iter::once(key));
        match error {
            // What the primary did is unknown, so that a second answer could be one too many.
            Some(error) => Err(error),
            None if away.contains(&true) && self.settings.local_counters => Ok(self.local_key(epoch, key)),
            None => Err(away_error(operation, key)),
        }
    }

    fn local_atomic(&self, operation: &'static str) -> Result<&dyn Atomic> {
        self.secondary.as_atomic().ok_or_else(|| away(operation))
    }

    fn local_counter(&self, operation: &'static str) -> Result<&dyn Counter> {
        self.secondary.as_counter().ok_or_else(|| away(operation))
    }

    fn local_lock(&self, operation: &'static str) -> Result<&dyn Lock> {
        self.secondary.as_lock().ok_or_else(|| away(operation))
    }
}

/// Fills go on in the secondary, without `local_counters` too: a token that was placed in one backend never matches in the
/// other, so that a fill across the change stores nothing. What only takes the place of nothing asks for no removal when
/// its outcome is unknown.
#[async_trait]
impl Atomic for FallbackBackend {
    async fn get_or_set(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<Option<Bytes>> {
        let power = self.shared.primary.as_atomic().ok_or_else(|| Error::unsupported("get_or_set", "primary"))?;
        let call = power.get_or_set(key, value.clone(), ttl);
        match self.shared.one("get_or_set", key, Remember::Never, call).await {
            Attempt::Answer(answer) => answer,
            Attempt::Away { error, .. } => {
                let (located, epoch) = self.shared.locate(std::iter::once(key));
                if !located.contains(&true) {
                    return Err(error.unwrap_or_else(|| away_error("get_or_set", key)));
                }
                let local = self.shared.local_atomic("get_or_set")?;
                if error.is_some() {
                    count(&self.shared.counters.hidden);
                }
                let found = local.get_or_set(&self.shared.local_key(epoch, key), value, self.shared.bounded(ttl)).await;
                if !matches!(found, Ok(Some(_))) {
                    self.shared.not_kept(key);
                }
                found
            }
        }
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &Expected,
        value: Bytes,
        options: SetOptions,
    ) -> Result<SetOutcome> {
        let power = self.shared.primary.as_atomic().ok_or_else(|| Error::unsupported("compare_and_set", "primary"))?;
        let call = power.compare_and_set(key, expected, value.clone(), options);
        match self.shared.one("compare_and_set", key, Remember::WhenAsked, call).await {
            Attempt::Answer(answer) => answer,
            Attempt::Away { error: Some(error), .. } => Err(error),
            Attempt::Away { .. } => {
                let (located, epoch) = self.shared.locate(std::iter::once(key));
                if !located.contains(&true) {
                    return Ok(SetOutcome::Rejected);
                }
                let item = SetItem::new(key.clone(), value, options);
                self.shared.compare_and_store_local(&item, expected, epoch).await
            }
        }
    }

    /// While the primary is away and the secondary does not hold what is expected, the key's removal is remembered: the
    /// primary may hold it.
    async fn compare_and_delete(&self, key: &Key, expected: &Expected) -> Result<bool> {
        let power =
            self.shared.primary.as_atomic().ok_or_else(|| Error::unsupported("compare_and_delete", "primary"))?;
        let call = power.compare_and_delete(key, expected);
        let lost = match self.shared.one("compare_and_delete", key, Remember::WhenAsked, call).await {
            Attempt::Answer(answer) => return answer,
            Attempt::Away { error: Some(_), lost } => lost,
            Attempt::Away { error: None, .. } => {
                let (located, epoch) = self.shared.locate(std::iter::once(key));
                let local = self.shared.local_key(epoch, key);
                if located.contains(&true)
                    && let Some(atomic) = self.shared.secondary.as_atomic()
                    && atomic.compare_and_delete(&local, expected).await?
                {
                    self.shared.not_kept(key);
                    return Ok(true);
                }
                !self.shared.remember(key)
            }
        };
        self.shared.saved().await;
        Err(Deferred::error("compare_and_delete", key, lost))
    }
}

impl Shared {
    async fn compare_and_store_local(
        self: &Arc<Self>,
        item: &SetItem,
        expected: &Expected,
        epoch: u64,
    ) -> Result<SetOutcome> {
        let local = self.local_atomic("compare_and_set")?;
        let life = match item.options.ttl {
            larder_core::Ttl::For(life) => self.bounded(life),
            _ => self.settings.outage_ttl,
        };
        let key = self.local_key(epoch, &item.key);
        let take = local.compare_and_set(&key, expected, item.value.clone(), item.options.ttl(life));
        self.keeping(item, epoch, take).await
    }
}

#[async_trait]
impl Counter for FallbackBackend {
    async fn increment(&self, key: &Key, amount: i64, ttl: Option<Duration>) -> Result<i64> {
        let power = self.shared.primary.as_counter().ok_or_else(|| Error::unsupported("increment", "primary"))?;
        let call = power.increment(key, amount, ttl);
        match self.shared.one("increment", key, Remember::Never, call).await {
            Attempt::Answer(answer) => answer,
            Attempt::Away { error, .. } => {
                let local = self.shared.stand_in("increment", key, error)?;
                let ttl = ttl.map_or(self.shared.settings.outage_ttl, |ttl| self.shared.bounded(ttl));
                self.shared.local_counter("increment")?.increment(&local, amount, Some(ttl)).await
            }
        }
    }

    async fn count(&self, key: &Key) -> Result<Option<i64>> {
        let power = self.shared.primary.as_counter().ok_or_else(|| Error::unsupported("count", "primary"))?;
        match self.shared.one("count", key, Remember::Never, power.count(key)).await {
            Attempt::Answer(answer) => answer,
            Attempt::Away { error, .. } => {
                let local = self.shared.stand_in("count", key, error)?;
                self.shared.local_counter("count")?.count(&local).await
            }
        }
    }
}

#[async_trait]
impl Lock for FallbackBackend {
    async fn acquire(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        let power = self.shared.primary.as_lock().ok_or_else(|| Error::unsupported("acquire", "primary"))?;
        match self.shared.one("acquire", key, Remember::Never, power.acquire(key, token, lease)).await {
            Attempt::Answer(answer) => answer,
            Attempt::Away { error, .. } => {
                let local = self.shared.stand_in("acquire", key, error)?;
                self.shared.local_lock("acquire")?.acquire(&local, token, lease).await
            }
        }
    }

    async fn extend(&self, key: &Key, token: &str, lease: Duration) -> Result<bool> {
        let power = self.shared.primary.as_lock().ok_or_else(|| Error::unsupported("extend", "primary"))?;
        match self.shared.one("extend", key, Remember::Never, power.extend(key, token, lease)).await {
            Attempt::Answer(answer) => answer,
            Attempt::Away { error, .. } => {
                let local = self.shared.stand_in("extend", key, error)?;
                self.shared.local_lock("extend")?.extend(&local, token, lease).await
            }
        }
    }

    async fn release(&self, key: &Key, token: &str) -> Result<bool> {
        let power = self.shared.primary.as_lock().ok_or_else(|| Error::unsupported("release", "primary"))?;
        match self.shared.one("release", key, Remember::Never, power.release(key, token)).await {
            Attempt::Answer(answer) => answer,
            Attempt::Away { error, .. } => {
                let local = self.shared.stand_in("release", key, error)?;
                self.shared.local_lock("release")?.release(&local, token).await
            }
        }
    }
}

#[async_trait]
impl Inspect for FallbackBackend {
    async fn server_figures(&self) -> Result<ServerFigures> {
        let shared: &Arc<Shared> = &self.shared;
        let power = shared.primary.as_inspect().ok_or_else(|| Error::unsupported("server_figures", "primary"))?;
        shared.about("server_figures", false, power.server_figures()).await
    }

    async fn settings(&self) -> Result<ServerSettings> {
        let shared: &Arc<Shared> = &self.shared;
        let power = shared.primary.as_inspect().ok_or_else(|| Error::unsupported("settings", "primary"))?;
        shared.about("settings", false, power.settings()).await
    }

    /// The primary's. An error while it is away.
    fn sample(&self, keys: usize) -> BoxStream<'_, Result<SamplePage>> {
        let route = self.shared.route(std::iter::empty());
        let (Some(ticket), Some(power)) = (route.ticket, self.shared.primary.as_inspect()) else {
            return stream::iter([Err(away("sample"))]).boxed();
        };
        let pages = power.sample(keys).inspect(move |page| {
            if let Some(error) = fault_of(page) {
                self.shared.failed(ticket, &error, 1);
            }
        });
        pages.boxed()
    }
}
