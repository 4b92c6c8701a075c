//! One run of the loader.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Fault, LoadRequest, LoadedAny, chain::Chain, remote_phase::FillGuard};
use crate::{load_error::LoadFault, value::AnyError};

/// Runs the loader: a panic is a fault, one that runs longer than the strategy allows is aborted, and its fill token is
/// renewed meanwhile.
pub(super) async fn run<'l>(
    request: &LoadRequest,
    load: impl FnOnce() -> BoxFuture<'l, Result<LoadedAny, AnyError>> + Send,
    guard: Option<&FillGuard>,
) -> Result<LoadedAny, Fault> {
    let chain = Chain::current().with(request);
    let load = chain.scope(async move { load().await.map_err(Fault::Loader) });
    let renewal = async {
        match guard {
            Some(guard) => guard.renew_for_ever().await,
            None => std::future::pending().await,
        }
    };
    guarded(request, pin!(load), pin!(renewal)).await
}

/// Bounds a load in time, and makes a fault of its panic. `renewal` never ends.
pub(super) async fn guarded<T>(
    request: &LoadRequest,
    load: Pin<&mut impl Future<Output = Result<T, Fault>>>,
    renewal: Pin<&mut impl Future<Output = ()>>,
) -> Result<T, Fault> {
    let longest = request.region.strategy.max_load.max(request.region.strategy.hard_timeout);
    tokio::select! {
        biased;
        result = AssertUnwindSafe(load).catch_unwind() => result.unwrap_or_else(|panic| {
            Err(Fault::Larder(LoadFault::Panicked(panic_message(panic.as_ref()))))
        }),
        () = renewal => Err(Fault::Larder(LoadFault::TimedOut)),
        () = request.engine.timer.sleep(longest), if !request.options.patient => Err(Fault::Larder(LoadFault::TimedOut)),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
        .into()
}
