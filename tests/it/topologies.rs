//! Whole caches behind sentinels and on a cluster, also while a primary dies in the middle of traffic.

#![expect(clippy::unwrap_used, reason = "what the tests of this file share fails by a panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder::{Cache, HealthStatus, Source, Status, Strategy};
use larder_testing::{RedisCluster, RedisSentinels};

use crate::{cache_at, hears_the_bus, until};

/// A process as `cache_at` makes it, once it hears the others.
async fn process_at(url: &str) -> Cache {
    let cache = cache_at(url).await;
    hears_the_bus(&cache).await;
    cache
}

/// A process with the deadlines that it has by default.
async fn service_at(url: &str) -> Cache {
    let strategy = Strategy::new("service", Duration::from_secs(600));
    let cache = Cache::builder().namespace("t").strategy(strategy).redis(url).build().await.unwrap();
    hears_the_bus(&cache).await;
    cache
}

async fn loaded(cache: &Cache, key: &str, value: u64) -> (u64, Source) {
    let loader = move || async move { Ok::<_, std::io::Error>(value) };
    let outcome = cache.get_or_load(key, loader).skip_near().outcome().await.expect("a load needs no Redis");
    (*outcome.value, outcome.source)
}

/// Shares values, and invalidates them in every way, whatever server holds them.
async fn everything_reaches_the_other(url: &str) {
    let (one, two) = (process_at(url).await, process_at(url).await);
    let keys: Vec<String> = (0..50).map(|index| format!("user:{index}")).collect();
    for (key, value) in keys.iter().zip(0_u64..) {
        assert!(one.set(key.as_str(), value).tag("users").await);
    }
    let found = two.get_many::<_, u64>(&keys).await;
    for (found, value) in found.iter().zip(0_u64..) {
        assert_eq!(found.as_deref(), Some(&value));
    }
    let holds = async |key: &str| two.near().get::<_, u64>(key).await.is_some();

    let removed = one.invalidate().key("user:0").await.unwrap();
    assert_eq!((removed.remote, removed.status), (1, Status::Done));
    until("the key is gone elsewhere", || async { !holds("user:0").await }).await;

    let removed = one.invalidate().pattern("user:1?").await.unwrap();
    assert_eq!((removed.remote, removed.status), (10, Status::Done));
    until("the pattern is gone elsewhere", || async { !holds("user:15").await }).await;
    assert_eq!(two.get::<_, u64>("user:2").await.as_deref(), Some(&2));

    one.invalidate().tag("users").await.unwrap();
    until("the tag is gone elsewhere", || async { two.get::<_, u64>("user:2").await.is_none() }).await;
    assert_eq!(two.get_many::<_, u64>(&keys).await.iter().flatten().count(), 0);

    assert_eq!(one.increment("count", 3).await.unwrap(), 3);
    assert_eq!(two.increment("count", 4).await.unwrap(), 7);
    assert_eq!(loaded(&one, "answer", 42).await, (42, Source::Loaded));
    until("the commit has come through", || async { loaded(&two, "answer", 0).await == (42, Source::Remote) }).await;
    assert_eq!(one.health().await.status, HealthStatus::Healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_on_a_cluster_share_and_invalidate() {
    let cluster = RedisCluster::builder().replicas(0).start();
    everything_reaches_the_other(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_behind_sentinels_share_and_invalidate() {
    let sentinels = RedisSentinels::start();
    everything_reaches_the_other(&sentinels.url()).await;
}

/// Callers that read without a pause and never see an error; answers how many calls they made.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    fn start(cache: &Cache) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let caller = |number: u64| {
            let (cache, stop, calls) = (cache.clone(), Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let value = (number * 7 + round) % 40;
                    // The value follows from the key, so that a wrong answer shows.
                    assert_eq!(loaded(&cache, &format!("key:{value}"), value).await.0, value);
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        };
        let tasks = (0..8).map(caller).collect();
        Self { stop, calls, tasks }
    }

    async fn flows(&self) {
        let before = self.calls.load(Ordering::Relaxed);
        until("callers are answered", || async { self.calls.load(Ordering::Relaxed) > before + 100 }).await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no caller saw an error or a wrong value");
        }
    }
}

async fn is_used_again(cache: &Cache) {
    until("Redis is used again", || async {
        loaded(cache, "probe", 1).await.1 == Source::Remote && cache.health().await.status == HealthStatus::Healthy
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_dies_behind_sentinels_costs_no_call() {
    let mut sentinels = RedisSentinels::start();
    let cache = service_at(&sentinels.url()).await;
    let traffic = Traffic::start(&cache);
    traffic.flows().await;
    let (primary, port) = (sentinels.primary(), sentinels.primary_port());
    let sentinels = tokio::task::spawn_blocking(move || {
        sentinels.server_mut(primary).kill();
        sentinels.await_new_primary(port);
        sentinels
    });
    traffic.flows().await;
    let sentinels = sentinels.await.unwrap();
    is_used_again(&cache).await;
    traffic.flows().await;
    traffic.end().await;
    drop(sentinels);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_a_cluster_that_dies_costs_no_call() {
    let mut cluster = RedisCluster::start();
    let cache = service_at(&cluster.url()).await;
    let traffic = Traffic::start(&cache);
    traffic.flows().await;
    let primary = cluster.primary_of("t:probe");
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.kill(primary);
        cluster.await_failover(primary);
        cluster
    });
    traffic.flows().await;
    let cluster = cluster.await.unwrap();
    is_used_again(&cache).await;
    traffic.flows().await;
    traffic.end().await;
    drop(cluster);
}
