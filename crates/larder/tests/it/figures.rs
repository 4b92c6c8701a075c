//! Figures through the `metrics` crate.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder::ManualClock;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::{process, store};

/// Keeps counters by name and labels.
#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Kept {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn value(&self, name: &str) -> Option<u64> {
        self.0.lock().unwrap().get(name).map(|cell| cell.load(Ordering::Relaxed))
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Handles that are made before there is a recorder stay without effect, so none may be kept from then.
#[tokio::test]
async fn a_recorder_that_is_installed_after_the_cache_gets_its_figures() {
    let clock = ManualClock::new();
    let cache = process(&clock, &store(&clock)).await;
    cache.set("a", 1_u8).await;
    assert!(cache.get::<_, u8>("a").await.is_some());
    clock.advance_and_settle(Duration::from_secs(10)).await;
    let kept = Kept::default();
    let _recorder = metrics::set_default_local_recorder(&kept);
    assert!(cache.get::<_, u8>("a").await.is_some());
    assert!(cache.get::<_, u8>("b").await.is_none());
    clock.advance_and_settle(Duration::from_secs(10)).await;
    // Without a bus a near copy lives for a second, so that the later hit was in the remote tier.
    assert_eq!(kept.value("larder_hits_total{namespace=t,tier=near}"), Some(1));
    assert_eq!(kept.value("larder_hits_total{namespace=t,tier=remote}"), Some(1));
    assert_eq!(kept.value("larder_misses_total{namespace=t}"), Some(1));
}
