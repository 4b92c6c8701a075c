//! `stats` and `health`.

use std::{sync::Arc, time::Duration};

use larder::ManualClock;
use larder_testing::RedisServer;
use serde_json::json;

use crate::{json, larder, run, settings, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_processes_publish_is_added_up() {
    let server = RedisServer::start();
    let clock = ManualClock::new();
    for process in 0..2 {
        let cache = settings(&server).timer(Arc::new(clock.clone())).bus(false).build().await.unwrap();
        let key = format!("k{process}");
        assert_eq!(cache.get::<_, u32>(&key).await, None);
        cache.set(&key, 1_u32).await;
        for _ in 0..3 {
            assert!(cache.get::<_, u32>(&key).await.is_some());
        }
        let published = (process + 1).to_string();
        until("the process has published", || async {
            clock.advance(Duration::from_secs(10));
            let keys = server.command(&["KEYS", "shop:%stats:*"]);
            keys.lines().count().to_string() == published && !keys.is_empty()
        })
        .await;
    }

    let document = json(&server, &["stats"]);
    let processes = &document["processes"];
    assert_eq!((&processes["count"], &processes["unreadable"]), (&json!(2), &json!(0)));
    assert_eq!((&processes["requests"], &processes["hits"]), (&json!(8), &json!(6)));
    assert_eq!(processes["hit_rate"], 0.75);
    assert_eq!((&processes["figures"]["sets"], &processes["figures"]["near_hits"]), (&json!(2), &json!(6)));
    let text = larder(&server, &["stats"]).ok().text();
    assert!(text.contains("75.00 %") && text.contains("processes"), "{text}");
}

#[test]
fn figures_of_another_release_are_counted_apart() {
    let server = RedisServer::start();
    server.command(&["SET", "shop:%stats:01", r#"{"near_hits": 3, "misses": 1, "of_a_later_release": 9}"#]);
    server.command(&["SET", "shop:%stats:02", "\"text\""]);
    server.command(&["SET", "other:%stats:03", r#"{"near_hits": 100}"#]);
    let processes = json(&server, &["stats"])["processes"].clone();
    assert_eq!((&processes["count"], &processes["unreadable"]), (&json!(1), &json!(1)));
    assert_eq!(processes["requests"], 4);
    assert!(larder(&server, &["stats"]).ok().text().contains("1 of another release"));
}

#[test]
fn the_server_says_its_figures_also_where_no_process_runs() {
    let server = RedisServer::builder().max_memory_bytes(64 << 20).option("maxmemory-policy", "allkeys-lru").start();
    server.command(&["SET", "x", "1"]);
    let document = json(&server, &["stats"]);
    assert_eq!((&document["processes"]["count"], &document["processes"]["hit_rate"]), (&json!(0), &json!(null)));
    let figures = &document["server"];
    assert_eq!((&figures["keys"], &figures["max_bytes"]), (&json!(1), &json!(64 << 20)));
    assert_eq!(figures["eviction_policy"], "allkeys-lru");
    assert!(figures["used_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{document}");
    assert!(figures["version"].as_str().is_some_and(|version| version.contains('.')), "{document}");
    assert!(figures["hits"].is_u64() && figures["misses"].is_u64(), "{document}");
    let text = larder(&server, &["stats"]).ok().text();
    assert!(text.contains("64.0 MiB") && text.contains("allkeys-lru"), "{text}");
}

#[test]
fn a_healthy_server_passes_every_check_and_keeps_nothing_of_it() {
    let server = RedisServer::start();
    let document = json(&server, &["health"]);
    assert_eq!(document["healthy"], true);
    let names: Vec<_> = document["checks"].as_array().unwrap().iter().map(|check| check["check"].clone()).collect();
    assert_eq!(names, ["ping", "set", "get", "delete"]);
    assert!(document["checks"][0]["ms"].is_f64() && document["checks"][0]["error"].is_null(), "{document}");
    assert!(larder(&server, &["health"]).ok().text().ends_with("\nhealthy\n"));
    assert_eq!(server.command(&["DBSIZE"]), "0");
}

#[test]
fn a_server_that_takes_no_writes_is_unhealthy_though_it_answers() {
    let server = RedisServer::start();
    server.command(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all", "-@write"]);
    let url = server.url().replace("redis://", "redis://reader:pw@");

    let answer = run(&["--redis", &url, "--json", "health"], &[]).fails(1);
    let document = answer.json();
    assert_eq!(document["healthy"], false);
    let outcomes: Vec<_> = document["checks"].as_array().unwrap().iter().map(|check| check["ok"].clone()).collect();
    assert_eq!(outcomes, [true, false]);
    assert!(answer.err.contains("set:"), "{answer:?}");

    let table = run(&["--redis", &url, "health"], &[]).fails(1);
    assert!(table.text().ends_with("\nunhealthy\n"), "{table:?}");
    run(&["--redis", &url, "health", "--ping-only"], &[]).ok();
}
