//! Invalidations that meet a commit or an outage half way.

use std::{future::ready, sync::Arc, time::Duration};

use larder::{Backend, Cache, ErrorKind, Loaded, Status};
use larder_memory::MemoryBackend;
use larder_testing::{Fault, FaultyBackend, Operation};

use crate::{PATIENT, until};

async fn cache(backend: Arc<dyn Backend>) -> Cache {
    let builder = Cache::builder().namespace("t").strategy(PATIENT).remote_command_deadline(Duration::from_secs(10));
    builder.backend(backend).build().await.expect("the settings are valid")
}

/// Two caches on one store; what the first one asks of it can be made to fail.
async fn two_caches() -> (Cache, Arc<FaultyBackend>, Cache) {
    let store = Arc::new(MemoryBackend::builder().build().expect("the settings are valid"));
    let faulty = Arc::new(FaultyBackend::new(store.clone()));
    (cache(faulty.clone()).await, faulty, cache(store).await)
}

#[tokio::test]
async fn a_late_tag_that_is_invalidated_while_its_marker_is_made_keeps_the_old_value_out() {
    let (one, faulty, two) = two_caches().await;
    let loader = {
        let faulty = Arc::clone(&faulty);
        move || async move {
            // The fill token is placed. From now on the next marker is not made at once.
            faulty.set_for(Operation::GetOrSet, Fault::Hold);
            Ok::<_, std::io::Error>(Loaded::new(1_u32).tag("x"))
        }
    };
    assert_eq!(*one.get_or_load_with("k", loader).await.unwrap(), 1);
    until("the commit makes the marker", || ready(faulty.stuck() == 1)).await;
    let ended = || faulty.calls_of(Operation::CompareAndSet) + faulty.calls_of(Operation::CompareAndDelete);
    let before = ended();
    assert_eq!(two.invalidate().tag("x").await.unwrap().status, Status::Done);
    faulty.heal();
    until("the commit has ended", || ready(ended() > before)).await;
    assert_eq!(two.get::<_, u32>("k").skip_near().await, None, "loaded before the invalidation, and kept");
}

#[tokio::test]
async fn a_pattern_is_not_done_while_the_removal_of_a_key_that_it_names_is_only_remembered() {
    let (one, faulty, two) = two_caches().await;
    assert!(two.set("k1", 1_u32).await);
    faulty.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(one.invalidate().key("k1").await.unwrap().status, Status::Deferred);
    let status = one.invalidate().pattern("k*").await.map(|removed| removed.status);
    let there = two.get::<_, u32>("k1").skip_near().await;
    assert!(there.is_none() || status.as_ref().ok() != Some(&Status::Done), "{status:?}, and {there:?} is there");
}
