//! `larder memory` and `larder bigkeys`.

use larder_testing::{RedisCluster, RedisServer};

use crate::{json, larder, run};

fn filled() -> RedisServer {
    let server = RedisServer::start();
    for index in 0..40 {
        server.command(&["SET", &format!("shop:user:{index}"), "v", "EX", "3000"]);
        server.command(&["SET", &format!("shop:api:ticker:{index}"), &"v".repeat(5_000)]);
    }
    server.command(&["RPUSH", "queue", "a", "b"]);
    server
}

#[test]
fn memory_is_told_by_prefix() {
    let server = filled();
    let document = json(&server, &["memory"]);
    assert_eq!((&document["keys"], &document["total"], &document["complete"]), (&81.into(), &81.into(), &true.into()));
    let prefixes: Vec<_> =
        document["prefixes"].as_array().unwrap().iter().map(|it| it["prefix"].as_str().unwrap()).collect();
    assert_eq!(prefixes, ["shop:api:", "shop:user:", ""]);
    let api = &document["prefixes"][0];
    assert_eq!((&api["keys"], &api["without_ttl"], &api["estimated_keys"]), (&40.into(), &40.into(), &40.into()));
    assert!(api["bytes"].as_u64().unwrap() >= 200_000, "{document}");
    let kinds: Vec<_> = document["kinds"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["list", "string"]);
}

#[test]
fn the_depth_of_prefixes_and_their_number_can_be_set() {
    let server = filled();
    let document = json(&server, &["memory", "--depth", "1", "--limit", "1"]);
    assert_eq!((&document["prefixes"][0]["prefix"], &document["truncated"]), (&"shop:".into(), &true.into()));
    assert_eq!(document["prefixes"].as_array().unwrap().len(), 1);
    let document = json(&server, &["memory", "--depth", "3"]);
    assert_eq!(document["prefixes"][0]["prefix"], "shop:api:ticker:");
    let text = larder(&server, &["memory", "--limit", "1"]).ok().text();
    assert!(text.contains("2 more prefixes") && text.contains("81 of 81 keys looked at"), "{text}");
}

#[test]
fn a_part_is_extended_to_the_whole() {
    let server = RedisServer::start();
    for index in 0..1_000 {
        server.command(&["SET", &format!("shop:user:{index:04}"), "value"]);
    }
    let document = json(&server, &["memory", "--sample", "100"]);
    let user = &document["prefixes"][0];
    assert_eq!((&document["keys"], &user["keys"], &user["estimated_keys"]), (&100.into(), &100.into(), &1_000.into()));
    assert_eq!(user["estimated_bytes"].as_u64().unwrap(), user["bytes"].as_u64().unwrap() * 10);
}

#[test]
fn big_keys_are_listed_with_the_biggest_first() {
    let server = filled();
    server.command(&["SET", "shop:huge", &"v".repeat(100_000)]);
    let document = json(&server, &["bigkeys", "--limit", "2"]);
    let biggest = document["biggest"].as_array().unwrap();
    assert_eq!((biggest.len(), &biggest[0]["key"], &biggest[0]["ttl_ms"]), (2, &"shop:huge".into(), &().into()));
    assert!(biggest[0]["bytes"].as_u64().unwrap() > biggest[1]["bytes"].as_u64().unwrap());
    let text = larder(&server, &["bigkeys"]).ok().text();
    assert!(text.contains("shop:huge") && text.contains("string"), "{text}");
}

#[test]
fn all_primaries_of_a_cluster_are_looked_at() {
    let cluster = RedisCluster::builder().replicas(0).start();
    for node in 0..3 {
        let key = (0..).map(|it| format!("shop:user:{it}")).find(|key| cluster.primary_of(key) == node).unwrap();
        cluster.node(node).command(&["SET", &key, "v"]);
    }
    let answer = run(&["--redis", &cluster.url(), "--deadline", "10s", "--json", "memory"], &[]).ok();
    assert_eq!(answer.json()["prefixes"][0]["keys"], 3);
}

#[test]
fn an_empty_server_has_nothing_to_show() {
    let server = RedisServer::start();
    assert_eq!(json(&server, &["memory"])["keys"], 0);
    assert_eq!(json(&server, &["bigkeys"])["biggest"], serde_json::json!([]));
}

#[test]
fn a_user_without_the_right_is_told_which() {
    let server = RedisServer::builder().acl("user shop on >secret ~shop:* +@all -memory").start();
    server.command(&["SET", "shop:1", "v"]);
    let url = server.url().replace("://", "://shop:secret@");
    let answer = run(&["--redis", &url, "--deadline", "10s", "memory"], &[]).fails(1);
    assert!(answer.err.contains("MEMORY USAGE"), "{answer:?}");
}
