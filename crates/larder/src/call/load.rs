//! Reading with a loader.

use std::{
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use larder_codec::AnyCodec;
use larder_core::{Key, KeyBuf, Tag, Tick, ToKey};
use larder_memory::NearEntry;

use super::{Place, Slow, counted, erase, flight_id};
use crate::{
    LoadError, Loaded,
    engine::{Chain, LoadRequest, Meta, NearState, ReadOptions, Wait, Waited, provenance},
    loaded::Previous,
    outcome::Outcome,
    private::{Answer, Typed, count_hit, in_types, typed},
    stats::Event,
    value::ValueOps,
};

/// A read with a loader: options, then `.await` for `Result<Arc<V>, LoadError<E>>`.
///
/// On a miss the loader runs in a task of its own, one at a time for each key: dropping the future stalls nobody, and what
/// the loader returns is stored all the same. Callers that come meanwhile share its result. A fault of the remote tier is
/// a miss.
#[must_use = "a read does nothing until it is awaited"]
pub struct Load<'a, K, V, E, F> {
    place: Place<'a>,
    key: K,
    loader: F,
    ops: &'static ValueOps,
    options: ReadOptions,
    tags: Vec<Tag>,
    types: PhantomData<fn() -> (V, E)>,
}

impl<'a, K, V, E, F, Fut> Load<'a, K, V, E, F>
where
    K: ToKey,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
{
    pub(crate) fn new(place: Place<'a>, key: K, loader: F, ops: &'static ValueOps) -> Self {
        let options = ReadOptions { required: true, ..ReadOptions::default() };
        Self { place, key, loader, ops, options, tags: Vec::new(), types: PhantomData }
    }

    /// How long the value is fresh, in place of the strategy's TTL. Zero: it is not stored.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl = Some(ttl);
        self
    }

    /// Adds a tag, at most [`MAX_TAGS`](larder_core::MAX_TAGS).
    pub fn tag(mut self, tag: impl Into<Tag>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds tags.
    pub fn tags<T: Into<Tag>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Encodes the value for the remote tier in another way than the region does.
    pub fn codec(mut self, codec: impl Into<AnyCodec>) -> Self {
        self.options.codec = Some(codec.into());
        self
    }

    /// Neither reads nor fills the near tier.
    pub fn skip_near(mut self) -> Self {
        self.options.skip_near = true;
        self
    }

    /// Neither reads nor fills the remote tier.
    pub fn skip_remote(mut self) -> Self {
        self.options.skip_remote = true;
        self
    }

    /// Loads even if there is a fresh value, in a flight of its own.
    pub fn force_refresh(mut self) -> Self {
        self.options.force_refresh = true;
        self
    }

    /// A stale value will do: it is answered at once, however long the strategy would have this call wait for a fresh one,
    /// and a value that is at hand is answered in place of an error, a time-out or an overload.
    pub fn allow_stale(mut self) -> Self {
        self.options.allow_stale = true;
        self
    }

    /// How long the call waits at most, where that is less than the strategy's hard time-out. The load goes on, and its
    /// value is kept.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.options.deadline = Some(limit);
        self
    }

    /// Neither tier is filled with what this call loads. Such calls share their loads with their like only.
    pub fn no_store(mut self) -> Self {
        self.options.no_store = true;
        self
    }

    /// The value, or this one if the load fails, for whatever reason. It is not stored.
    pub async fn or(self, default: V) -> Arc<V> {
        self.await.unwrap_or_else(|_| Arc::new(default))
    }

    /// Asks for the provenance too: `.await` gives `Result<Outcome<Arc<V>>, LoadError<E>>`.
    pub fn outcome(self) -> LoadOutcome<'a, K, V, E, F> {
        LoadOutcome(self)
    }

    #[inline]
    fn near(&self) -> Near<V> {
        let Place { cache, region, .. } = self.place;
        let engine = &cache.engine;
        let mut buffer = KeyBuf::new();
        self.place.render(&self.key, &mut buffer);
        let key = &buffer;
        if self.reads_near() {
            let now = engine.timer.now();
            let found = engine.near.get(key);
            let state = engine.near_state(found.as_ref(), now);
            if state != NearState::Miss
                && let Some(NearEntry { value, fresh_until, meta: Meta { loaded_at, .. }, .. }) = found
                // Otherwise it is kept at hand while this call waits a moment for a fresh one.
                && !(state == NearState::Refresh && now >= fresh_until && self.waits_for_fresh())
            {
                let outcome = provenance(fresh_until, loaded_at, now);
                let found = match typed::<V>(value) {
                    Typed::Value(value) => Some(Some(value)),
                    Typed::Absent if self.options.required => None,
                    Typed::Absent => Some(None),
                    Typed::Failed(_) => None,
                    Typed::Other => {
                        region.counters.count(Event::WrongType);
                        crate::events::wrong_type(key.as_str(), std::any::type_name::<V>());
                        None
                    }
                };
                if let Some(found) = found {
                    count_hit(region, outcome.stale);
                    let refresh = (state == NearState::Refresh).then(|| (self.request(key.to_key()), loaded_at));
                    return Near::Found(outcome.map(|()| found), refresh);
                }
            }
        }
        Near::Miss(key.to_key())
    }

    #[inline]
    fn reads_near(&self) -> bool {
        let Self { place: Place { cache, region, .. }, options, .. } = self;
        let uses_near = !options.skip_near && region.strategy.tiers.uses_near();
        uses_near && !options.force_refresh && cache.engine.is_enabled()
    }

    fn waits_for_fresh(&self) -> bool {
        self.place.region.strategy.soft_timeout.is_some() && !self.options.allow_stale
    }

    fn request(&self, key: Key) -> LoadRequest {
        LoadRequest {
            engine: Arc::clone(&self.place.cache.engine),
            region: Arc::clone(self.place.region),
            key,
            ops: self.ops,
            id: flight_id::<V, E>(self.place.region, self.ops, &self.options),
            tags: LoadRequest::shared(self.tags.as_slice()),
            options: self.options.clone(),
        }
    }

    /// Answers from the near tier, or says what to wait for.
    fn start(self) -> Started<'a, V, E> {
        match self.near() {
            Near::Found(outcome, refresh) => Started::Ready(Ok(self.found(outcome, refresh))),
            Near::Miss(key) => Started::Slow(self.slow(key)),
        }
    }

    #[inline]
    fn found(self, outcome: Outcome<Option<Arc<V>>>, refresh: Option<(LoadRequest, Tick)>) -> Outcome<Option<Arc<V>>> {
        if let Some((request, loaded_at)) = refresh {
            request.refresh(erase(self.loader), loaded_at);
        }
        outcome
    }

    fn slow(self, key: Key) -> BoxFuture<'a, Answer<V, E>> {
        Box::pin(Slow::load(self.request(key), self.loader))
    }

    /// Waits for a load that is under way already, where there is nothing else to it: then this call needs nothing of its
    /// own for it, which counts where thousands wait.
    fn follow(&self, key: &Key) -> Option<Wait> {
        let Self { place: Place { cache, region, .. }, options, .. } = self;
        let (engine, strategy) = (&cache.engine, &region.strategy);
        if !self.reads_near() || options.serves_what_is_at_hand(strategy) {
            return None;
        }
        // A loader that comes back to its own key has to be told so.
        if !Chain::current().is_empty() {
            return None;
        }
        // Taken before the flight is joined: what was invalidated until now must not be what it brings.
        let came = engine.tags.epoch();
        let follower = engine.flights.follow(key, flight_id::<V, E>(region, self.ops, options))?;
        Some(Wait::new(follower, options.until(strategy, engine.timer.as_ref()), came))
    }

    /// What the flight that was followed has brought; `None`: this call has to see to it by itself.
    fn followed(&self, waited: Waited) -> Option<Answer<V, E>> {
        let Place { cache, region, .. } = self.place;
        let result = waited.for_follower(&cache.engine, region)?;
        Some(counted(region, in_types(result)))
    }
}

/// What the near tier says: an answer, with a refresh to start where one is due, or nothing.
enum Near<V> {
    Found(Outcome<Option<Arc<V>>>, Option<(LoadRequest, Tick)>),
    Miss(Key),
}

enum Started<'a, V, E> {
    Ready(Answer<V, E>),
    Slow(BoxFuture<'a, Answer<V, E>>),
}

/// An optional value that must be there: the loader of a [`Load`] always returns one.
fn present<V, E>(answer: Answer<V, E>) -> Result<Outcome<Arc<V>>, LoadError<E>> {
    answer?.transpose().ok_or_else(|| LoadError::Panicked("the key holds the absence of a value".into()))
}

impl<'a, K, V, E, F, Fut> IntoFuture for Load<'a, K, V, E, F>
where
    K: ToKey,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
{
    type Output = Result<Arc<V>, LoadError<E>>;
    type IntoFuture = LoadFuture<'a, K, V, E, F>;

    #[inline]
    fn into_future(self) -> Self::IntoFuture {
        LoadFuture { state: State::Start(self) }
    }
}

/// The future of a [`Load`].
#[must_use = "futures do nothing until they are awaited"]
pub struct LoadFuture<'a, K, V, E, F> {
    state: State<'a, K, V, E, F>,
}

enum State<'a, K, V, E, F> {
    Start(Load<'a, K, V, E, F>),
    Following(Load<'a, K, V, E, F>, Wait),
    Slow(BoxFuture<'a, Answer<V, E>>),
    Done,
}

impl<K, V, E, F> Unpin for LoadFuture<'_, K, V, E, F> {}

impl<K, V, E, F, Fut> Future for LoadFuture<'_, K, V, E, F>
where
    K: ToKey,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
{
    type Output = Result<Arc<V>, LoadError<E>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let near = if let State::Start(load) = &self.state { Some(load.near()) } else { None };
        if let Some(Near::Found(outcome, None)) = near {
            // A hit moves nothing of the call.
            self.state = State::Done;
            return Poll::Ready(present(Ok(outcome)).map(|outcome| outcome.value));
        }
        let followed = match (std::mem::replace(&mut self.state, State::Done), near) {
            (State::Start(load), Some(Near::Found(outcome, refresh))) => {
                let outcome = load.found(outcome, refresh);
                return Poll::Ready(present(Ok(outcome)).map(|outcome| outcome.value));
            }
            (State::Start(load), Some(Near::Miss(key))) => match load.follow(&key) {
                Some(wait) => Ok((load, wait)),
                None => Err(load.slow(key)),
            },
            (State::Following(load, wait), _) => Ok((load, wait)),
            (State::Slow(slow), _) => Err(slow),
            (State::Start(_) | State::Done, _) => panic!("a load was polled after it had ended"),
        };
        let mut slow = match followed {
            Err(slow) => slow,
            Ok((mut load, mut wait)) => {
                let Place { cache, .. } = load.place;
                let Poll::Ready(waited) = wait.poll(&cache.engine, load.options.required, context) else {
                    self.state = State::Following(load, wait);
                    return Poll::Pending;
                };
                if let Some(answer) = load.followed(waited) {
                    return Poll::Ready(present(answer).map(|outcome| outcome.value));
                }
                // It has waited for a part of its time.
                let now = cache.engine.timer.now_precise();
                load.options.deadline = wait.deadline().map(|deadline| deadline.since(now)).or(load.options.deadline);
                let key = load.place.key(&load.key);
                load.slow(key)
            }
        };
        match slow.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(present(answer).map(|outcome| outcome.value)),
            Poll::Pending => {
                self.state = State::Slow(slow);
                Poll::Pending
            }
        }
    }
}

/// A [`Load`] that also tells where the value came from.
#[must_use = "a read does nothing until it is awaited"]
pub struct LoadOutcome<'a, K, V, E, F>(Load<'a, K, V, E, F>);

impl<'a, K, V, E, F, Fut> IntoFuture for LoadOutcome<'a, K, V, E, F>
where
    K: ToKey,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
{
    type Output = Result<Outcome<Arc<V>>, LoadError<E>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        match self.0.start() {
            Started::Ready(answer) => Box::pin(std::future::ready(present(answer))),
            Started::Slow(slow) => Box::pin(async move { present(slow.await) }),
        }
    }
}

/// A load whose value may be absent.
pub(crate) async fn load_optional<K, V, E, F, Fut>(load: Load<'_, K, V, E, F>) -> Answer<V, E>
where
    K: ToKey,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
{
    let mut load = load;
    load.options.required = false;
    match load.start() {
        Started::Ready(answer) => answer,
        Started::Slow(slow) => slow.await,
    }
}

impl<K, V, E, F> fmt::Debug for Load<'_, K, V, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("region", &self.place.region).finish_non_exhaustive()
    }
}

impl<K, V, E, F> fmt::Debug for LoadOutcome<'_, K, V, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K, V, E, F> fmt::Debug for LoadFuture<'_, K, V, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadFuture").finish_non_exhaustive()
    }
}
