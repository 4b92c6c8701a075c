//! What a real server's faults do to a cache: each is told apart, costs nobody a value, and ends by itself.

use std::{sync::Arc, time::Duration};

use larder::{Cache, ErrorKind, HealthStatus, Source, Status, Strategy};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;

use crate::{hears_the_bus, until};

/// Long enough for a busy machine, and short enough to wait for it three times.
const DEADLINE: Duration = Duration::from_millis(500);

async fn cache_at(url: &str) -> Cache {
    let config = RedisConfig::builder().url(url).command_deadline(DEADLINE).build().expect("the settings are valid");
    let backend = Arc::new(RedisBackend::new(config).expect("the settings are valid"));
    let strategy = Strategy::new("faults", Duration::from_secs(600)).remote_deadline(DEADLINE * 2);
    let builder = Cache::builder().namespace("t").strategy(strategy).remote_command_deadline(DEADLINE).backend(backend);
    builder.build().await.expect("the settings are valid")
}

async fn load(cache: &Cache, key: &str, value: u32) -> (u32, Source) {
    let loader = move || async move { Ok::<_, std::io::Error>(value) };
    let outcome = cache.get_or_load(key, loader).skip_near().outcome().await.expect("a load needs no Redis");
    (*outcome.value, outcome.source)
}

/// Loads until the fault is noticed; every load must be answered.
async fn until_degraded_by(cache: &Cache, kind: ErrorKind) {
    let mut number = 0;
    until("the fault is told by its kind", || {
        number += 1;
        let key = format!("during:{number}");
        async move {
            assert_eq!(load(cache, &key, number).await.0, number);
            let health = cache.health().await;
            health.reason.as_deref() == Some(kind.as_str())
        }
    })
    .await;
    let health = cache.health().await;
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.is_ready() && health.is_live());
    assert!(health.remote.expect("there is one").faults[kind.as_str()] > 0);
}

async fn until_well(cache: &Cache) {
    until("the cache is well again", || async {
        cache.set("well", 1_u32).await && cache.health().await.status == HealthStatus::Healthy
    })
    .await;
}

#[tokio::test]
async fn a_server_out_of_memory_is_still_read_takes_removals_and_no_writes() {
    let server = RedisServer::builder().option("maxmemory-policy", "noeviction").start();
    let cache = cache_at(&server.url()).await;
    hears_the_bus(&cache).await;
    cache.try_set("before", 1_u32).await.expect("there is memory");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);

    until_degraded_by(&cache, ErrorKind::OutOfMemory).await;
    let remote = cache.health().await.remote.expect("there is one");
    assert_eq!((remote.breaker.as_str(), remote.takes_writes), ("closed", false));
    assert_eq!(load(&cache, "before", 2).await, (1, Source::Remote));
    assert_eq!(cache.invalidate().key("before").await.expect("removals need no memory").status, Status::Done);
    assert_eq!(server.command(&["EXISTS", "t:before"]), "0");
    assert_eq!(load(&cache, "before", 3).await, (3, Source::Loaded));

    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    until_well(&cache).await;
    assert_eq!(cache.health().await.remote.expect("there is one").journal, 0);
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_not_read_until_it_takes_writes_again() {
    let server = RedisServer::start();
    let cache = cache_at(&server.url()).await;
    hears_the_bus(&cache).await;
    assert!(cache.set("k", 1_u32).await);
    // Of a primary that does not answer: it keeps its data and refuses writes.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    until_degraded_by(&cache, ErrorKind::ReadOnly).await;
    assert_eq!(load(&cache, "k", 2).await.1, Source::Loaded);
    let removed = cache.invalidate().key("k").await.expect("it is remembered");
    assert_eq!(removed.status, Status::Deferred);
    // It answers PING all the time, and stays away all the same.
    assert_ne!(cache.health().await.remote.expect("there is one").breaker, "closed");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    until_well(&cache).await;
    assert_eq!(server.command(&["EXISTS", "t:k"]), "0");
}

#[tokio::test]
async fn a_paused_server_costs_three_deadlines_and_is_used_again_when_it_goes_on() {
    let server = RedisServer::start();
    let cache = cache_at(&server.url()).await;
    hears_the_bus(&cache).await;
    server.pause();
    until_degraded_by(&cache, ErrorKind::Timeout).await;
    let asked = tokio::time::Instant::now();
    for number in 0..100 {
        assert_eq!(load(&cache, &format!("open:{number}"), number).await.0, number);
    }
    assert!(asked.elapsed() < DEADLINE, "an open breaker waits for nobody");
    server.resume();
    until_well(&cache).await;
}

#[tokio::test]
async fn a_password_that_changed_is_told_from_an_outage() {
    let server = RedisServer::start();
    server.command(&["ACL", "SETUSER", "app", "on", ">old", "+@all", "~*", "&*"]);
    let cache = cache_at(&format!("redis://app:old@{}", server.address())).await;
    hears_the_bus(&cache).await;
    server.command(&["ACL", "SETUSER", "app", "resetpass", ">new"]);
    server.command(&["CLIENT", "KILL", "USER", "app"]);
    until_degraded_by(&cache, ErrorKind::Auth).await;
    let why = cache.health().await.why.expect("it says why");
    assert!(why.contains("password"), "{why}");
    server.command(&["ACL", "SETUSER", "app", "resetpass", ">old"]);
    until_well(&cache).await;
}

#[tokio::test]
async fn a_required_server_that_is_away_or_refuses_the_password_is_an_error_at_the_start() {
    let mut server = RedisServer::builder().password("secret").start();
    let wrong = format!("redis://:wrong@{}", server.address());
    let error = Cache::builder().redis(wrong).require_remote().build().await.expect_err("the password is wrong");
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(error.to_string().contains("`require_remote`"), "{error}");
    assert!(Cache::builder().redis(server.url()).require_remote().build().await.is_ok());
    server.kill();
    let error = Cache::builder().redis(server.url()).require_remote().build().await.expect_err("it is away");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let nowhere = "redis://no-such-host.invalid:6379";
    let error = Cache::builder().redis(nowhere).require_remote().build().await.expect_err("nobody has this name");
    assert!(error.is_transient(), "{error}");
    let cache = Cache::builder().redis(nowhere).build().await.expect("it need not be there");
    assert_eq!(load(&cache, "k", 1).await, (1, Source::Loaded));
}
