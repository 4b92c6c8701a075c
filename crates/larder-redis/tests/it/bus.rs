//! The bus: what one process publishes the other hears, and a link in doubt is said to be lost.

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use larder_core::{BackendExt, Bus, BusEvent, BusSource, ErrorKind};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::server::{backend_of, config_of, key, until, within};

async fn bus_of(server: &RedisServer, channel: &str) -> Box<dyn Bus> {
    backend_of(server).await.open_bus(channel).await.unwrap()
}

async fn next(events: &mut BoxStream<'static, BusEvent>) -> BusEvent {
    within(events.next()).await.expect("the stream goes on until it is dropped")
}

#[tokio::test]
async fn what_one_publishes_the_others_hear_in_order_and_other_channels_do_not() {
    let server = RedisServer::start();
    let (ours, theirs, strangers) =
        (bus_of(&server, "one").await, bus_of(&server, "one").await, bus_of(&server, "two").await);
    let mut heard = [ours.events(), theirs.events()];
    let mut stranger = strangers.events();
    for events in heard.iter_mut().chain([&mut stranger]) {
        assert_eq!(next(events).await, BusEvent::Confirmed);
    }
    let binary = &b"\x00\xff\r\n*1"[..];
    assert_eq!(ours.publish("first".into()).await.unwrap(), 2);
    assert_eq!(ours.publish(binary.into()).await.unwrap(), 2);
    assert_eq!(strangers.publish("other".into()).await.unwrap(), 1);
    for events in &mut heard {
        assert_eq!(next(events).await, BusEvent::Message("first".into()));
        assert_eq!(next(events).await, BusEvent::Message(binary.into()));
    }
    assert_eq!(next(&mut stranger).await, BusEvent::Message("other".into()));
}

#[tokio::test]
async fn nobody_hears_after_the_stream_is_dropped() {
    let server = RedisServer::start();
    let bus = bus_of(&server, "one").await;
    let mut events = bus.events();
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    drop(events);
    within(async {
        while bus.publish("x".into()).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_is_a_lost_link_and_a_restarted_one_a_confirmed_link() {
    let mut server = RedisServer::start();
    let bus = bus_of(&server, "one").await;
    let mut events = bus.events();
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    for _ in 0..2 {
        server.kill();
        assert_eq!(next(&mut events).await, BusEvent::Lost);
        assert_eq!(within(bus.publish("x".into())).await.unwrap_err().kind(), ErrorKind::Unavailable);
        server.restart();
        assert_eq!(next(&mut events).await, BusEvent::Confirmed);
        within(async { while !bus.publish("back".into()).await.is_ok_and(|receivers| receivers == 1) {} }).await;
        assert_eq!(next(&mut events).await, BusEvent::Message("back".into()));
    }
}

#[tokio::test]
async fn a_link_that_is_silent_without_being_closed_is_lost() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config =
        RedisConfig::builder().port(proxy.port()).command_deadline(Duration::from_millis(100)).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut events = backend.open_bus("one").await.unwrap().events();
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    proxy.set(ProxyMode::Blackhole).await;
    assert_eq!(next(&mut events).await, BusEvent::Lost);
    proxy.set(ProxyMode::Pass).await;
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
}

#[tokio::test]
async fn a_bus_is_opened_while_the_server_is_away_and_confirmed_when_it_comes() {
    let mut server = RedisServer::start();
    server.kill();
    let backend = RedisBackend::new(config_of(&server).build().unwrap()).unwrap();
    let mut events = backend.open_bus("one").await.unwrap().events();
    assert!(futures_util::poll!(events.next()).is_pending());
    assert_eq!(within(backend.get(&key("a"))).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart();
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
}

#[tokio::test]
async fn a_subscriber_that_the_server_throws_out_comes_back() {
    let server = RedisServer::start();
    let bus = bus_of(&server, "one").await;
    let mut events = bus.events();
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(next(&mut events).await, BusEvent::Lost);
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
}

#[tokio::test]
async fn a_subscriber_that_takes_its_messages_too_slowly_for_the_server_is_told_of_the_loss() {
    let server = RedisServer::start();
    server.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0"]);
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut events = backend.open_bus("one").await.unwrap().events();
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    proxy.set(ProxyMode::Blackhole).await;
    let message = "x".repeat(1 << 20);
    while server.command(&["PUBLISH", "one", &message]) == "1" {
        tokio::task::yield_now().await;
    }
    proxy.set(ProxyMode::Pass).await;
    let lost = async { while next(&mut events).await != BusEvent::Lost {} };
    within(lost).await;
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    server.command(&["PUBLISH", "one", "last"]);
    assert_eq!(next(&mut events).await, BusEvent::Message("last".into()));
}

#[tokio::test]
async fn a_link_to_another_server_than_the_data_connections_is_not_confirmed() {
    let (ours, other) = (RedisServer::start(), RedisServer::start());
    let proxy = FaultProxy::start(ours.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let connections = proxy.connections();
    proxy.lead_to(other.address());
    let mut events = backend.open_bus("one").await.unwrap().events();
    within(async {
        while proxy.connections() < connections + 3 {
            assert!(futures_util::poll!(events.next()).is_pending());
            tokio::task::yield_now().await;
        }
    })
    .await;
    proxy.lead_to(ours.address());
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    assert_eq!(ours.command(&["PUBSUB", "NUMSUB", "one"]), "one\n1");
}

#[tokio::test]
async fn a_link_is_lost_when_the_data_connections_lead_to_another_server() {
    let (ours, other) = (RedisServer::start(), RedisServer::start());
    let proxy = FaultProxy::start(ours.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut events = backend.open_bus("one").await.unwrap().events();
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    proxy.lead_to(other.address());
    // The bus is no normal client, and stays.
    ours.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert_eq!(next(&mut events).await, BusEvent::Lost);
    assert_eq!(next(&mut events).await, BusEvent::Confirmed);
    assert_eq!(other.command(&["PUBSUB", "NUMSUB", "one"]), "one\n1");
}
