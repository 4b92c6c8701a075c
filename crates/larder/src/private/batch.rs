//! A cached function's load of many keys.

use std::{future::Future, hash::Hash, sync::Arc};

use larder_core::{Key, KeyBuf};

use super::{Answer, Miss, Site, site::on};
use crate::{
    Cache, Cacheable,
    call::{BatchOf, erase_batch, load_many},
    value::ValueOps,
};

/// A cached function's load of many keys; the keys are rendered before this returns.
#[derive(Debug)]
#[must_use = "nothing is loaded until it is awaited"]
pub struct Batch<'k, K> {
    keys: &'k [K],
    rendered: Vec<Key>,
    miss: Miss,
}

impl<'k, K: Clone + Eq + Hash + Send + Sync + 'static> Batch<'k, K> {
    /// A call with these keys; `render` appends one's part of the key.
    pub fn new(
        site: &'static Site,
        cache: Option<&Cache>,
        keys: &'k [K],
        mut render: impl FnMut(&K, &mut KeyBuf),
    ) -> Self {
        on(cache, |cache| {
            let region = site.state(cache);
            let one = |key: &K| {
                let mut buffer = KeyBuf::new();
                buffer.start(&region.prefix);
                render(key, &mut buffer);
                buffer.to_key()
            };
            let rendered = keys.iter().map(one).collect();
            let miss = Miss {
                cache: cache.clone(),
                region: Arc::clone(region),
                key: Key::from_canonical(region.prefix.as_str()),
                loaded_at: larder_core::Tick::ZERO,
                patient: false,
                required: false,
            };
            Self { keys, rendered, miss }
        })
    }

    /// As [`Miss::patient`].
    pub fn patient(mut self, patient: bool) -> Self {
        self.miss.patient = patient;
        self
    }

    /// Loads what is missing; both tiers.
    pub async fn load<V, E, F, Fut>(self, loader: F) -> Vec<Answer<V, E>>
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
    {
        let request = self.miss.request::<V, E>(ValueOps::of::<V>(), Vec::new());
        load_many(request, self.rendered, erase_batch(self.keys, loader)).await
    }

    /// Loads what is missing; near tier only.
    pub async fn load_near<V, E, F, Fut>(self, loader: F) -> Vec<Answer<V, E>>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<BatchOf<K, V, E>, E>> + Send + 'static,
    {
        let request = self.miss.request::<V, E>(ValueOps::near::<V>(), Vec::new());
        load_many(request, self.rendered, erase_batch(self.keys, loader)).await
    }
}
