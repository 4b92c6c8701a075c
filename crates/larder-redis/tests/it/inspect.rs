//! What servers say of themselves, and samples of their keys.

use std::{collections::HashSet, time::Duration};

use futures_util::TryStreamExt;
use larder_core::{BackendExt, ErrorKind, Inspect, Remaining, SamplePage, SampledKey, SetItem, SetOptions};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{RedisCluster, RedisServer};

use crate::server::{key, plain};

const DEADLINE: Duration = Duration::from_secs(5);

async fn connected(url: impl Into<String>) -> RedisBackend {
    let config = RedisConfig::builder().url(url).connect_deadline(DEADLINE).command_deadline(DEADLINE).build().unwrap();
    RedisBackend::new(config).unwrap()
}

async fn pages(backend: &RedisBackend, keys: usize) -> Vec<SamplePage> {
    backend.sample(keys).try_collect().await.unwrap()
}

async fn sampled(backend: &RedisBackend, keys: usize) -> Vec<SampledKey> {
    let all: Vec<_> = pages(backend, keys).await.into_iter().flat_map(|page| page.keys).collect();
    let names: HashSet<&str> = all.iter().map(|key| key.key.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a key was told twice");
    all
}

async fn fill(backend: &RedisBackend, count: usize) {
    let items: Vec<_> = (0..count).map(|index| SetItem::new(key(&format!("k{index}")), "v", plain())).collect();
    for stored in larder_core::Backend::set_many(backend, &items).await {
        assert!(stored.unwrap().is_stored());
    }
}

#[tokio::test]
async fn figures_are_of_all_primaries_of_a_cluster() {
    let cluster = RedisCluster::builder().replicas(0).option("maxmemory", 10 << 20).start();
    let backend = connected(cluster.url()).await;
    fill(&backend, 90).await;
    let figures = backend.server_figures().await.unwrap();
    assert_eq!((figures.keys, figures.keys_without_ttl, figures.primaries), (Some(90), Some(90), Some(3)));
    assert_eq!((figures.mode.as_deref(), figures.max_bytes), (Some("cluster"), Some(30 << 20)));
    assert_eq!((figures.cluster_ok, figures.slots_covered, figures.run_id), (Some(true), Some(16384), None));
}

#[tokio::test]
async fn slots_that_nobody_serves_are_not_covered() {
    let cluster = RedisCluster::builder().replicas(0).option("cluster-require-full-coverage", "no").start();
    let backend = connected(cluster.url()).await;
    assert_eq!(backend.server_figures().await.unwrap().slots_covered, Some(16384));
    for node in 0..3 {
        cluster.node(node).command(&["CLUSTER", "DELSLOTS", "42"]);
    }
    let figures = backend.server_figures().await.unwrap();
    assert_eq!((figures.slots_covered, figures.cluster_ok), (Some(16383), Some(true)));
}

#[tokio::test]
async fn settings_are_read_and_differ_where_servers_do() {
    let cluster = RedisCluster::builder().replicas(0).option("hz", 20).start();
    cluster.node(1).command(&["CONFIG", "SET", "timeout", "77"]);
    let settings = connected(cluster.url()).await.settings().await.unwrap();
    assert_eq!((settings.get("hz"), settings.get("save"), settings.get("timeout")), (Some("20"), Some(""), None));
    assert_eq!(settings.values("timeout").collect::<Vec<_>>(), ["0", "77"]);
    assert!(settings.get("lazyfree-lazy-eviction").is_some());
}

#[tokio::test]
async fn settings_that_an_acl_hides_are_unknown() {
    let server = RedisServer::builder().acl("user blind on >secret ~* +@all -config").start();
    let url = server.url().replace("redis://", "redis://blind:secret@");
    assert_eq!(connected(url).await.settings().await.unwrap().iter().count(), 0);
}

#[tokio::test]
async fn a_sample_tells_of_each_key_what_it_is() {
    let server = RedisServer::start();
    let backend = connected(server.url()).await;
    let hour = Duration::from_secs(3_600);
    backend.set(&key("short"), "v".into(), SetOptions::new().ttl(hour)).await.unwrap();
    backend.set(&key("large"), vec![b'v'; 100_000].into(), plain()).await.unwrap();
    server.command(&["RPUSH", "list", "a", "b"]);
    let mut all = sampled(&backend, 1_000).await;
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let told: Vec<_> = all.iter().map(|it| (it.key.as_str(), it.kind.as_str(), it.remaining)).collect();
    let [large, list, short] = told[..] else { panic!("{told:?}") };
    assert_eq!((large, list), (("large", "string", Remaining::Forever), ("list", "list", Remaining::Forever)));
    assert!(short.2.duration().is_some_and(|left| left <= hour), "{short:?}");
    assert!(all[0].bytes >= 100_000 && all[2].bytes < 1_000, "{all:?}");
}

#[tokio::test]
async fn a_sample_is_no_larger_than_was_asked_for() {
    let server = RedisServer::start();
    let backend = connected(server.url()).await;
    fill(&backend, 2_000).await;
    let pages = pages(&backend, 150).await;
    assert!(pages.iter().all(|page| page.total == 2_000 && page.keys.len() <= 100), "{pages:?}");
    assert_eq!(pages.iter().map(|page| page.keys.len()).sum::<usize>(), 150);
}

#[tokio::test]
async fn a_sample_of_nothing_is_one_empty_page() {
    let server = RedisServer::start();
    let backend = connected(server.url()).await;
    assert_eq!(pages(&backend, 100).await, [SamplePage::default()]);
}

#[tokio::test]
async fn each_primary_is_drawn_from_in_proportion_to_its_keys() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let backend = connected(cluster.url()).await;
    // One tag, one slot, one primary; the others have a sixth of all keys between them.
    let items: Vec<_> = (0..1_000).map(|index| SetItem::new(key(&format!("{{tag}}:{index}")), "v", plain())).collect();
    for stored in larder_core::Backend::set_many(&backend, &items).await {
        stored.unwrap();
    }
    fill(&backend, 300).await;
    let crowded = cluster.primary_of("{tag}");
    let on_crowded = cluster.node(crowded).command(&["DBSIZE"]).parse::<usize>().unwrap();
    let all = sampled(&backend, 100).await;
    assert_eq!(all.len(), 100);
    // What is drawn is shared out exactly; that some of 200 draws were of the same key moves it by a few.
    let mut there = 0;
    for sampled in &all {
        there += usize::from(cluster.primary_of(&sampled.key) == crowded);
    }
    assert!(there.abs_diff(on_crowded * 100 / 1_300) <= 8, "{there} of 100, {on_crowded} of 1300");
}

#[tokio::test]
async fn keys_that_an_acl_hides_are_counted() {
    let server = RedisServer::builder().acl("user shop on >secret ~shop:* +@all").start();
    for name in ["shop:1", "shop:2", "other:1"] {
        server.command(&["SET", name, "v"]);
    }
    let url = server.url().replace("redis://", "redis://shop:secret@");
    let pages = pages(&connected(url).await, 100).await;
    let refused: u64 = pages.iter().map(|page| page.refused).sum();
    assert_eq!((pages[0].total, pages[0].keys.len(), refused), (3, 2, 1));
}

#[tokio::test]
async fn without_a_server_a_sample_is_an_error() {
    let mut server = RedisServer::start();
    server.kill();
    let error = connected(server.url()).await.sample(10).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
