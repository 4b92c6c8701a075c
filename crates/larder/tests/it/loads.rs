use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use larder::{Cache, LoadError, Loaded, ManualClock, Source};
use tokio::sync::Semaphore;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Loader {
    runs: Arc<AtomicU32>,
    gate: Option<Arc<Semaphore>>,
}

impl Loader {
    fn gated() -> Self {
        Self { gate: Some(Arc::new(Semaphore::new(0))), ..Self::default() }
    }

    fn open(&self) {
        self.gate.as_ref().unwrap().add_permits(1);
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    async fn run(self) -> Result<u32, &'static str> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        Ok(number)
    }
}

async fn load(cache: &Cache, loader: &Loader) -> Result<u32, LoadError<&'static str>> {
    let loader = loader.clone();
    cache.get_or_load("k", move || loader.run()).await.map(|value| *value)
}

fn spawn(cache: &Cache, loader: &Loader) -> tokio::task::JoinHandle<Result<u32, LoadError<&'static str>>> {
    let (cache, loader) = (cache.clone(), loader.clone());
    tokio::spawn(async move { load(&cache, &loader).await })
}

#[larder::test]
async fn a_thousand_callers_make_one_load(cache: Cache, clock: ManualClock) {
    let loader = Loader::gated();
    let callers: Vec<_> = (0..1000).map(|_| spawn(&cache, &loader)).collect();
    clock.settle().await;
    loader.open();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), 0);
    }
    assert_eq!(loader.runs(), 1);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.loads, stats.coalesced), (1000, 1, 999));
}

#[larder::test]
async fn a_caller_that_goes_away_stalls_nobody_and_its_load_is_kept(cache: Cache, clock: ManualClock) {
    let loader = Loader::gated();
    let first = spawn(&cache, &loader);
    clock.settle().await;
    let second = spawn(&cache, &loader);
    clock.settle().await;
    first.abort();
    assert!(first.await.is_err());
    loader.open();
    assert_eq!(second.await.unwrap().unwrap(), 0);
    assert_eq!(load(&cache, &loader).await.unwrap(), 0);
    assert_eq!(loader.runs(), 1);
}

#[larder::test]
async fn an_invalidation_during_a_load_keeps_its_value_out(cache: Cache, clock: ManualClock) {
    for kind in 0..5 {
        let loader = Loader::gated();
        let (caller_cache, caller_loader) = (cache.clone(), loader.clone());
        let caller = tokio::spawn(async move {
            caller_cache.get_or_load("api:k", move || caller_loader.run()).tag("t").await.map(|value| *value)
        });
        clock.settle().await;
        match kind {
            0 => drop(cache.invalidate().key("api:k").await.unwrap()),
            1 => drop(cache.invalidate().tag("t").await.unwrap()),
            2 => drop(cache.delete_pattern("api:*").await.unwrap()),
            3 => drop(cache.invalidate().symbol("k").await.unwrap()),
            _ => drop(cache.clear().await.unwrap()),
        }
        loader.open();
        assert_eq!(caller.await.unwrap().unwrap(), 0);
        assert_eq!(cache.get::<_, u32>("api:k").await, None, "kind {kind}");
    }
}

#[larder::test]
async fn a_write_during_a_load_wins(cache: Cache, clock: ManualClock) {
    let loader = Loader::gated();
    let caller = spawn(&cache, &loader);
    clock.settle().await;
    cache.set("k", 99_u32).await;
    loader.open();
    assert_eq!(caller.await.unwrap().unwrap(), 0);
    assert_eq!(cache.get("k").await, Some(Arc::new(99_u32)));
    assert_eq!(cache.stats().refused, 1);
}

#[larder::test]
async fn who_comes_after_an_invalidation_does_not_join_the_old_load(cache: Cache, clock: ManualClock) {
    let loader = Loader::gated();
    let old = spawn(&cache, &loader);
    clock.settle().await;
    cache.delete("k").await;
    let new = spawn(&cache, &loader);
    clock.settle().await;
    assert_eq!(loader.runs(), 2);
    loader.open();
    loader.open();
    assert_eq!(old.await.unwrap().unwrap(), 0);
    assert_eq!(new.await.unwrap().unwrap(), 1);
    assert_eq!(cache.get("k").await, Some(Arc::new(1_u32)));
}

#[larder::test]
async fn an_error_goes_to_every_caller_and_is_not_stored(cache: Cache) {
    for _ in 0..2 {
        let result = cache.get_or_load("k", || async { Err::<u32, _>("down") }).await;
        assert!(matches!(result, Err(LoadError::Loader(error)) if *error == "down"));
    }
    assert_eq!(cache.stats().load_errors, 2);
    assert_eq!(*cache.get_or_load("k", || async { Ok::<_, &str>(1) }).await.unwrap(), 1);
}

#[larder::test]
async fn a_loader_that_panics_is_a_fault_and_the_next_call_loads(cache: Cache) {
    let result = cache.get_or_load("k", || async { panic!("boom") as Result<u32, &str> }).await;
    assert!(matches!(result, Err(LoadError::Panicked(message)) if &*message == "boom"));
    assert_eq!(*cache.get_or_load("k", || async { Ok::<_, &str>(1) }).await.unwrap(), 1);
}

#[larder::test]
async fn a_hard_time_out_ends_the_wait_and_not_the_load(cache: Cache, clock: ManualClock) {
    let loader = Loader::gated();
    let caller = spawn(&cache, &loader);
    clock.advance_and_settle(SECOND * 31).await;
    assert!(matches!(caller.await.unwrap(), Err(LoadError::TimedOut)));
    loader.open();
    clock.settle().await;
    assert_eq!(cache.get("k").await, Some(Arc::new(0_u32)));
}

#[larder::test]
async fn a_loader_that_asks_for_its_own_key_gets_an_error(cache: Cache) {
    let inner = cache.clone();
    let result = cache
        .get_or_load("k", move || async move {
            inner
                .get_or_load("k", || async { Ok::<u32, String>(1) })
                .await
                .map(|v| *v)
                .map_err(|error| error.to_string())
        })
        .await;
    let Err(LoadError::Loader(message)) = result else { panic!("the inner read fails") };
    assert!(message.contains("that it was loading"), "{message}");
}

#[larder::test]
async fn the_loader_says_how_its_value_is_stored(cache: Cache, clock: ManualClock) {
    let load = || cache.get_or_load_with("short", || async { Ok::<_, ()>(Loaded::new(1).ttl(SECOND).tag("late")) });
    assert_eq!(*load().await.unwrap(), 1);
    assert_eq!(load().outcome().await.unwrap().source, Source::Near);
    cache.invalidate().tag("late").await.unwrap();
    assert_eq!(load().outcome().await.unwrap().source, Source::Loaded);
    clock.advance(SECOND * 2);
    assert_eq!(load().outcome().await.unwrap().source, Source::Loaded);
    let never = || cache.get_or_load_with("never", || async { Ok::<_, ()>(Loaded::new(1).do_not_store()) });
    never().await.unwrap();
    assert_eq!(never().outcome().await.unwrap().source, Source::Loaded);
}

#[larder::test]
async fn a_forced_refresh_loads_although_there_is_a_value(cache: Cache) {
    let loader = Loader::default();
    assert_eq!(load(&cache, &loader).await.unwrap(), 0);
    let again = loader.clone();
    let forced = cache.get_or_load("k", move || again.run()).force_refresh().await;
    assert_eq!(*forced.unwrap(), 1);
    assert_eq!(load(&cache, &loader).await.unwrap(), 1);
}

#[larder::test]
async fn an_inline_load_borrows_and_the_next_caller_leads_when_it_is_dropped(cache: Cache, clock: ManualClock) {
    let text = String::from("borrowed");
    let length = cache.get_or_load_inline("length", || async { Ok::<_, ()>(text.len()) }).await;
    assert_eq!(*length.unwrap(), 8);

    let loader = Loader::gated();
    let (first_cache, first_loader) = (cache.clone(), loader.clone());
    let first = tokio::spawn(async move { first_cache.get_or_load_inline("k", || first_loader.run()).await });
    clock.settle().await;
    let second = spawn(&cache, &loader);
    clock.settle().await;
    first.abort();
    clock.settle().await;
    loader.open();
    assert_eq!(second.await.unwrap().unwrap(), 1);
}

#[larder::test]
async fn the_near_tier_alone_takes_values_without_serde(cache: Cache) {
    struct Opaque(u8);
    let near = cache.near();
    let value = near.get_or_load("k", || async { Ok::<_, ()>(Opaque(7)) }).await.unwrap();
    assert_eq!(value.0, 7);
    assert_eq!(near.get::<_, Opaque>("k").await.unwrap().0, 7);
}

#[larder::test]
async fn skipping_the_near_tier_neither_reads_nor_fills_it(cache: Cache) {
    let loader = Loader::default();
    for expected in 0..2 {
        let run = loader.clone();
        let value = cache.get_or_load("k", move || run.run()).skip_near().await;
        assert_eq!(*value.unwrap(), expected);
    }
    assert_eq!(cache.stats().near_entries, 0);
}
