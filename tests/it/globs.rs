//! The globs of `data/glob-cases.json` (drawn from the pages and test suites of Redis, Valkey and miniredis) mean the same to
//! a live server, to the Redis backend and to the memory backend; and random ones mean the same to Larder and to the server.

#![expect(clippy::unwrap_used, reason = "what the tests of this file share fails by a panic")]

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use larder_core::{Backend, BackendExt, Key, Pattern, Scan, SetOptions, glob_matches};
use larder_memory::MemoryBackend;
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;

fn texts(list: &serde_json::Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// What a scan with this pattern finds among these keys, which are all that the backend then holds.
async fn found<B: Backend + Scan>(backend: &B, pattern: &str, keys: &[&str]) -> BTreeSet<String> {
    for name in keys {
        let stored = backend.set(&Key::from_canonical(*name), "1".into(), SetOptions::new()).await;
        assert!(stored.unwrap().is_stored());
    }
    let glob = Pattern::from_canonical(pattern);
    let pages: Vec<Vec<Key>> = backend.scan(&glob, 10).try_collect().await.unwrap();
    backend.delete_pattern(&Pattern::everything()).await.unwrap();
    pages.concat().iter().map(|key| key.as_str().to_owned()).collect()
}

#[tokio::test]
async fn globs_mean_the_same_to_the_server_and_to_every_backend() {
    let server = RedisServer::start();
    let redis = RedisBackend::connect(RedisConfig::from_url(server.url()).unwrap()).await.unwrap();
    let memory = MemoryBackend::builder().build().unwrap();
    let table: serde_json::Value = serde_json::from_str(include_str!("../data/glob-cases.json")).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() >= 21);
    for case in cases {
        let pattern = case["pattern"].as_str().unwrap();
        let (matching, others) = (texts(&case["match"]), texts(&case["no_match"]));
        let all = [matching.as_slice(), others.as_slice()].concat();
        let wanted: BTreeSet<String> = matching.iter().map(|text| (*text).to_owned()).collect();
        for name in &all {
            server.command(&["SET", name, "1"]);
        }
        let listed: BTreeSet<String> = server.command(&["KEYS", pattern]).lines().map(str::to_owned).collect();
        assert_eq!(listed, wanted, "the server itself: {pattern}");
        assert_eq!(found(&redis, pattern, &all).await, wanted, "redis: {pattern}");
        assert_eq!(found(&memory, pattern, &all).await, wanted, "memory: {pattern}");
    }
}

fn random_text(random: &mut fastrand::Rng, letters: &[&str], most: usize) -> String {
    let length = random.usize(1..=most);
    (0..length).map(|_| letters[random.usize(..letters.len())]).collect()
}

/// Whether a class may have a range from an ASCII byte to another: which bytes lie between depends on whether the server's
/// machine has signed characters.
fn may_range_beyond_ascii(pattern: &str) -> bool {
    !pattern.is_ascii() && pattern.contains('[') && pattern.contains('-')
}

#[test]
fn random_globs_match_the_same_random_keys_here_and_on_the_server() {
    let server = RedisServer::start();
    let mut random = fastrand::Rng::with_seed(7);
    // Those of a class more often, since most combinations of them are malformed in some way.
    let letters = ["a", "b", "c", "d", "-", "^", "]", "[", "\\", "*", "?", "é", "ж", ":"];
    let special = ["[", "]", "^", "-", "\\", "*", "*", "?", "[a-", "-c]", "[^", "[\\", "\\]"];
    let keys: BTreeSet<String> = (0..400).map(|_| random_text(&mut random, &letters, 5)).collect();
    for key in &keys {
        server.command(&["SET", key, "1"]);
    }
    let mut matched = 0;
    for _ in 0..4000 {
        let pattern: String = (0..random.usize(1..=4))
            .map(|_| {
                let letters = if random.bool() { special.as_slice() } else { &letters };
                random_text(&mut random, letters, 3)
            })
            .collect();
        if may_range_beyond_ascii(&pattern) {
            continue;
        }
        let answer = server.command(&["KEYS", &pattern]);
        let there: BTreeSet<&str> = answer.lines().filter(|key| !key.is_empty()).collect();
        let here = keys.iter().map(String::as_str).filter(|key| glob_matches(pattern.as_bytes(), key.as_bytes()));
        assert_eq!(here.collect::<BTreeSet<_>>(), there, "{pattern:?}");
        matched += there.len();
    }
    assert!(matched > 10_000, "the patterns match too little to say anything: {matched}");
}
