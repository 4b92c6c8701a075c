//! A cached function's load.

use std::{future::Future, sync::Arc};

use larder_core::{Key, Tag};

use super::Answer;
use crate::{
    Cache, Cacheable, Loaded,
    call::{Slow, erase, flight_id},
    engine::{LoadRequest, ReadOptions, RegionState},
    value::ValueOps,
};

/// A call that the near tier has no fresh answer for.
#[derive(Debug)]
pub struct Miss {
    pub(super) cache: Cache,
    pub(super) region: Arc<RegionState>,
    pub(super) key: Key,
    /// When the value was loaded that is to be refreshed.
    pub(super) loaded_at: larder_core::Tick,
    pub(super) patient: bool,
    /// The function always returns a value: that there is none is no answer.
    pub(super) required: bool,
}

impl Miss {
    pub(super) fn request<V: 'static, E: 'static>(&self, ops: &'static ValueOps, tags: Vec<Tag>) -> LoadRequest {
        let options = ReadOptions { patient: self.patient, required: self.required, ..ReadOptions::default() };
        self.request_with::<V, E>(ops, tags, options)
    }

    fn request_with<V: 'static, E: 'static>(
        &self,
        ops: &'static ValueOps,
        tags: Vec<Tag>,
        options: ReadOptions,
    ) -> LoadRequest {
        LoadRequest {
            engine: Arc::clone(&self.cache.engine),
            region: Arc::clone(&self.region),
            key: self.key.clone(),
            ops,
            id: flight_id::<V, E>(&self.region, ops, &options),
            tags: LoadRequest::shared(tags),
            options,
        }
    }

    /// Whether to wait for the load for as long as it takes: its callers could not be told of a time-out.
    #[must_use]
    pub fn patient(mut self, patient: bool) -> Self {
        self.patient = patient;
        self
    }

    /// Loads in a task of its own; both tiers.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let request = self.request::<V, E>(ValueOps::of::<V>(), tags);
        Slow::load(request, |_| loader()).await
    }

    /// Loads in a task of its own; near tier only.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load_near<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let request = self.request::<V, E>(ValueOps::near::<V>(), tags);
        Slow::load(request, |_| loader()).await
    }

    /// Refreshes in the background; both tiers.
    pub fn refresh<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F)
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        self.request::<V, E>(ValueOps::of::<V>(), tags).refresh(erase(|_| loader()), self.loaded_at);
    }

    /// Refreshes in the background; near tier only.
    pub fn refresh_near<V, E, F, Fut>(self, tags: Vec<Tag>, loader: F)
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        self.request::<V, E>(ValueOps::near::<V>(), tags).refresh(erase(|_| loader()), self.loaded_at);
    }

    /// Loads in the caller's task, with a loader that may borrow; both tiers.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load_inline<'a, V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Cacheable,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'a,
    {
        let request = self.request::<V, E>(ValueOps::of::<V>(), tags);
        Slow::load_inline(request, |_| loader()).await
    }

    /// Loads in the caller's task, with a loader that may borrow; near tier only.
    ///
    /// # Errors
    /// The loader's, or Larder's reason.
    pub async fn load_near_inline<'a, V, E, F, Fut>(self, tags: Vec<Tag>, loader: F) -> Answer<V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'a,
    {
        let request = self.request::<V, E>(ValueOps::near::<V>(), tags);
        Slow::load_inline(request, |_| loader()).await
    }

    /// Loads on the caller's thread, near tier only. Callers on other threads wait for it; a call from within another
    /// cached plain function does not wait but loads by itself, so that two functions that need each other cannot lock
    /// each other up.
    ///
    /// # Errors
    /// The function's own.
    pub fn load_sync<V, E>(self, tags: Vec<Tag>, load: impl FnOnce() -> Result<Loaded<V>, E>) -> Answer<V, E>
    where
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let options = ReadOptions { on_thread: true, required: self.required, ..ReadOptions::default() };
        let request = self.request_with::<V, E>(ValueOps::near::<V>(), tags, options);
        crate::call::load_sync(&request, load)
    }
}
