//! What goes wrong is told apart, and each error says what to do.

use std::time::Duration;

use larder_core::{
    Atomic, Backend, BackendExt, BusSource, Bytes, Counter, ErrorKind, Expected, GetOptions, Lock, Result, SetItem,
};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::server::{backend_of, config_of, key, plain, until, within};

async fn kind_of_ping(config: RedisConfig) -> ErrorKind {
    let error = within(RedisBackend::connect(config)).await.unwrap_err();
    assert_eq!(error.operation(), "ping");
    assert!(!error.message().is_empty() && !error.to_string().contains("hunter2"), "{error}");
    error.kind()
}

#[tokio::test]
async fn a_wrong_and_a_missing_password_are_refused_and_the_right_one_is_accepted() {
    let server = RedisServer::builder().password("s3cret").start();
    let at = || RedisConfig::builder().host("127.0.0.1").port(server.port());
    assert_eq!(kind_of_ping(at().password("hunter2").build().unwrap()).await, ErrorKind::Auth);
    assert_eq!(kind_of_ping(at().build().unwrap()).await, ErrorKind::Auth);
    within(RedisBackend::connect(at().password("s3cret").build().unwrap())).await.unwrap();
}

#[tokio::test]
async fn a_user_without_the_right_is_told_so_and_keeps_those_it_has() {
    let server = RedisServer::builder().acl("user reader on >s3cret ~* +get +ping").start();
    let config = RedisConfig::builder().port(server.port()).user("reader").password("s3cret").build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    assert_eq!(backend.get(&key("a")).await.unwrap(), None);
    assert_eq!(backend.set(&key("a"), "1".into(), plain()).await.unwrap_err().kind(), ErrorKind::Auth);
    assert_eq!(backend.get(&key("a")).await.unwrap(), None);
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_names_no_password() {
    let mut server = RedisServer::start();
    server.kill();
    let config = config_of(&server).password("hunter2").build().unwrap();
    assert_eq!(kind_of_ping(config).await, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_a_wrong_setting() {
    let server = RedisServer::builder().databases(2).start();
    assert_eq!(kind_of_ping(config_of(&server).database(2).build().unwrap()).await, ErrorKind::Config);
    within(RedisBackend::connect(config_of(&server).database(1).build().unwrap())).await.unwrap();
}

#[tokio::test]
async fn a_full_server_refuses_writes_one_by_one_and_goes_on_reading() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let items = [SetItem::new(key("b"), "2", plain()), SetItem::new(key("c"), "3", plain())];
    for answer in backend.set_many(&items).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
    assert_eq!(backend.increment(&key("n"), 1, None).await.unwrap_err().kind(), ErrorKind::OutOfMemory);
    let mortal = backend.increment(&key("n"), 1, Some(Duration::from_secs(9))).await;
    assert_eq!(mortal.unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(backend.get(&key("a")).await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(backend.delete(&key("a")).await.unwrap());
}

#[tokio::test]
async fn a_replica_takes_no_writes_and_answers_reads() {
    let primary = RedisServer::start();
    let replica = RedisServer::builder().option("replicaof", format!("127.0.0.1 {}", primary.port())).start();
    let backend = backend_of(&replica).await;
    let write = backend.set(&key("a"), "1".into(), plain()).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::ReadOnly);
    let script = backend.compare_and_delete(&key("a"), &Expected::prefix("1")).await;
    assert!(script.is_ok_and(|deleted| !deleted), "a script that writes nothing may run on a replica");
    assert_eq!(backend.acquire(&key("l"), "t", Duration::from_secs(5)).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(backend.get(&key("a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_replica_without_its_primary_says_so() {
    let mut primary = RedisServer::start();
    let replica = RedisServer::builder()
        .option("replicaof", format!("127.0.0.1 {}", primary.port()))
        .option("replica-serve-stale-data", "no")
        .start();
    let backend = RedisBackend::new(config_of(&replica).build().unwrap()).unwrap();
    primary.kill();
    let is_down = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::PrimaryDown);
    until(async || backend.get(&key("a")).await, is_down).await.unwrap_err();
}

#[tokio::test]
async fn another_kind_of_value_is_a_mismatch_and_stays() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    server.command(&["RPUSH", "list", "1"]);
    let list = key("list");
    let second = Duration::from_secs(1);
    let kinds = [
        backend.get(&list).await.unwrap_err().kind(),
        backend.get_with_ttl(&list).await.unwrap_err().kind(),
        backend.increment(&list, 1, None).await.unwrap_err().kind(),
        backend.increment(&list, 1, Some(second)).await.unwrap_err().kind(),
        backend.count(&list).await.unwrap_err().kind(),
        backend.get_or_set(&list, "x".into(), second).await.unwrap_err().kind(),
        backend.compare_and_set(&list, &Expected::prefix("1"), "x".into(), plain()).await.unwrap_err().kind(),
        backend.compare_and_delete(&list, &Expected::exactly("1")).await.unwrap_err().kind(),
        backend.acquire(&list, "t", second).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::KindMismatch; 9]);
    let several = backend.get_many(&[list.clone(), key("absent")], GetOptions::new()).await;
    assert!(several.into_iter().all(|answer| answer.unwrap().is_none()), "MGET takes another type for absent");
    assert_eq!(server.command(&["LLEN", "list"]), "1");
}

#[tokio::test]
async fn a_value_above_the_limit_is_not_sent_and_does_not_hide_the_others() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(config_of(&server).max_value_bytes(4).build().unwrap()).await.unwrap();
    let items = [SetItem::new(key("a"), "12345", plain()), SetItem::new(key("b"), "1234", plain())];
    let mut answers = backend.set_many(&items).await.into_iter();
    let refused = answers.next().unwrap().unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::TooLarge, Some(&key("a"))));
    assert!(answers.next().unwrap().unwrap().is_stored());
    let big = || Bytes::from_static(b"12345");
    let second = Duration::from_secs(1);
    assert_eq!(backend.get_or_set(&key("a"), big(), second).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let swapped = backend.compare_and_set(&key("b"), &Expected::prefix("1"), big(), plain()).await;
    assert_eq!(swapped.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(server.command(&["EXISTS", "a"]), "0");
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_at_once() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(config_of(&server).sockets(1).max_in_flight(1).build().unwrap()).await.unwrap();
    server.pause();
    let (a, b) = (key("a"), key("b"));
    // The first is polled first, and has the only place.
    let (first, second) = tokio::join!(biased; backend.get(&a), backend.get(&b));
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Timeout);
    server.resume();
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn something_else_than_redis_is_not_taken_for_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let kind = kind_of_ping(RedisConfig::builder().port(port).sockets(1).build().unwrap()).await;
    assert!(matches!(kind, ErrorKind::Protocol | ErrorKind::Unavailable), "{kind}");
    drop(peer);
}

#[tokio::test]
async fn a_silent_network_is_a_timeout_and_no_longer_than_the_deadlines() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config =
        RedisConfig::builder().port(proxy.port()).command_deadline(Duration::from_millis(100)).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    proxy.set(ProxyMode::Blackhole).await;
    assert_eq!(within(backend.get(&key("a"))).await.unwrap_err().kind(), ErrorKind::Timeout);
    proxy.set(ProxyMode::Pass).await;
    let read = until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn an_empty_channel_is_refused() {
    let backend = RedisBackend::new(RedisConfig::builder().build().unwrap()).unwrap();
    assert_eq!(backend.open_bus("").await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
