//! How long connections live, how many there are, what they log in with, and what the figures say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{BackendExt, Counter, Error, ErrorKind, Key, Result};
use larder_redis::{Credentials, CredentialsProvider, RedisBackend, RedisConfig, RedisConfigBuilder, RedisState};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};
use tokio::sync::{Semaphore, watch};

use crate::server::{config_of, key, plain, until, within};

const SECOND: Duration = Duration::from_secs(1);

/// Looks at the figures, at intervals, until they are as wanted.
async fn until_state(backend: &RedisBackend, wanted: impl Fn(&RedisState) -> bool) -> RedisState {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    within(async {
        loop {
            looks.tick().await;
            let state = backend.state();
            if wanted(&state) {
                return state;
            }
        }
    })
    .await
}

/// Uses every socket once; with a few dozen keys none is left out.
async fn use_all(backend: &RedisBackend, sockets: usize) {
    let keys: Vec<Key> = (0..64).map(|index| key(&format!("k{index}"))).collect();
    for key in &keys {
        backend.get(key).await.unwrap();
    }
    assert_eq!(backend.state().connected(), sockets);
}

/// A login that waits at the door from the second connection on.
#[derive(Debug)]
struct Doorkeeper {
    asked: watch::Sender<usize>,
    admitted: Semaphore,
}

#[async_trait::async_trait]
impl CredentialsProvider for Doorkeeper {
    async fn credentials(&self) -> Result<Credentials> {
        self.asked.send_modify(|asked| *asked += 1);
        self.admitted.acquire().await.unwrap().forget();
        Ok(Credentials::password("s3cret"))
    }
}

#[tokio::test]
async fn a_socket_that_has_lived_is_replaced_while_it_is_used_and_nobody_waits() {
    let server = RedisServer::builder().password("s3cret").start();
    let door = Arc::new(Doorkeeper { asked: watch::Sender::new(0), admitted: Semaphore::new(1) });
    let config = RedisConfig::builder()
        .port(server.port())
        .credentials(Arc::clone(&door) as Arc<dyn CredentialsProvider>)
        .sockets(1)
        .connect_deadline(SECOND * 20)
        .max_lifetime(SECOND);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    let mut count = 0;
    // Under constant traffic, until the successor stands at the door.
    within(async {
        while *door.asked.borrow() < 2 {
            count += 1;
            assert_eq!(backend.increment(&key("n"), 1, None).await.unwrap(), count);
        }
    })
    .await;
    // It gets no further, and the calls go on.
    for _ in 0..200 {
        count += 1;
        assert_eq!(within(backend.increment(&key("n"), 1, None)).await.unwrap(), count);
    }
    assert_eq!((backend.state().opened(), *door.asked.borrow()), (1, 2));
    door.admitted.add_permits(1);
    within(async {
        while backend.state().opened() < 2 {
            count += 1;
            assert_eq!(backend.increment(&key("n"), 1, None).await.unwrap(), count);
        }
    })
    .await;
    let node = &backend.state().nodes[0];
    assert_eq!((node.retired, node.broken, node.failed, node.connected), (1, 0, 0, 1));
}

#[tokio::test]
async fn a_successor_that_cannot_be_opened_leaves_the_old_socket_in_use() {
    let server = RedisServer::start();
    server.command(&["CONFIG", "SET", "maxclients", "10"]);
    let config = config_of(&server).sockets(1).max_lifetime(SECOND).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let others: Vec<_> = (0..9).map(|_| std::net::TcpStream::connect(server.address()).unwrap()).collect();
    within(async {
        while backend.state().nodes[0].failed < 2 {
            backend.increment(&key("n"), 1, None).await.unwrap();
        }
    })
    .await;
    assert_eq!(backend.state().connected(), 1);
    assert!(backend.state().nodes[0].last_error.is_some());
    drop(others);
    within(async {
        while backend.state().opened() < 2 {
            backend.increment(&key("n"), 1, None).await.unwrap();
        }
    })
    .await;
    until_state(&backend, |state| state.nodes[0].last_error.is_none()).await;
}

#[tokio::test]
async fn idle_sockets_are_closed_but_for_the_few_that_are_kept_and_opened_again_when_used() {
    let server = RedisServer::start();
    let config = config_of(&server).sockets(3).min_sockets(1).idle_timeout(SECOND).client_name("spec");
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    use_all(&backend, 3).await;
    until_state(&backend, |state| state.connected() == 1).await;
    let is_listed = |count| {
        let server = &server;
        move || server.command(&["CLIENT", "LIST"]).matches("name=spec").count() == count
    };
    let closed = is_listed(1);
    until_state(&backend, |_| closed()).await;
    use_all(&backend, 3).await;
    let node = &backend.state().nodes[0];
    assert_eq!((node.opened, node.broken, node.retired), (5, 0, 0));
}

#[tokio::test]
async fn sockets_that_are_to_be_kept_are_opened_ahead_and_again_without_traffic() {
    let server = RedisServer::start();
    let config = config_of(&server).sockets(3).min_sockets(3).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    until_state(&backend, |state| state.connected() == 3).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    until_state(&backend, |state| state.connected() == 0).await;
    until_state(&backend, |state| state.connected() == 3).await;
    assert_eq!(backend.state().opened(), 6);
}

/// Hands out what it was last given, and counts how often.
#[derive(Debug)]
struct Rotating {
    now: parking_lot::Mutex<Result<Credentials>>,
    asked: AtomicUsize,
}

impl Rotating {
    fn set(&self, password: &str) {
        *self.now.lock() = Ok(Credentials::user("ada", password));
    }
}

#[async_trait::async_trait]
impl CredentialsProvider for Rotating {
    async fn credentials(&self) -> Result<Credentials> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.now.lock().clone()
    }
}

fn rotating(server: &RedisServer) -> (Arc<Rotating>, RedisConfigBuilder) {
    let now = parking_lot::Mutex::new(Ok(Credentials::user("ada", "first")));
    let provider = Arc::new(Rotating { now, asked: AtomicUsize::new(0) });
    let credentials = Arc::clone(&provider) as Arc<dyn CredentialsProvider>;
    (provider, RedisConfig::builder().port(server.port()).credentials(credentials).sockets(1))
}

#[tokio::test]
async fn a_password_that_changes_leaves_open_sockets_alone_and_new_ones_use_it() {
    let server = RedisServer::builder().acl("user ada on >first ~* &* +@all").start();
    let (provider, config) = rotating(&server);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    server.command(&["ACL", "SETUSER", "ada", "resetpass", ">second"]);
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    assert_eq!((backend.state().opened(), provider.asked.load(Ordering::Relaxed)), (1, 1));
    // Its connection is gone, and the provider does not know yet.
    server.command(&["CLIENT", "KILL", "USER", "ada"]);
    let is_refused = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Auth);
    let error = until(async || backend.get(&key("a")).await, is_refused).await.unwrap_err();
    assert!(!error.to_string().contains("first"), "{error}");
    provider.set("second");
    let read = until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert_eq!(read.unwrap(), "1");
}

#[tokio::test]
async fn the_next_password_takes_over_at_the_end_of_a_lifetime_without_a_failure() {
    let server = RedisServer::builder().acl("user ada on >first ~* &* +@all").start();
    let (provider, config) = rotating(&server);
    let backend = within(RedisBackend::connect(config.max_lifetime(SECOND).build().unwrap())).await.unwrap();
    server.command(&["ACL", "SETUSER", "ada", "resetpass", ">second"]);
    provider.set("second");
    within(async {
        while backend.state().opened() < 2 {
            backend.increment(&key("n"), 1, None).await.unwrap();
        }
    })
    .await;
    let node = &backend.state().nodes[0];
    assert_eq!((node.retired, node.failed), (1, 0));
}

#[tokio::test]
async fn a_provider_that_fails_is_told_in_its_own_words_and_asked_again() {
    let server = RedisServer::builder().acl("user ada on >first ~* &* +@all").start();
    let (provider, config) = rotating(&server);
    *provider.now.lock() = Err(Error::new(ErrorKind::Auth, "fetch", "the vault is sealed"));
    let backend = RedisBackend::new(config.build().unwrap()).unwrap();
    let error = within(backend.get(&key("a"))).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Auth, "the vault is sealed"));
    assert_eq!(error.key(), Some(&key("a")));
    provider.set("first");
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert!(provider.asked.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn the_figures_tell_what_happened_to_the_connections() {
    let mut server = RedisServer::start();
    let backend = RedisBackend::new(config_of(&server).sockets(2).min_sockets(0).build().unwrap()).unwrap();
    let state = backend.state();
    assert_eq!((state.sockets(), state.connected(), state.opened(), state.in_flight), (2, 0, 0, 0));
    assert_eq!(state.nodes[0].address, server.address().to_string());
    use_all(&backend, 2).await;
    server.kill();
    let is_down = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.to_string().contains("listens"));
    until(async || backend.get(&key("a")).await, is_down).await.unwrap_err();
    let state = until_state(&backend, |state| state.connected() == 0).await;
    let node = &state.nodes[0];
    assert_eq!(node.opened, 2);
    assert!(node.failed >= 1 && node.broken >= 1, "{node:?}");
    let last = node.last_error.as_ref().unwrap();
    assert_eq!((last.kind(), last.operation()), (ErrorKind::Unavailable, "connect"));
    server.restart();
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert_eq!(backend.state().opened(), 3);
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_at_once_counted_and_not_sent() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).max_in_flight(3).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    proxy.set(ProxyMode::Blackhole).await;
    let names = ["a", "b", "c", "d", "e"].map(key);
    let mut calls = names.iter().map(|key| Box::pin(backend.get(key))).collect::<Vec<_>>();
    for call in &mut calls[..3] {
        assert!(futures_util::poll!(call).is_pending());
    }
    assert_eq!((backend.state().in_flight, backend.state().overloaded), (3, 0));
    for call in &mut calls[3..] {
        let std::task::Poll::Ready(Err(error)) = futures_util::poll!(call) else { panic!("refused at once") };
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.is_transient() && error.message().contains("max_in_flight"), "{error}");
        assert!(error.key().is_some());
    }
    assert_eq!((backend.state().in_flight, backend.state().overloaded), (3, 2));
    // A caller that goes away leaves its place to the next one.
    drop(calls);
    assert_eq!(backend.state().in_flight, 0);
    proxy.set(ProxyMode::Pass).await;
    until(async || backend.get(&key("d")).await, Result::is_ok).await.unwrap();
    assert_eq!(backend.state().overloaded, 2);
}
