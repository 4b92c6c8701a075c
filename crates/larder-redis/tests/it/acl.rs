//! The rights that `docs/redis.md` says a service needs.

use std::{fs, path::Path, sync::Arc, time::Duration};

use larder_core::{Backend, BackendExt, ErrorKind, Inspect, Key};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{
    RedisCluster, RedisServer,
    conformance::{Fixture, Power},
};

use crate::server::{key, plain};

/// The page's rule word by word, for another namespace than `shop`.
fn rule(namespace: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/redis.md");
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rule = page.lines().find(|line| line.starts_with("user shop ")).expect("the page shows the rule");
    rule.replace("shop", namespace).split(' ').skip(1).map(str::to_owned).collect()
}

/// Makes the user, and keeps no record of what was refused before.
fn add_user(server: &RedisServer, rule: &[String]) {
    let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(rule.iter().map(String::as_str)).collect();
    server.command(&words);
    server.command(&["ACL", "LOG", "RESET"]);
}

async fn backend_of(url: String, user: &str) -> RedisBackend {
    let deadline = Duration::from_secs(5);
    let config = RedisConfig::builder().url(url).user(user).password("change-me");
    let config = config.connect_deadline(deadline).command_deadline(deadline).build().unwrap();
    RedisBackend::connect(config).await.unwrap()
}

#[test]
fn the_rights_of_the_page_are_enough_for_the_whole_suite() {
    let server = RedisServer::start();
    add_user(&server, &rule("conformance"));
    larder_testing::conformance_suite!(async || {
        Fixture::new(Arc::new(backend_of(server.url(), "conformance").await)).powers(Power::ALL)
    });
    assert_eq!(server.command(&["ACL", "LOG"]), "", "the server refused something");
}

#[tokio::test]
async fn the_rights_of_the_page_are_enough_in_a_cluster() {
    let cluster = RedisCluster::builder().start();
    for node in 0..cluster.node_count() {
        add_user(cluster.node(node), &rule("shop"));
    }
    let backend = backend_of(cluster.url(), "shop").await;
    let keys: Vec<Key> = (0..100).map(|index| key(&format!("shop:k{index}"))).collect();
    for key in &keys {
        assert!(backend.set(key, "v".into(), plain()).await.unwrap().is_stored());
    }
    for found in backend.get_many(&keys, larder_core::GetOptions::new().prefer_replica()).await {
        // A replica may not have heard of it yet.
        found.unwrap();
    }
    assert_eq!(backend.server_figures().await.unwrap().keys, Some(100));
    for node in 0..cluster.node_count() {
        assert_eq!(cluster.node(node).command(&["ACL", "LOG"]), "", "node {node} refused something");
    }
}

#[tokio::test]
async fn another_namespace_stays_out_of_reach() {
    let server = RedisServer::start();
    add_user(&server, &rule("shop"));
    let backend = backend_of(server.url(), "shop").await;
    let error = backend.set(&key("other:k"), "v".into(), plain()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    let bus = larder_core::BusSource::open_bus(&backend, "other:%bus").await.unwrap();
    assert_eq!(bus.publish("m".into()).await.unwrap_err().kind(), ErrorKind::Auth);
}
