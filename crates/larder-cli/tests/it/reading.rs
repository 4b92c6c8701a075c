//! `get`, `keys`, `ttl` and `explain`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use larder::{
    codec::{Json, Postcard},
    strategy::CompressionChoice,
};
use larder_testing::RedisServer;
use serde_json::json;
use tokio::sync::Notify;

use crate::{PATIENT, json, larder, service, settings, until};

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct User {
    name: String,
    age: u8,
    scores: Vec<f64>,
}

fn user() -> User {
    User { name: "Ada".into(), age: 36, scores: vec![1.5, -2.0] }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_shows_a_messagepack_value_as_json_with_what_its_entry_says() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("user:7", user()).tag("team:a").await;

    let entry = json(&server, &["get", "user:7"]);
    assert_eq!(entry["value"], json!({"name": "Ada", "age": 36, "scores": [1.5, -2.0]}));
    assert_eq!(entry["key"], "shop:user:7");
    assert_eq!((&entry["kind"], &entry["state"]), (&json!("value"), &json!("fresh")));
    assert_eq!((&entry["codec"], &entry["encoding"]), (&json!("msgpack"), &json!("json")));
    assert_eq!(entry["tags"], json!([{"tag": "team:a", "holds": true}]));
    assert_eq!(entry["undecodable"], json!(null));
    let ttl = entry["ttl_ms"].as_u64().unwrap();
    assert!((1..=600_000).contains(&ttl), "{ttl}");

    let text = larder(&server, &["get", "user:7"]).ok().text();
    for part in ["shop:user:7", "value (fresh)", "msgpack", "team:a", "\"name\": \"Ada\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn get_knows_every_codec_and_writes_the_payload_as_it_is() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("json", user()).codec(Json).await;
    cache.set("postcard", 300_u32).codec(Postcard).await;
    cache.set_raw("raw", &b"\x00\x01two"[..]).await;
    cache.set("map", std::collections::BTreeMap::from([(7_u8, Some("seven".to_owned()))])).await;

    let entry = json(&server, &["get", "json"]);
    assert_eq!((&entry["codec"], &entry["value"]["name"]), (&json!("json"), &json!("Ada")));
    let postcard = json(&server, &["get", "postcard"]);
    assert_eq!((&postcard["encoding"], &postcard["value"]), (&json!("hex"), &json!("ac02")));
    assert_eq!(postcard["payload_bytes"], 2);
    assert_eq!(json(&server, &["get", "raw"])["value"], "000174776f");
    assert_eq!(json(&server, &["get", "map"])["value"], json!({"7": "seven"}));

    assert_eq!(larder(&server, &["get", "raw", "--raw"]).ok().out, b"\x00\x01two");
    let plain: User = serde_json::from_slice(&larder(&server, &["get", "json", "--raw"]).ok().out).unwrap();
    assert_eq!(plain.name, "Ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_values_are_shown_and_written_without_their_compression() {
    let server = RedisServer::start();
    let long = "cache ".repeat(500);
    for (choice, name) in [(CompressionChoice::Lz4, "lz4"), (CompressionChoice::Zstd, "zstd")] {
        let cache = settings(&server).strategy(PATIENT.compression(choice)).build().await.unwrap();
        cache.set(name, long.clone()).codec(Json).await;
        let entry = json(&server, &["get", name]);
        assert_eq!((&entry["compression"], &entry["value"]), (&json!(name), &json!(long)));
        assert!(entry["bytes"].as_u64().unwrap() < 1000, "{}", entry["bytes"]);
        assert_eq!(larder(&server, &["get", name, "--raw"]).ok().out, format!("\"{long}\"").into_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_is_shown_as_its_number() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.increment("visits", 42).await.unwrap();

    let counter = json(&server, &["get", "visits"]);
    assert_eq!((&counter["kind"], &counter["value"]), (&json!("counter"), &json!(42)));
    assert_eq!((&counter["ttl_ms"], &counter["codec"]), (&json!(null), &json!(null)));
    let text = larder(&server, &["get", "visits"]).ok().text();
    assert!(text.contains("counter") && text.ends_with("42\n"), "{text}");
    assert!(json(&server, &["explain", "visits"])["verdict"].as_str().unwrap().contains("counter"));
}

#[test]
fn what_another_program_has_written_is_shown_and_told_apart() {
    let server = RedisServer::start();
    server.command(&["SET", "other:greeting", "hello\u{1b}[2J"]);
    server.command(&["SET", "other:plain", "hello"]);
    server.command(&["RPUSH", "other:list", "1"]);

    let plain = json(&server, &["get", "--canonical", "other:plain"]);
    assert_eq!((&plain["kind"], &plain["encoding"]), (&json!("foreign"), &json!("text")));
    assert_eq!(plain["value"], "hello");
    let text = larder(&server, &["get", "--canonical", "other:greeting"]).ok().text();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert_eq!(larder(&server, &["get", "--canonical", "other:plain", "--raw"]).ok().out, b"hello");
    assert_eq!(json(&server, &["explain", "--canonical", "other:plain"])["state"], "foreign");

    let list = larder(&server, &["--json", "get", "--canonical", "other:list"]).fails(1);
    assert_eq!((&list.json()["kind"], &list.json()["value"]), (&json!("other_type"), &json!(null)));
    assert_eq!(json(&server, &["explain", "--canonical", "other:list"])["kind"], "other_type");
}

#[test]
fn a_broken_entry_is_called_corrupt_and_one_of_a_newer_release_unknown() {
    let server = RedisServer::start();
    server.command(&["EVAL", "redis.call('SET', 'shop:broken', '\\193LRD\\1 cut off')", "0"]);
    server.command(&["EVAL", "redis.call('SET', 'shop:newer', '\\193LRD\\99 unknown')", "0"]);
    assert_eq!(json(&server, &["get", "broken"])["kind"], "corrupt");
    let newer = json(&server, &["explain", "newer"]);
    assert_eq!(newer["kind"], "unknown_version");
    assert!(newer["verdict"].as_str().unwrap().starts_with("a miss"), "{newer}");
}

#[test]
fn a_key_that_is_not_there_fails_get_and_not_explain() {
    let server = RedisServer::start();
    let missing = larder(&server, &["get", "nobody"]).fails(1);
    assert!(missing.err.contains("shop:nobody") && missing.out.is_empty(), "{missing:?}");
    let missing = larder(&server, &["--json", "get", "nobody"]).fails(1);
    assert_eq!(missing.json(), json!({"key": "shop:nobody", "found": false}));
    let explained = json(&server, &["explain", "nobody"]);
    assert_eq!((&explained["found"], &explained["verdict"]), (&json!(false), &json!("a miss: the key is not there")));
    assert!(larder(&server, &["explain", "nobody"]).ok().text().contains("a miss: the key is not there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_in_the_form_that_canonical_takes() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("user:1", 1_u8).await;
    cache.set("user:a b", 2_u8).forever().tag("t").await;
    cache.set(("ticker", "BTC:USDT"), 3_u8).await;
    server.command(&["SET", "other:user:9", "x"]);

    let users = json(&server, &["keys", "user:*"]);
    assert_eq!(users["truncated"], false);
    let names: Vec<_> = users["keys"].as_array().unwrap().iter().map(|key| key["key"].clone()).collect();
    assert_eq!(names, ["shop:user:1", "shop:user:a%20b"]);
    assert!(users["keys"][0]["ttl_ms"].as_u64().is_some_and(|ttl| ttl <= 600_000), "{users}");
    assert_eq!(users["keys"][1]["ttl_ms"], json!(null));

    let all = larder(&server, &["keys", "*"]).ok().text();
    assert!(all.contains("shop:ticker:BTC%3AUSDT") && all.contains("3 keys") && !all.contains("other"), "{all}");
    assert!(!all.contains("%tag") && !all.contains("%tags"), "{all}");
    assert!(larder(&server, &["keys", "*", "--internal"]).ok().text().contains("shop:%tag:t"));
    assert_eq!(json(&server, &["get", "--canonical", "shop:ticker:BTC%3AUSDT"])["value"], 3);
    assert_eq!(json(&server, &["get", "user:a b"])["value"], 2);
    assert_eq!(json(&server, &["keys", "--canonical", "other:*"])["keys"][0]["key"], "other:user:9");
    assert_eq!(larder(&server, &["keys", "nobody:*"]).ok().text(), "no key matches\n");
}

#[test]
fn a_limit_is_kept_and_told() {
    let server = RedisServer::start();
    for number in 0..30 {
        server.command(&["SET", &format!("shop:n:{number:02}"), "1"]);
    }
    let some = json(&server, &["keys", "n:*", "--limit", "10"]);
    assert_eq!((some["keys"].as_array().unwrap().len(), &some["truncated"]), (10, &json!(true)));
    assert!(larder(&server, &["keys", "n:*", "--limit", "10"]).ok().text().contains("--limit"));
    let exact = json(&server, &["keys", "n:*", "--limit", "30"]);
    assert_eq!((exact["keys"].as_array().unwrap().len(), &exact["truncated"]), (30, &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_tells_what_each_key_has_left() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("short", 1_u8).ttl(Duration::from_secs(300)).await;
    cache.set("endless", 1_u8).forever().await;

    let document = json(&server, &["ttl", "short", "endless", "nobody"]);
    let keys = &document["keys"];
    assert!(keys[0]["ttl_ms"].as_u64().is_some_and(|ttl| (1..=300_000).contains(&ttl)), "{document}");
    assert_eq!(keys[1], json!({"key": "shop:endless", "found": true, "ttl_ms": null}));
    assert_eq!(keys[2], json!({"key": "shop:nobody", "found": false, "ttl_ms": null}));
    let text = larder(&server, &["ttl", "short", "endless", "nobody"]).ok().text();
    assert!(text.contains("never") && text.contains("(no such key)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_why_a_read_would_be_a_hit_or_a_miss() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("user:7", user()).tag("team:a").tag("team:b").await;

    let hit = json(&server, &["explain", "user:7"]);
    assert_eq!((&hit["verdict"], &hit["state"]), (&json!("a hit"), &json!("fresh")));
    assert!(hit["fresh_ms"].as_u64().is_some_and(|left| (1..=600_000).contains(&left)), "{hit}");

    cache.invalidate().tag("team:b").await.unwrap();
    let miss = json(&server, &["explain", "user:7"]);
    assert_eq!((&miss["verdict"], &miss["state"]), (&json!("a miss: invalidated by the tag team:b"), &json!("dead")));
    assert_eq!(miss["tags"], json!([{"tag": "team:a", "holds": true}, {"tag": "team:b", "holds": false}]));
    let text = larder(&server, &["explain", "user:7"]).ok().text();
    assert!(text.contains("team:b (invalidated)") && text.contains("invalidated by the tag"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_under_way_is_no_value() {
    let server = RedisServer::start();
    let strategy = PATIENT.cache_none(Some(Duration::from_secs(300)));
    let cache = settings(&server).strategy(strategy).build().await.unwrap();
    let go_on = Arc::new(Notify::new());
    let (loading, wait) = (cache.clone(), Arc::clone(&go_on));
    let load = tokio::spawn(async move {
        let loader = || async move {
            wait.notified().await;
            Ok::<_, Infallible>(None::<String>)
        };
        loading.get_or_load_optional("slow", loader).await.unwrap()
    });
    until("the load has begun", || async { server.command(&["EXISTS", "shop:slow"]) == "1" }).await;

    assert_eq!(json(&server, &["explain", "slow"])["verdict"], "a miss: a process is loading it");
    let no_value = larder(&server, &["get", "slow"]).fails(1);
    assert!(no_value.err.contains("a process is loading it"), "{no_value:?}");

    go_on.notify_one();
    assert_eq!(load.await.unwrap(), None);
}
