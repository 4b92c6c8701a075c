use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use larder::{
    Cache, ManualClock, Outcome, Region, Source, Strategy,
    strategy::{EarlyRefresh, FailSafe},
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Source0 {
    runs: Arc<AtomicU32>,
    broken: Arc<AtomicBool>,
}

impl Source0 {
    async fn run(self) -> Result<u32, &'static str> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) { Err("down") } else { Ok(run) }
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

fn region(cache: &Cache, strategy: Strategy) -> Region<str, u32> {
    cache.region("r").strategy(strategy.jitter(0.0)).build().unwrap()
}

async fn read(
    region: &Region<str, u32>,
    source: &Source0,
) -> Result<Outcome<Arc<u32>>, larder::LoadError<&'static str>> {
    let source = source.clone();
    region.get_or_load("k", move || source.run()).outcome().await
}

fn policy() -> Strategy {
    Strategy::new("r", SECOND * 10).stale_window(SECOND * 20)
}

#[larder::test]
async fn two_callers_during_a_refresh_both_get_the_stale_value_at_once(cache: Cache, clock: ManualClock) {
    let (region, source) = (region(&cache, policy()), Source0::default());
    read(&region, &source).await.unwrap();
    clock.advance(SECOND * 11);
    for _ in 0..2 {
        let outcome = read(&region, &source).await.unwrap();
        assert_eq!((*outcome.value, outcome.stale, outcome.age), (0, true, SECOND * 11));
    }
    clock.settle().await;
    assert_eq!(source.runs(), 2);
    let fresh = read(&region, &source).await.unwrap();
    assert_eq!((*fresh.value, fresh.stale), (1, false));
}

#[larder::test]
async fn a_stale_value_is_served_only_within_its_window(cache: Cache, clock: ManualClock) {
    let (region, source) = (region(&cache, policy()), Source0::default());
    read(&region, &source).await.unwrap();
    clock.advance(SECOND * 30);
    assert_eq!(read(&region, &source).await.unwrap().source, Source::Loaded);
}

#[larder::test]
async fn an_early_refresh_replaces_a_value_that_is_still_fresh(cache: Cache, clock: ManualClock) {
    let strategy = policy().early_refresh(EarlyRefresh::Share(0.5));
    let (region, source) = (region(&cache, strategy), Source0::default());
    read(&region, &source).await.unwrap();
    clock.advance(SECOND * 6);
    let early = read(&region, &source).await.unwrap();
    assert_eq!((*early.value, early.stale), (0, false));
    clock.settle().await;
    assert_eq!(*read(&region, &source).await.unwrap().value, 1);
    assert_eq!(source.runs(), 2);
}

#[larder::test]
async fn a_refresh_that_fails_leaves_the_stale_value_and_is_not_tried_again_at_once(cache: Cache, clock: ManualClock) {
    let strategy = policy().fail_safe(Some(FailSafe::new(SECOND * 20).throttle(SECOND * 5)));
    let (region, source) = (region(&cache, strategy), Source0::default());
    read(&region, &source).await.unwrap();
    source.broken.store(true, Ordering::SeqCst);
    clock.advance(SECOND * 11);
    for _ in 0..3 {
        assert!(read(&region, &source).await.unwrap().stale);
        clock.settle().await;
    }
    assert_eq!(source.runs(), 2);
    clock.advance(SECOND * 6);
    read(&region, &source).await.unwrap();
    clock.settle().await;
    assert_eq!(source.runs(), 3);
    clock.advance(SECOND * 14);
    assert!(read(&region, &source).await.is_err());
}

#[larder::test]
async fn fail_safe_serves_the_stale_value_in_place_of_an_error(cache: Cache, clock: ManualClock) {
    let strategy = policy().fail_safe(Some(FailSafe::new(SECOND * 20)));
    let (region, source) = (region(&cache, strategy), Source0::default());
    read(&region, &source).await.unwrap();
    source.broken.store(true, Ordering::SeqCst);
    clock.advance(SECOND * 11);
    let run = source.clone();
    let outcome = region.get_or_load("k", move || run.run()).force_refresh().outcome().await.unwrap();
    assert_eq!((*outcome.value, outcome.stale), (0, true));
}

#[larder::test]
async fn a_write_during_a_refresh_wins(cache: Cache, clock: ManualClock) {
    let region = region(&cache, policy());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    region.set("k", 0).await;
    // A written value has no stale window, so a loaded one is needed.
    region.delete("k").await.unwrap();
    region.get_or_load("k", || async { Ok::<_, ()>(1) }).await.unwrap();
    clock.advance(SECOND * 11);
    let inside = Arc::clone(&gate);
    let stale = region.get_or_load("k", move || async move {
        inside.acquire().await.unwrap().forget();
        Ok::<_, ()>(2)
    });
    assert_eq!(*stale.await.unwrap(), 1);
    clock.settle().await;
    region.set("k", 3).await;
    gate.add_permits(1);
    clock.settle().await;
    assert_eq!(region.get("k").await, Some(Arc::new(3)));
}
