//! What servers refuse, beside what `errors` tests: each is told apart, says whether waiting helps, and passes by itself.

use std::{net::TcpStream, sync::Arc, time::Duration};

use larder_core::{Backend, BackendExt, Counter, Error, ErrorKind, Key, Result, SetItem};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{RedisCluster, RedisServer};

use crate::server::{backend_of, config_of, key, plain, until, within};

/// The error's kind, whether waiting helps, and a word of its advice.
fn check(error: &Error, kind: ErrorKind, is_transient: bool, advice: &str) {
    assert_eq!((error.kind(), error.is_transient()), (kind, is_transient), "{error}");
    assert!(error.message().contains(advice), "{error}");
}

async fn set(backend: &RedisBackend, name: &str) -> Result<larder_core::SetOutcome> {
    within(backend.set(&key(name), "1".into(), plain())).await
}

#[tokio::test]
async fn a_full_server_may_have_room_later() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    check(&set(&backend, "a").await.unwrap_err(), ErrorKind::OutOfMemory, true, "maxmemory");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(set(&backend, "a").await.unwrap().is_stored());
    assert_eq!(backend.state().opened(), backend.state().connected() as u64, "memory is no fault of a socket");
}

#[tokio::test]
async fn a_replica_becomes_a_primary_and_is_written_to() {
    let primary = RedisServer::start();
    let replica = RedisServer::builder().option("replicaof", format!("127.0.0.1 {}", primary.port())).start();
    let backend = backend_of(&replica).await;
    check(&set(&backend, "a").await.unwrap_err(), ErrorKind::ReadOnly, true, "primary");
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    assert!(until(async || set(&backend, "a").await, Result::is_ok).await.unwrap().is_stored());
}

#[tokio::test]
async fn a_replica_that_lost_its_primary_waits_for_the_failover() {
    let mut primary = RedisServer::start();
    let replica = RedisServer::builder()
        .option("replicaof", format!("127.0.0.1 {}", primary.port()))
        .option("replica-serve-stale-data", "no")
        .start();
    primary.kill();
    let backend = RedisBackend::new(config_of(&replica).build().unwrap()).unwrap();
    let is_down = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::PrimaryDown);
    let error = until(async || backend.get(&key("a")).await, is_down).await.unwrap_err();
    check(&error, ErrorKind::PrimaryDown, true, "failover");
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_primary_that_lacks_replicas_takes_no_writes() {
    let server = RedisServer::builder().option("min-replicas-to-write", 1).start();
    let backend = backend_of(&server).await;
    check(&set(&backend, "a").await.unwrap_err(), ErrorKind::ReadOnly, true, "replicate");
    assert_eq!(backend.get(&key("a")).await.unwrap(), None);
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert!(set(&backend, "a").await.unwrap().is_stored());
}

#[tokio::test]
async fn a_server_that_runs_a_script_for_long_is_unavailable_and_comes_back() {
    let server = Arc::new(RedisServer::builder().option("busy-reply-threshold", 1).start());
    let backend = backend_of(&server).await;
    let running = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || server.try_command(&["EVAL", "while true do end", "0"])
    });
    let is_busy = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.message().contains("script"));
    let error = until(async || backend.get(&key("a")).await, is_busy).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, true, "script");
    server.command(&["SCRIPT", "KILL"]);
    within(running).await.unwrap().unwrap_err();
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_wrong_needs_a_hand() {
    let server = RedisServer::builder().password("s3cret").start();
    let at = || RedisConfig::builder().port(server.port());
    for config in [at(), at().password("hunter2"), at().user("nobody").password("hunter2")] {
        let error = within(RedisBackend::connect(config.build().unwrap())).await.unwrap_err();
        check(&error, ErrorKind::Auth, false, "`password`");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_right_that_is_lacking_needs_a_hand_and_its_socket_stays() {
    let server = RedisServer::builder().acl("user ada on >s3cret ~mine:* +@all").start();
    let config = RedisConfig::builder().port(server.port()).user("ada").password("s3cret").sockets(1);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    let items = [SetItem::new(key("mine:a"), "1", plain()), SetItem::new(key("theirs:a"), "1", plain())];
    let answers = within(backend.set_many(&items)).await;
    assert!(answers[0].as_ref().unwrap().is_stored());
    check(answers[1].as_ref().unwrap_err(), ErrorKind::Auth, false, "ACL");
    let mortal = backend.increment(&key("theirs:n"), 1, Some(Duration::from_secs(9))).await.unwrap_err();
    check(&mortal, ErrorKind::Auth, false, "ACL");
    server.command(&["ACL", "SETUSER", "ada", "allkeys"]);
    assert!(set(&backend, "theirs:a").await.unwrap().is_stored());
    assert_eq!(backend.state().opened(), 1);
}

#[tokio::test]
async fn a_user_that_is_deleted_is_refused_and_used_again_when_it_is_back() {
    let server = RedisServer::builder().acl("user ada on >s3cret ~* &* +@all").start();
    let config = RedisConfig::builder().port(server.port()).user("ada").password("s3cret").sockets(1);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    assert!(set(&backend, "a").await.unwrap().is_stored());
    // This also closes the user's connections.
    server.command(&["ACL", "DELUSER", "ada"]);
    let is_refused = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Auth);
    let error = until(async || backend.get(&key("a")).await, is_refused).await.unwrap_err();
    check(&error, ErrorKind::Auth, false, "`password`");
    server.command(&["ACL", "SETUSER", "ada", "on", ">s3cret", "~*", "&*", "+@all"]);
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_server_without_room_for_a_client_says_so_and_takes_it_later() {
    let server = RedisServer::builder().option("maxclients", 4).start();
    let others: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let backend = RedisBackend::new(config_of(&server).sockets(1).build().unwrap()).unwrap();
    let error = within(backend.get(&key("a"))).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, true, "maxclients");
    drop(others);
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_needs_a_hand() {
    let server = RedisServer::builder().databases(2).start();
    let config = config_of(&server).database(2).build().unwrap();
    let error = within(RedisBackend::connect(config)).await.unwrap_err();
    check(&error, ErrorKind::Config, false, "`database`");
}

#[tokio::test]
async fn a_single_address_of_a_cluster_is_a_wrong_setting() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let other = (cluster.primary_of("a") + 1) % 3;
    let backend = backend_of(cluster.node(other)).await;
    check(&set(&backend, "a").await.unwrap_err(), ErrorKind::Config, false, "cluster");
}

#[tokio::test]
async fn a_cluster_that_lacks_slots_is_unavailable_until_it_has_them() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let deadline = Duration::from_secs(2);
    let config = RedisConfig::builder().url(cluster.url()).connect_deadline(deadline).command_deadline(deadline);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    assert!(set(&backend, "a").await.unwrap().is_stored());
    let (slot, owner) = (cluster.slot_of("a").to_string(), cluster.primary_of("a"));
    cluster.node(owner).command(&["CLUSTER", "DELSLOTS", &slot]);
    let error = until(async || set(&backend, "a").await, Result::is_err).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, true, "cluster");
    let items: Vec<_> = [Key::new("a")].map(|key| SetItem::new(key, "2", plain())).into();
    let error = within(backend.set_many(&items)).await.pop().unwrap().unwrap_err();
    check(&error, ErrorKind::Unavailable, true, "cluster");
    assert_eq!(error.key(), Some(&key("a")));
    cluster.node(owner).command(&["CLUSTER", "ADDSLOTS", &slot]);
    assert!(until(async || set(&backend, "a").await, Result::is_ok).await.unwrap().is_stored());
}
