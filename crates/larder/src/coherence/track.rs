//! Word of changes by writers that do not use Larder, where the backend can tell of them.
//!
//! The store says which keys have changed, whoever did it. What this process wrote itself the backend leaves out, so that it
//! keeps its own near copies. A key that another cache filled or wrote is told of a second time by the bus; dropping it twice
//! does no harm.

use std::sync::{Arc, Weak, atomic::Ordering};

use futures_util::{StreamExt, stream::BoxStream};
use larder_core::{GetOptions, Key, Tag, Target, Tracking, TrackingEvent};

use crate::{
    engine::{Engine, version},
    events,
};

impl Engine {
    /// Starts to listen to the store; ends with the cache.
    pub(crate) fn begin_tracking(self: &Arc<Self>, tracking: &dyn Tracking) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let task = runtime.spawn(listen(Arc::downgrade(self), tracking.track(&self.prefix)));
        self.tasks.lock().push(task.abort_handle());
    }

    async fn hear_of_change(&self, event: TrackingEvent) {
        match event {
            TrackingEvent::Confirmed => {
                self.coherence.tracks.store(true, Ordering::Release);
                self.start_afresh();
                events::tracking();
            }
            TrackingEvent::Lost => {
                self.coherence.tracks.store(false, Ordering::Release);
                self.start_afresh();
                events::untracked();
            }
            TrackingEvent::Keys(keys) => {
                let (markers, keys): (Vec<Key>, Vec<Key>) =
                    keys.into_iter().partition(|key| Tag::of_marker(key, &self.prefix).is_some());
                self.apply_keys(&keys);
                self.look_at_markers(&markers).await;
            }
            TrackingEvent::Flushed => {
                self.apply(&Target::Everything);
            }
            _ => {}
        }
    }

    /// A marker that was made or prolonged is told of as one that was removed is. It is no news if it holds what is known.
    async fn look_at_markers(&self, markers: &[Key]) {
        let Some(remote) = self.remote.as_ref().filter(|_| !markers.is_empty()) else { return };
        let read = async { Ok(remote.primary.get_many(markers, GetOptions::new()).await) };
        let found = self.within(self.root.strategy.remote_deadline, read).await.unwrap_or_default();
        for (place, marker) in markers.iter().enumerate() {
            let stands = found.get(place).and_then(|found| version(&found.as_ref().ok()?.as_ref()?.value));
            let known = Tag::of_marker(marker, &self.prefix).and_then(|tag| self.known_version(&tag));
            if stands.is_none() || stands != known {
                self.apply_keys(std::slice::from_ref(marker));
            }
        }
    }

    /// What was kept until now may have changed unheard.
    fn start_afresh(&self) {
        self.coherence.next_period();
        self.fence_all();
    }
}

async fn listen(engine: Weak<Engine>, mut changes: BoxStream<'static, TrackingEvent>) {
    while let Some(event) = changes.next().await {
        let Some(engine) = engine.upgrade() else { return };
        engine.hear_of_change(event).await;
    }
}
