//! Smoke runs on Redis servers of the demo's own, which fail in the middle.

use std::{sync::Arc, time::Duration};

use larder::Cache;
use larder_demo::{
    exchange::ExchangeOptions,
    market::Market,
    smoke::{self, Outage, SmokeOptions},
    topology::{Servers, Topology},
};

/// No request fails, no answer is wrong, and the remote tier is used again.
async fn survives(topology: Topology) {
    let servers = tokio::task::spawn_blocking(move || Servers::start(topology)).await.unwrap().unwrap();
    let outage = Outage::new(topology, servers);
    let cache = Cache::builder().namespace("demo").redis(outage.url()).build().await.unwrap();
    let market = Arc::new(Market::of_symbols(7, ["BTCUSDT", "ETHUSDT"]).unwrap());
    let mut options = SmokeOptions::new(7, Duration::from_millis(500));
    options.exchange = ExchangeOptions::default().with_latency(None).with_limit(None);
    options.progress = false;
    options.outage = Some(outage);
    let report = smoke::run(market, cache, &options).await.unwrap();
    assert!(report.is_passed(), "{report}");
    let seen = report.outage.as_ref().unwrap();
    assert!(seen.requests > 0 && seen.used_again_after.is_some(), "{report}");
    assert_eq!(report.to_json()["outage"]["failed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_costs_no_request() {
    survives(Topology::Standalone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_behind_sentinels_costs_no_request() {
    survives(Topology::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_in_a_cluster_costs_no_request() {
    survives(Topology::Cluster).await;
}
