//! Reading without a loader.

use std::{
    fmt,
    future::{Future, IntoFuture, ready},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use larder_core::{Key, KeyBuf, Result, ToKey};
use larder_memory::NearEntry;

use super::{Place, TELLS, flight_id};
use crate::{
    Cache,
    engine::{LoadRequest, Meta, NearState, NoLoader, ReadOptions, provenance},
    outcome::{Outcome, Source},
    private::{Typed, count_hit, typed},
    stats::Event,
    value::ValueOps,
};

/// A read: options, then `.await` for `Option<Arc<V>>`. A fault of the remote tier is a miss; [`Cache::try_get`] tells it.
///
/// Dropping the future abandons the read and nothing else.
#[must_use = "a read does nothing until it is awaited"]
pub struct Get<'a, K, V> {
    place: Place<'a>,
    key: K,
    ops: &'static ValueOps,
    options: ReadOptions,
    value: PhantomData<fn() -> V>,
}

impl<'a, K: ToKey, V: Send + Sync + 'static> Get<'a, K, V> {
    pub(crate) fn new(place: Place<'a>, key: K, ops: &'static ValueOps) -> Self {
        Self { place, key, ops, options: ReadOptions::default(), value: PhantomData }
    }

    /// Neither reads nor fills the near tier.
    pub fn skip_near(mut self) -> Self {
        self.options.skip_near = true;
        self
    }

    /// Does not ask the remote tier.
    pub fn skip_remote(mut self) -> Self {
        self.options.skip_remote = true;
        self
    }

    /// How long the read waits for the remote tier at most, where that is less than the strategy's `remote_deadline`.
    pub fn deadline(mut self, limit: std::time::Duration) -> Self {
        self.options.deadline = Some(limit);
        self
    }

    /// The value, or this one if there is none.
    pub async fn or(self, default: V) -> Arc<V> {
        self.await.unwrap_or_else(|| Arc::new(default))
    }

    /// The value with its provenance.
    pub async fn outcome(self) -> Option<Outcome<Arc<V>>> {
        match self.near() {
            Near::Found(outcome) => outcome,
            Near::Ask(key) => ask_or_miss::<V>(&self.request(key)).await,
        }
    }

    /// The near tier's answer, or what is needed to ask the remote tier.
    #[inline]
    fn near(&self) -> Near<V> {
        let Place { cache, region, .. } = self.place;
        let engine = &cache.engine;
        if !engine.is_enabled() {
            return Near::Found(None);
        }
        let mut buffer = KeyBuf::new();
        self.place.render(&self.key, &mut buffer);
        let key = &buffer;
        if !self.options.skip_near && region.strategy.tiers.uses_near() {
            let now = engine.timer.now();
            let found = engine.near.get(key);
            if engine.near_state(found.as_ref(), now) != NearState::Miss
                && let Some(NearEntry { value, fresh_until, meta: Meta { loaded_at, .. }, .. }) = found
            {
                let outcome = provenance(fresh_until, loaded_at, now);
                match typed::<V>(value) {
                    Typed::Value(value) => {
                        count_hit(region, outcome.stale);
                        return Near::Found(Some(outcome.map(|()| value)));
                    }
                    Typed::Absent | Typed::Failed(_) => {
                        count_hit(region, false);
                        return Near::Found(None);
                    }
                    Typed::Other => {
                        region.counters.count(Event::WrongType);
                        crate::events::wrong_type(key.as_str(), std::any::type_name::<V>());
                        // Another type stands there; nothing that is read now may replace it.
                        region.counters.count(Event::Miss);
                        return Near::Found(None);
                    }
                }
            }
        }
        Near::Ask(key.to_key())
    }

    fn request(&self, key: Key) -> LoadRequest {
        let mut id = flight_id::<V, NoLoader>(self.place.region, self.ops, &self.options);
        // Those who want to be told of faults ask in another way.
        id.options |= u8::from(self.options.tells) << TELLS;
        LoadRequest {
            engine: Arc::clone(&self.place.cache.engine),
            region: Arc::clone(self.place.region),
            key,
            ops: self.ops,
            id,
            tags: None,
            options: self.options.clone(),
        }
    }
}

enum Near<V> {
    Found(Option<Outcome<Arc<V>>>),
    /// The remote tier is to be asked for this key.
    Ask(Key),
}

/// Asks the remote tier.
async fn ask<V: Send + Sync + 'static>(request: &LoadRequest) -> Result<Option<Outcome<Arc<V>>>> {
    let counters = &request.region.counters;
    let found = request.read().await.inspect_err(|_| counters.count(Event::Miss))?;
    let outcome = found.and_then(|Outcome { value, source, age, stale }| match typed::<V>(value) {
        Typed::Value(value) => Some(Outcome { value, source, age, stale }),
        _ => None,
    });
    let remote = outcome.as_ref().is_some_and(|outcome| outcome.source != Source::Loaded);
    counters.count(if remote { Event::RemoteHit } else { Event::Miss });
    if outcome.as_ref().is_some_and(|outcome| outcome.stale) {
        counters.count(Event::StaleHit);
    }
    Ok(outcome)
}

/// The same; a fault is a miss.
async fn ask_or_miss<V: Send + Sync + 'static>(request: &LoadRequest) -> Option<Outcome<Arc<V>>> {
    ask(request).await.unwrap_or_else(|error| {
        crate::events::degraded("get", &error);
        None
    })
}

impl<'a, K: ToKey, V: Send + Sync + 'static> IntoFuture for Get<'a, K, V> {
    type Output = Option<Arc<V>>;
    type IntoFuture = GetFuture<'a, K, V>;

    #[inline]
    fn into_future(self) -> Self::IntoFuture {
        GetFuture { state: State::Start(self) }
    }
}

/// The future of a [`Get`].
#[must_use = "futures do nothing until they are awaited"]
pub struct GetFuture<'a, K, V> {
    state: State<'a, K, V>,
}

enum State<'a, K, V> {
    Start(Get<'a, K, V>),
    Slow(BoxFuture<'a, Option<Arc<V>>>),
}

impl<K, V> Unpin for GetFuture<'_, K, V> {}

impl<K: ToKey, V: Send + Sync + 'static> Future for GetFuture<'_, K, V> {
    type Output = Option<Arc<V>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Start(get) = &self.state {
            match get.near() {
                Near::Found(found) => return Poll::Ready(found.map(|outcome| outcome.value)),
                Near::Ask(key) => {
                    let request = get.request(key);
                    self.state =
                        State::Slow(Box::pin(
                            async move { ask_or_miss::<V>(&request).await.map(|outcome| outcome.value) },
                        ));
                }
            }
        }
        match &mut self.state {
            State::Slow(slow) => slow.as_mut().poll(context),
            State::Start(_) => unreachable!("the start was left above"),
        }
    }
}

/// [`Get`] that tells a fault of the remote tier: `.await` for `Result<Option<Arc<V>>>`.
#[must_use = "a read does nothing until it is awaited"]
pub struct TryGet<'a, K, V>(pub(crate) Get<'a, K, V>);

impl<'a, K: ToKey, V: Send + Sync + 'static> TryGet<'a, K, V> {
    /// Neither reads nor fills the near tier.
    pub fn skip_near(self) -> Self {
        Self(self.0.skip_near())
    }
}

impl<'a, K: ToKey + Send + 'a, V: Send + Sync + 'static> IntoFuture for TryGet<'a, K, V> {
    type Output = Result<Option<Arc<V>>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(mut self) -> Self::IntoFuture {
        self.0.options.tells = true;
        let key = match self.0.near() {
            Near::Found(found) => return Box::pin(ready(Ok(found.map(|outcome| outcome.value)))),
            Near::Ask(key) => key,
        };
        let request = self.0.request(key);
        Box::pin(async move {
            match ask::<V>(&request).await?.map(|outcome| outcome.value) {
                // Only the fallback was asked: whether there is a value is unknown.
                None if request.engine.is_away() => Err(request.engine.away("get")),
                found => Ok(found),
            }
        })
    }
}

impl<K, V> fmt::Debug for Get<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("region", &self.place.region).finish_non_exhaustive()
    }
}

impl<K, V> fmt::Debug for TryGet<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K, V> fmt::Debug for GetFuture<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetFuture").finish_non_exhaustive()
    }
}

impl Cache {
    /// Reads a value; `.await` gives `Option<Arc<V>>`.
    pub fn get<K: ToKey, V: crate::Cacheable>(&self, key: K) -> Get<'_, K, V> {
        Get::new(self.place(), key, ValueOps::of::<V>())
    }

    /// Reads a value; `.await` gives `Result<Option<Arc<V>>>`.
    ///
    /// # Errors
    /// Those of the remote tier: [`ErrorKind`](larder_core::ErrorKind) tells them apart.
    pub fn try_get<K: ToKey, V: crate::Cacheable>(&self, key: K) -> TryGet<'_, K, V> {
        TryGet(self.get(key))
    }
}
