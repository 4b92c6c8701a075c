//! What the attribute macros expand to. Not part of the public interface: it changes without notice.

mod batch;
mod lookup;
mod miss;
mod site;

use std::{future::Future, panic, pin::Pin, sync::Arc, time::Duration};

pub use larder_core::{Key, KeyBuf, KeyPart, Pattern, Tag, ToKey};
pub use larder_strategy::{Strategy, presets};

pub use self::{
    batch::Batch,
    lookup::{Lookup, forget_failure, lookup},
    miss::Miss,
    site::{KeyStyle, Site, SiteSpec},
};
pub(crate) use self::{
    lookup::{Typed, count_hit, typed},
    site::Sites,
};
use crate::engine::{Fault, FlightResult};
pub use crate::{
    call::BatchOf,
    load_error::{ErrorSlot, LoadError, LoadFault, SharedError},
    loaded::Loaded,
    outcome::Outcome,
    specialise,
};

/// What a call does beyond a near hit, in a place of its own, so that its size is not in the call's future.
pub fn boxed<T, F: Future<Output = T>>(slow: F) -> Pin<Box<F>> {
    Box::pin(slow)
}

/// What a load gives a caller.
pub type Answer<V, E> = Result<Outcome<Option<Arc<V>>>, LoadError<E>>;

/// A flight's result in the caller's types.
pub(crate) fn in_types<V, E>(result: FlightResult) -> Answer<V, E>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(Fault::Larder(fault)) => return Err(fault.into()),
        // Only reads without a loader end with it, and they have other flights.
        Err(Fault::Remote(error)) => return Err(LoadError::Panicked(error.to_string().into())),
        Err(Fault::Loader(error)) => {
            return Err(match error.downcast::<E>() {
                Ok(error) => LoadError::Loader(error),
                // Flights are told apart by the error's type, so this is a remembered failure of another function.
                Err(_) => LoadError::Panicked("a remembered error is of another type".into()),
            });
        }
    };
    let Outcome { value, source, age, stale } = outcome;
    let value = match typed::<V>(value) {
        Typed::Value(value) => Some(value),
        Typed::Absent | Typed::Failed(_) | Typed::Other => None,
    };
    Ok(Outcome { value, source, age, stale })
}

/// Resumes a loader's panic in its caller; a fault that is no panic panics with its text.
pub fn resume_panic(fault: &LoadFault) -> ! {
    match fault {
        LoadFault::Panicked(message) => panic::resume_unwind(Box::new(message.to_string())),
        other => panic!("{other}"),
    }
}

/// Runs one test on a runtime, a cache and a clock of its own.
///
/// # Panics
/// If the runtime cannot be built, and when the test does.
#[cfg(feature = "macros")]
pub fn run_test<F, Fut>(test: F) -> Fut::Output
where
    F: FnOnce(crate::Cache, crate::ManualClock) -> Fut,
    Fut: Future,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a single-threaded runtime needs nothing that could be missing");
    let clock = crate::ManualClock::new();
    runtime.block_on(async {
        let cache = crate::Cache::builder().timer(Arc::new(clock.clone())).build().await;
        let cache = cache.expect("the settings of a test cache are valid");
        let test = test(cache.clone(), clock);
        crate::global::with_cache(cache, test).await
    })
}

/// A stale window, and fail-safe within it.
pub fn with_stale(strategy: Strategy, window: Duration) -> Strategy {
    let safe = (!window.is_zero()).then(|| larder_strategy::FailSafe::new(window));
    strategy.stale_window(window).fail_safe(safe)
}

/// A hard time-out, and a longest load that is not shorter.
pub fn with_hard_timeout(strategy: Strategy, limit: Duration) -> Strategy {
    let longest = strategy.max_load.max(limit);
    strategy.hard_timeout(limit).max_load(longest)
}

/// A tag from a template.
pub fn tag(render: impl FnOnce(&mut KeyBuf)) -> Tag {
    let mut text = KeyBuf::new();
    render(&mut text);
    text.finish();
    Tag::new(&text)
}

/// Stores a value only if it meets the caller's condition.
pub fn on_condition<V>(loaded: Loaded<V>, condition: impl FnOnce(&V) -> bool) -> Loaded<V> {
    let keep = loaded.value.as_deref().is_none_or(condition);
    if keep { loaded } else { loaded.do_not_store() }
}
