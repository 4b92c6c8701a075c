//! A primary and two replicas that three sentinels watch: failovers, planned and not.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use larder_core::{Backend, BackendExt, BusEvent, BusSource, Bytes, ErrorKind, GetOptions};
use larder_redis::{RedisBackend, RedisConfig, RedisConfigBuilder};
use larder_testing::{
    RedisSentinels,
    conformance::{Fixture, Power},
};

use crate::server::{key, plain, until, within};

fn config_of(sentinels: &RedisSentinels) -> RedisConfigBuilder {
    let deadline = Duration::from_secs(2);
    RedisConfig::builder().url(sentinels.url()).connect_deadline(deadline).command_deadline(deadline / 2)
}

async fn backend_of(sentinels: &RedisSentinels) -> RedisBackend {
    RedisBackend::connect(config_of(sentinels).build().unwrap()).await.unwrap()
}

#[test]
fn the_suite_of_all_backends_holds_behind_sentinels() {
    let sentinels = RedisSentinels::start();
    larder_testing::conformance_suite!(async || {
        let backend = backend_of(&sentinels).await;
        Fixture::new(Arc::new(backend)).powers(Power::ALL)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_is_replaced_by_the_one_that_the_sentinels_name() {
    let mut sentinels = RedisSentinels::start();
    let backend = backend_of(&sentinels).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let (old, old_port) = (sentinels.primary(), sentinels.primary_port());
    assert!(sentinels.server(old).command(&["WAIT", "2", "10000"]) == "2");
    sentinels.server_mut(old).kill();
    let error = within(backend.set(&key("a"), "2".into(), plain())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let sentinels = tokio::task::spawn_blocking(move || {
        sentinels.await_new_primary(old_port);
        sentinels
    });
    let stored = until(async || backend.set(&key("a"), "2".into(), plain()).await, Result::is_ok).await.unwrap();
    assert!(stored.is_stored());
    let sentinels = sentinels.await.unwrap();
    assert_eq!(sentinels.server(sentinels.primary()).command(&["GET", "a"]), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_primary_is_left_as_soon_as_the_sentinels_name_another() {
    let sentinels = RedisSentinels::start();
    let backend = backend_of(&sentinels).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let (old, old_port) = (sentinels.primary(), sentinels.primary_port());
    sentinels.server(old).pause();
    let sentinels = tokio::task::spawn_blocking(move || {
        sentinels.await_new_primary(old_port);
        sentinels
    });
    let stored = until(async || backend.set(&key("b"), "2".into(), plain()).await, Result::is_ok).await.unwrap();
    assert!(stored.is_stored());
    let sentinels = sentinels.await.unwrap();
    sentinels.server(old).resume();
    assert_eq!(sentinels.server(sentinels.primary()).command(&["GET", "b"]), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_ends_with_writes_on_the_new_primary_and_a_confirmed_bus() {
    let sentinels = RedisSentinels::start();
    let backend = backend_of(&sentinels).await;
    let bus = backend.open_bus("channel").await.unwrap();
    let mut events = bus.events();
    assert_eq!(within(events.next()).await, Some(BusEvent::Confirmed));
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let sentinels = tokio::task::spawn_blocking(move || {
        sentinels.failover();
        sentinels
    });
    // Messages may have been lost, which is said, and made good.
    assert_eq!(within(events.next()).await, Some(BusEvent::Lost));
    assert_eq!(within(events.next()).await, Some(BusEvent::Confirmed));
    let sentinels = sentinels.await.unwrap();
    until(async || backend.set(&key("a"), "2".into(), plain()).await, Result::is_ok).await.unwrap();
    assert_eq!(sentinels.server(sentinels.primary()).command(&["GET", "a"]), "2");
    within(async {
        // The link may have been confirmed on a server that was on its way to become a replica.
        loop {
            bus.publish(Bytes::from_static(b"hello")).await.unwrap();
            if let Ok(Some(BusEvent::Message(_))) = tokio::time::timeout(Duration::from_secs(1), events.next()).await {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_replica_answers_reads_that_allow_it_and_the_primary_where_there_is_none() {
    let mut sentinels = RedisSentinels::start();
    let backend = backend_of(&sentinels).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let primary = sentinels.primary();
    assert_eq!(sentinels.server(primary).command(&["WAIT", "2", "10000"]), "2");
    let hits = |sentinels: &RedisSentinels| -> u64 {
        let info = sentinels.server(primary).command(&["INFO", "stats"]);
        info.lines().find_map(|line| line.strip_prefix("keyspace_hits:")).unwrap().trim().parse().unwrap()
    };
    let read = async || backend.get_many(&[key("a")], GetOptions::new().prefer_replica()).await.pop().unwrap();
    let before = hits(&sentinels);
    assert!(read().await.unwrap().is_some());
    assert_eq!(hits(&sentinels), before, "the primary was not asked");
    for index in (0..3).filter(|index| *index != primary) {
        sentinels.server_mut(index).kill();
    }
    assert!(until(read, Result::is_ok).await.unwrap().is_some());
}

#[tokio::test]
async fn an_unknown_service_and_an_absent_sentinel_are_told_apart() {
    let sentinels = RedisSentinels::start();
    let url = sentinels.url().replace("#mymaster", "#other");
    let error = within(RedisBackend::connect(RedisConfig::from_url(url).unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("other"), "{error}");
    let config = RedisConfig::builder().sentinels(["127.0.0.1:1"], "mymaster").build().unwrap();
    let error = within(RedisBackend::connect(config)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn sentinels_and_servers_have_passwords_of_their_own() {
    let sentinels = RedisSentinels::builder().password("s3cret").sentinel_password("watch").start();
    let without = within(RedisBackend::connect(config_of(&sentinels).build().unwrap())).await.unwrap_err();
    assert_eq!(without.kind(), ErrorKind::Auth, "{without}");
    assert!(without.to_string().contains("sentinel_password"), "{without}");
    let config = config_of(&sentinels).sentinel_password("watch").build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    assert!(backend.set(&key("a"), "1".into(), plain()).await.unwrap().is_stored());
    assert_eq!(backend.topology(), "sentinel");
}
