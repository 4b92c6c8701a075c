//! `delete` and `invalidate`, and that a running cache hears of them.

use larder::Cache;
use larder_testing::RedisServer;
use serde_json::json;

use crate::{json, larder, run, service, until};

/// What the cache would answer from its memory alone.
async fn near(cache: &Cache, key: &str) -> Option<u32> {
    cache.near().get::<_, u32>(key).await.map(|value| *value)
}

async fn drops(cache: &Cache, key: &str) {
    until("the running cache has dropped it", || async { near(cache, key).await.is_none() }).await;
    assert_eq!(cache.get::<_, u32>(key).await, None, "{key}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_gone_from_the_server_and_from_a_running_cache() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    for key in ["a", "b", "c"] {
        cache.set(key, 1_u32).await;
    }
    cache.increment("visits", 1).await.unwrap();
    assert_eq!(near(&cache, "a").await, Some(1));

    let document = json(&server, &["delete", "a", "a", "nobody", "visits"]);
    assert_eq!(document, json!({"keys": 3, "deleted": 2, "complete": true}));
    drops(&cache, "a").await;
    assert_eq!(cache.counter("visits").await.unwrap(), None);

    assert_eq!(larder(&server, &["delete", "b"]).ok().text(), "1 of 1 key deleted\n");
    drops(&cache, "b").await;
    assert_eq!(near(&cache, "c").await, Some(1));
    json(&server, &["delete", "--canonical", "shop:c"]);
    drops(&cache, "c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_tags_and_patterns_are_invalidated_in_a_running_cache() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    for key in ["key", "report:1", "report:2", "kept"] {
        cache.set(key, 1_u32).await;
    }
    cache.set("tagged", 1_u32).tag("team:a").await;

    let arguments = ["invalidate", "--key", "key", "--tag", "team:a", "--pattern", "report:*"];
    let document = json(&server, &arguments);
    assert_eq!((&document["complete"], &document["dry_run"]), (&json!(true), &json!(false)));
    let targets = document["targets"].as_array().unwrap();
    assert_eq!(targets[0], json!({"target": "key shop:key", "removed": 1}));
    assert!(targets.contains(&json!({"target": "pattern shop:report:*", "removed": 2})), "{document}");
    for key in ["key", "report:1", "report:2", "tagged"] {
        drops(&cache, key).await;
    }
    assert_eq!(near(&cache, "kept").await, Some(1));

    let text = larder(&server, &["invalidate", "--key", "kept"]).ok().text();
    assert!(text.contains("key shop:kept") && text.contains("keys removed"), "{text}");
    drops(&cache, "kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn symbols_exchanges_users_and_regions_are_invalidated() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    for (option, value, gone) in [
        ("--symbol", "BTC", "api:ticker:BTC"),
        ("--exchange", "binance", "db:pairs:binance"),
        ("--user", "7", "session:7"),
        ("--region", "prices", "prices:x"),
        ("--region", "prices:", "prices:y"),
    ] {
        cache.set(gone, 1_u32).await;
        cache.set("api:ticker:BTCUSDT", 2_u32).await;
        let document = json(&server, &["invalidate", option, value]);
        assert_eq!(document["removed"], 1, "{document}");
        drops(&cache, gone).await;
        assert_eq!(near(&cache, "api:ticker:BTCUSDT").await, Some(2), "{option}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_and_changes_nothing() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("report:1", 1_u32).tag("t").await;

    let arguments = ["invalidate", "--dry-run", "--pattern", "report:*", "--tag", "t"];
    let document = json(&server, &arguments);
    assert_eq!((&document["dry_run"], &document["keys"], &document["exact"]), (&json!(true), &json!(1), &json!(false)));
    assert_eq!((&document["listed"], &document["truncated"]), (&json!(["shop:report:1"]), &json!(false)));
    let text = larder(&server, &arguments).ok().text();
    assert!(text.contains("nothing was changed") && text.contains("shop:report:1"), "{text}");
    assert!(text.contains("which entries carry a tag is kept nowhere"), "{text}");
    for report in 2..5 {
        cache.set(format!("report:{report}"), 1_u32).await;
    }
    let arguments =
        ["invalidate", "--dry-run", "--pattern", "report:*", "--key", "report:1", "--key", "none", "--limit", "2"];
    let document = json(&server, &arguments);
    assert_eq!((&document["keys"], &document["exact"]), (&json!(5), &json!(true)));
    assert_eq!(
        (&document["listed"], &document["truncated"]),
        (&json!(["shop:report:1", "shop:report:2"]), &json!(true))
    );
    assert!(larder(&server, &arguments).ok().text().contains("and more"));
    let everything = json(&server, &["invalidate", "--dry-run", "--everything"]);
    assert_eq!(everything["keys"], 4, "what Larder keeps for itself is not counted: {everything}");
    assert_eq!(server.command(&["EXISTS", "shop:report:1"]), "1");
    assert_eq!(near(&cache, "report:1").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_region_counts_each_key_once() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    let prices = cache.region::<str, u32>("prices").build().unwrap();
    assert!(prices.set("x", 1).await);
    cache.set("prices:y", 2_u32).await;
    let document = json(&server, &["invalidate", "--dry-run", "--region", "prices"]);
    assert_eq!((&document["keys"], &document["exact"]), (&json!(2), &json!(true)), "{document}");
    assert_eq!(document["listed"], json!(["shop:prices:x", "shop:prices:y"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_lists_every_key_that_goes_also_those_that_begin_with_what_is_absent_or_a_list() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set((None::<&str>, 1), 1_u32).await;
    cache.set((vec!["a"], 1), 1_u32).await;
    cache.set((Some(Some("x")), 1), 1_u32).await;
    let keys = json!(["shop:%(a%,%):1", "shop:%n:1", "shop:%sx:1"]);
    let listed = json(&server, &["invalidate", "--dry-run", "--pattern", "*:1"]);
    assert_eq!(listed["listed"], keys);
    let found = json(&server, &["keys", "*:1"]);
    let found: Vec<_> = found["keys"].as_array().unwrap().iter().map(|key| &key["key"]).collect();
    assert_eq!(json!(found), keys);
    assert_eq!(json(&server, &["invalidate", "--pattern", "*:1"])["removed"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_invalidated_only_if_it_is_confirmed_and_only_in_the_namespace() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("a", 1_u32).await;
    server.command(&["SET", "other:a", "x"]);

    let refused = larder(&server, &["invalidate", "--everything"]).fails(2);
    assert!(refused.err.contains("--yes"), "{refused:?}");
    assert_eq!(near(&cache, "a").await, Some(1));

    json(&server, &["invalidate", "--everything", "--yes"]);
    drops(&cache, "a").await;
    // The bytes go with their TTL; no process serves them any more.
    assert_eq!(server.command(&["EXISTS", "other:a"]), "1");
    assert_eq!(cache.get::<_, u32>("a").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn canonical_targets_stay_within_the_namespace() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set(("pair", "BTC:USDT"), 1_u32).await;
    server.command(&["SET", "other:a", "x"]);
    for arguments in [
        &["delete", "--canonical", "other:a"][..],
        &["invalidate", "--canonical", "--key", "other:a"],
        &["invalidate", "--canonical", "--pattern", "other:*"],
        &["invalidate", "--canonical", "--pattern", "shop:*"],
    ] {
        larder(&server, arguments).fails(2);
    }
    assert_eq!(server.command(&["EXISTS", "other:a"]), "1");
    let arguments = ["invalidate", "--canonical", "--key", "shop:pair:BTC%3AUSDT"];
    assert_eq!(json(&server, &arguments)["removed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_publish_is_told() {
    let server = RedisServer::start();
    let cache = service(&server).await;
    cache.set("a", 1_u32).await;
    server.command(&["ACL", "SETUSER", "mute", "on", ">pw", "~*", "&*", "+@all", "-publish"]);
    let url = server.url().replace("redis://", "redis://mute:pw@");

    let answer = run(&["--redis", &url, "-n", "shop", "--json", "delete", "a"], &[]).fails(1);
    assert!(answer.err.contains("may not publish"), "{answer:?}");
    assert_eq!(answer.json()["complete"], false);
    assert_eq!(near(&cache, "a").await, Some(1));
}
