//! `larder doctor` before servers that are fit for a cache, and not.

use larder_testing::RedisServer;
use serde_json::Value;

use crate::{larder, run};

fn grade<'a>(document: &'a Value, check: &str) -> &'a str {
    let findings = document["findings"].as_array().expect("a list of findings");
    let finding = findings.iter().find(|finding| finding["check"] == check).expect("the check was made");
    finding["grade"].as_str().expect("a grade")
}

#[test]
fn a_server_with_a_limit_and_eviction_is_fit() {
    let server = RedisServer::builder().max_memory_bytes(64 << 20).option("maxmemory-policy", "allkeys-lru").start();
    let document = larder(&server, &["--json", "doctor", "--pings", "20"]).ok().json();
    assert_eq!((&document["fit"], &document["ping_us"]["count"]), (&true.into(), &20.into()), "{document}");
    assert_eq!(grade(&document, "maxmemory-policy"), "ok");
    let text = larder(&server, &["doctor", "--pings", "1"]).ok().text();
    assert!(text.ends_with("\nfit for a cache\n"), "{text}");
}

#[test]
fn a_server_as_redis_ships_it_is_not_fit() {
    let server = RedisServer::start();
    let answer = larder(&server, &["--json", "doctor", "--pings", "1"]).fails(1);
    assert!(answer.err.contains("maxmemory, maxmemory-policy"), "{answer:?}");
    let document = answer.json();
    assert_eq!(document["fit"], false);
    assert_eq!((grade(&document, "maxmemory"), grade(&document, "version")), ("warning", "ok"));
}

#[test]
fn advice_leaves_a_server_fit() {
    let server = RedisServer::builder().max_memory_bytes(64 << 20).option("maxmemory-policy", "volatile-lru").start();
    server.command(&["SET", "for-ever", "1"]);
    let document = larder(&server, &["--json", "doctor", "--pings", "1"]).ok().json();
    assert_eq!((grade(&document, "maxmemory-policy"), grade(&document, "keys without TTL")), ("advice", "advice"));
}

#[test]
fn no_pings_or_too_many_are_wrong_arguments() {
    for pings in ["0", "1000001", "x"] {
        let answer = run(&["doctor", "--pings", pings], &[]);
        assert_eq!(answer.code, 2, "{answer:?}");
    }
}
