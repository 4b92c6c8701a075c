//! Which cache a cached function uses: the one that is scoped to the task, else the one that was installed, else a near
//! cache of 64 MiB that is made when it is first needed.

use std::{future::Future, sync::OnceLock};

use larder_core::{Error, ErrorKind, Result};

use crate::Cache;

static INSTALLED: OnceLock<Cache> = OnceLock::new();
static DEFAULT: OnceLock<Cache> = OnceLock::new();

tokio::task_local! {
    static SCOPED: Cache;
}

/// Runs a future with a cache of its own: cached functions called in it use this one, loads that they start included.
///
/// Tasks that the future spawns do not inherit it; wrap them too.
pub fn with_cache<F: Future>(cache: Cache, future: F) -> impl Future<Output = F::Output> {
    SCOPED.scope(cache, future)
}

/// The cache scoped to this task, if there is one.
pub(crate) fn scoped() -> Option<Cache> {
    SCOPED.try_with(Clone::clone).ok()
}

/// Runs `action` with the cache that cached functions would use here.
#[inline]
pub(crate) fn with_current<R>(action: impl FnOnce(&Cache) -> R) -> R {
    match SCOPED.try_with(Clone::clone) {
        Ok(cache) => action(&cache),
        Err(_) => action(shared()),
    }
}

fn shared() -> &'static Cache {
    INSTALLED.get().unwrap_or_else(|| DEFAULT.get_or_init(Cache::in_memory))
}

/// The cache that cached functions use here.
#[must_use]
pub fn current() -> Cache {
    with_current(Clone::clone)
}

pub(crate) fn install(cache: &Cache) -> Result<()> {
    INSTALLED.set(cache.clone()).map_err(|_| {
        let message = "a global cache is installed already; install one, once, at the start of `main`";
        Error::new(ErrorKind::Config, "install_global", message)
    })
}
