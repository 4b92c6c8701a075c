//! Calls as the user writes them: options first, `.await` last.
//!
//! A read whose answer lies in the near tier is answered in the first poll, without boxing; everything else is boxed.

mod get;
mod load;
mod many;
mod set;
mod sync;
mod update;

use std::{any::TypeId, future::Future, sync::Arc};

use larder_core::{Key, KeyBuf, ToKey};
use larder_flight::FlightId;
use larder_memory::AnyValue;

pub use self::{
    get::{Get, GetFuture, TryGet},
    load::{Load, LoadFuture, LoadOutcome},
    many::{BatchFuture, BatchOf, LoadMany, ManyAnswer},
    set::{Set, TrySet},
    update::{Update, Updated},
};
pub(crate) use self::{
    load::load_optional,
    many::{erase as erase_batch, load_many, plain as batch},
    sync::load_sync,
};
use crate::{
    Cache, Loaded,
    engine::{LoadRequest, LoadedAny, Loader, ReadOptions, RegionState},
    loaded::{Previous, PreviousAny},
    outcome::Source,
    private::{Answer, in_types},
    stats::Event,
    value::{AnyError, ValueOps},
};

/// Where a call goes: a cache, and one of its regions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) region: &'a Arc<RegionState>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(cache: &'a Cache, region: &'a Arc<RegionState>) -> Self {
        Self { cache, region }
    }

    /// The canonical key, on the stack. It is built where the caller wants it, since the buffer is too large to be moved
    /// for nothing.
    #[inline]
    pub(crate) fn render<K: ToKey + ?Sized>(&self, key: &K, buffer: &mut KeyBuf) {
        buffer.start(&self.region.prefix);
        key.write_key(buffer);
        buffer.finish();
    }

    pub(crate) fn key<K: ToKey + ?Sized>(&self, key: &K) -> Key {
        let mut buffer = KeyBuf::new();
        self.render(key, &mut buffer);
        buffer.to_key()
    }
}

/// A typed loader without its types.
pub(crate) fn erase<'a, V, E, F, Fut>(loader: F) -> Loader<'a>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'a,
    Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'a,
{
    Box::new(move |previous| {
        Box::pin(async move {
            match loader(previous.and_then(PreviousAny::typed)).await {
                Ok(loaded) => Ok(erase_loaded(loaded)),
                Err(error) => Err(Arc::new(error) as AnyError),
            }
        })
    })
}

pub(crate) fn erase_loaded<V: Send + Sync + 'static>(loaded: Loaded<V>) -> LoadedAny {
    LoadedAny {
        value: loaded.value.map(|value| value as AnyValue),
        ttl: loaded.ttl,
        tags: loaded.tags,
        store: loaded.store,
    }
}

/// The slow path in the caller's types.
pub(crate) struct Slow;

impl Slow {
    /// What is given is not moved once more, as an async function would, and so takes its room once.
    pub(crate) fn load<V, E, F, Fut>(request: LoadRequest, loader: F) -> impl Future<Output = Answer<V, E>> + Send
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let mut loader = Some(loader);
        let mut take = move || loader.take().expect("a call leads once");
        async move {
            if !request.engine.is_enabled() {
                // Boxed, so that nobody waits in the room of a loader that seldom runs here.
                return Box::pin(Self::uncached(take())).await;
            }
            let answer = in_types(request.load(&mut || erase(take())).await);
            counted(&request.region, answer)
        }
    }

    pub(crate) async fn load_inline<'a, V, E, F, Fut>(request: LoadRequest, loader: F) -> Answer<V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'a,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'a,
    {
        if !request.engine.is_enabled() {
            return Self::uncached(loader).await;
        }
        let region = Arc::clone(&request.region);
        counted(&region, in_types(request.load_inline(erase(loader)).await))
    }

    async fn uncached<V, E, F, Fut>(loader: F) -> Answer<V, E>
    where
        F: FnOnce(Option<Previous<V>>) -> Fut,
        Fut: Future<Output = Result<Loaded<V>, E>>,
    {
        let loaded = loader(None).await.map_err(|error| crate::LoadError::Loader(Arc::new(error)))?;
        Ok(crate::Outcome::loaded(loaded.value))
    }
}

/// Counts a caller once, by where its answer came from.
pub(crate) fn counted<V, E>(region: &RegionState, answer: Answer<V, E>) -> Answer<V, E> {
    let event = match &answer {
        Ok(outcome) => match outcome.source {
            Source::Near => Event::NearHit,
            Source::Remote => Event::RemoteHit,
            Source::Loaded => Event::Miss,
        },
        Err(_) => Event::Miss,
    };
    region.counters.count(event);
    if answer.as_ref().is_ok_and(|outcome| outcome.stale) {
        region.counters.count(Event::StaleHit);
    }
    answer
}

/// A load with a loader that borrows.
pub(crate) async fn inline<'a, V, E, F, Fut>(place: Place<'_>, key: &impl ToKey, loader: F) -> Answer<V, E>
where
    V: crate::Cacheable,
    E: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'a,
    Fut: Future<Output = Result<V, E>> + Send + 'a,
{
    let request = place.request::<V, E>(key);
    let engine = Arc::clone(&request.engine);
    if engine.is_enabled() && request.reads_near() {
        let now = engine.timer.now();
        // A loader that borrows cannot refresh in the background: it runs here, once the value is stale.
        if let Some(entry) = engine.near_read(request.key.as_str(), now).living()
            && request.accepts(&entry.value)
            && (now < entry.fresh_until || now < entry.refresh_at)
        {
            let outcome = crate::engine::answer(&entry, now);
            return counted(&request.region, in_types(crate::engine::found(&entry.value, outcome)));
        }
    }
    let load = move |_| async move { loader().await.map(Loaded::new) };
    Slow::load_inline(request, load).await
}

impl Place<'_> {
    /// A plain request for a key that must have a value, of both tiers.
    pub(crate) fn request<V: crate::Cacheable, E: 'static>(&self, key: &impl ToKey) -> LoadRequest {
        let ops = ValueOps::of::<V>();
        let options = ReadOptions { required: true, ..ReadOptions::default() };
        LoadRequest {
            engine: Arc::clone(&self.cache.engine),
            region: Arc::clone(self.region),
            key: self.key(key),
            ops,
            id: flight_id::<V, E>(self.region, ops, &options),
            tags: None,
            options,
        }
    }
}

/// The bit above those of the tiers in a flight's options: reads that want to be told of faults.
pub(crate) const TELLS: u32 = 4;

/// The bits of a flight's options that say which tiers it reads and fills.
pub(crate) const TIERS: u8 = 0b1111;

/// Who shares a flight: calls of the same types that use and fill the same tiers. With tags and TTL it is as with a hit:
/// the entry has those of the call that loaded it.
pub(crate) fn flight_id<V: 'static, E: 'static>(
    region: &RegionState,
    ops: &ValueOps,
    options: &ReadOptions,
) -> FlightId {
    let tiers = region.strategy.tiers;
    let skips_near = options.skip_near || !tiers.uses_near();
    let skips_remote = options.skip_remote || !tiers.uses_remote() || ops.serde.is_none();
    let bits = [skips_near, skips_remote, options.stores_nothing(), options.on_thread];
    let options = bits.into_iter().fold(0, |all, bit| all << 1 | u8::from(bit));
    FlightId { value: TypeId::of::<V>(), error: TypeId::of::<E>(), options }
}
