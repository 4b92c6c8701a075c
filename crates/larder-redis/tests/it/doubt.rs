//! A value of which nobody knows whether it was stored does not come after a later removal of its key.

use std::{future::Future, time::Duration};

use larder_core::{Atomic, Backend, BackendExt, ErrorKind, Expected, Result};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::server::{key, plain, until, within};

const COMMAND: Duration = Duration::from_millis(150);

/// A server behind a proxy, and a backend with one socket.
struct Rig {
    server: RedisServer,
    proxy: FaultProxy,
    backend: RedisBackend,
}

impl Rig {
    async fn start(rights: &str) -> Self {
        let server = RedisServer::builder().acl(&format!("user default on nopass ~* &* +@all {rights}")).start();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let config = RedisConfig::builder().port(proxy.port()).sockets(1).command_deadline(COMMAND);
        let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
        Self { server, proxy, backend }
    }

    /// Has this arrive late, and what comes after it in time.
    async fn late<T>(&self, delay: Duration, call: impl Future<Output = T>) -> T {
        self.proxy.set(ProxyMode::Delay(delay)).await;
        let answer = within(call).await;
        self.proxy.set(ProxyMode::Pass).await;
        answer
    }

    fn figures(&self) -> (u64, u64, u64) {
        let node = &self.backend.state().nodes[0];
        (node.opened, node.killed, node.unkilled)
    }
}

#[tokio::test]
async fn a_value_that_is_on_its_way_when_its_key_is_removed_never_arrives() {
    let rig = Rig::start("").await;
    let (backend, name) = (&rig.backend, key("k"));
    for gives_up_early in [false, true] {
        let delay = Duration::from_secs(2);
        if gives_up_early {
            let given_up = tokio::time::timeout(COMMAND / 3, backend.set(&name, "late".into(), plain()));
            assert!(rig.late(delay, given_up).await.is_err());
        } else {
            let error = rig.late(delay, backend.set(&name, "late".into(), plain())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
        }
        within(backend.delete(&name)).await.unwrap();
        // The old connection has ended on both sides, with all that was on its way.
        within(rig.proxy.until_open(|open| open <= 1)).await;
        assert_eq!(rig.server.command(&["EXISTS", "k"]), "0");
    }
    assert_eq!(rig.figures(), (3, 2, 0));
}

#[tokio::test]
async fn a_value_in_the_buffer_of_a_stopped_server_is_gone_with_its_removal() {
    let server = RedisServer::start();
    let deadline = Duration::from_millis(300);
    let config = RedisConfig::builder().url(server.url()).connect_deadline(deadline).command_deadline(COMMAND);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    let name = key("k");
    for _ in 0..5 {
        until(async || backend.get(&name).await, Result::is_ok).await.unwrap();
        server.pause();
        within(backend.set(&name, "late".into(), plain())).await.unwrap_err();
        server.resume();
        until(async || backend.delete(&name).await, Result::is_ok).await.unwrap();
        // Of its connections only the new one is left, beside the one that asks.
        let clients = server.command(&["CLIENT", "LIST"]);
        assert_eq!(clients.matches("name=larder").count(), 1, "{clients}");
        assert_eq!(server.command(&["EXISTS", "k"]), "0");
    }
}

#[tokio::test]
async fn reads_removals_and_fills_leave_their_socket_alone() {
    let rig = Rig::start("").await;
    let (backend, name, delay) = (&rig.backend, key("k"), Duration::from_millis(400));
    rig.late(delay, backend.get(&name)).await.unwrap_err();
    until(async || backend.get(&name).await, Result::is_ok).await.unwrap();
    rig.late(delay, backend.delete(&name)).await.unwrap_err();
    until(async || backend.get(&name).await, Result::is_ok).await.unwrap();
    let expected = Expected::exactly("1");
    let fill = backend.compare_and_set(&name, &expected, "2".into(), plain());
    rig.late(delay, fill).await.unwrap_err();
    until(async || backend.get(&name).await, Result::is_ok).await.unwrap();
    assert_eq!(rig.figures(), (1, 0, 0));
}

#[tokio::test]
async fn without_the_right_to_kill_the_socket_stays_so_that_the_removal_comes_after_the_value() {
    let rig = Rig::start("-client|kill").await;
    let (backend, name, delay) = (&rig.backend, key("k"), Duration::from_millis(400));
    // That the right is missing is found out once.
    rig.late(delay, backend.set(&name, "late".into(), plain())).await.unwrap_err();
    until(async || backend.get(&name).await, Result::is_ok).await.unwrap();
    assert_eq!(rig.figures(), (2, 0, 1));
    within(rig.proxy.until_open(|open| open <= 1)).await;
    rig.late(delay, backend.set(&name, "late".into(), plain())).await.unwrap_err();
    until(async || backend.delete(&name).await, Result::is_ok).await.unwrap();
    assert_eq!(rig.server.command(&["EXISTS", "k"]), "0");
    assert_eq!(rig.figures(), (2, 0, 2));
}

#[tokio::test]
async fn a_connection_of_an_earlier_run_is_nobody_to_kill() {
    let mut rig = Rig::start("").await;
    rig.late(Duration::from_millis(400), rig.backend.set(&key("k"), "1".into(), plain())).await.unwrap_err();
    rig.server.restart();
    // Its numbers begin anew: another client has the one that is in doubt.
    let others: Vec<_> = (0..10).map(|_| std::net::TcpStream::connect(rig.server.address()).unwrap()).collect();
    until(async || rig.backend.get(&key("k")).await, Result::is_ok).await.unwrap();
    let clients = rig.server.command(&["INFO", "clients"]);
    let connected = clients.lines().find_map(|line| line.trim_end().strip_prefix("connected_clients:")).unwrap();
    assert!(connected.parse::<usize>().unwrap() > others.len(), "{clients}");
    assert_eq!(rig.figures().1, 0);
}

#[tokio::test]
async fn a_batch_of_values_is_in_doubt_as_a_whole_and_once() {
    let rig = Rig::start("").await;
    let items: Vec<_> =
        (0..50).map(|index| larder_core::SetItem::new(key(&format!("k{index}")), "late", plain())).collect();
    let answers = rig.late(Duration::from_secs(2), rig.backend.set_many(&items)).await;
    assert!(answers.into_iter().all(|answer| answer.is_err()));
    let keys: Vec<_> = items.iter().map(|item| item.key.clone()).collect();
    assert!(within(rig.backend.delete_many(&keys)).await.into_iter().all(|there| !there.unwrap()));
    within(rig.proxy.until_open(|open| open <= 1)).await;
    assert_eq!(rig.server.command(&["DBSIZE"]), "0");
    assert_eq!(rig.figures(), (2, 1, 0));
}
