//! Nothing is read from a server before it has proved to be the one that it was; and what its clock says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use larder_core::{Backend, BackendExt, Clock, Error, ErrorKind, GetOptions, Guard, Key, Lineage, SystemClock};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisCluster, RedisSentinels, RedisServer};

use crate::server::{backend_of, config_of, key, plain, until, within};

const RECORD: &str = "n:%run";
const GENERATION: &str = "n:%generation";

/// Counts what a guard is told.
#[derive(Debug, Default, Clone)]
struct Told(Arc<AtomicUsize>);

impl Told {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn guard_of(namespace: &str) -> (Guard, Told) {
    let told = Told::default();
    let count = told.clone();
    let changed = Arc::new(move || {
        count.0.fetch_add(1, Ordering::SeqCst);
    });
    let at = |name: &str| Key::from_canonical(format!("{namespace}:{name}"));
    (Guard { record: at("%run"), generation: at("%generation"), changed }, told)
}

async fn guarded(server: &RedisServer) -> (RedisBackend, Told) {
    let backend = backend_of(server).await;
    let (guard, told) = guard_of("n");
    backend.guard(guard);
    (backend, told)
}

fn run_of(server: &RedisServer) -> String {
    let info = server.command(&["INFO", "server"]);
    info.lines().find_map(|line| line.trim_end().strip_prefix("run_id:")).unwrap().to_owned()
}

/// The value, once the server can be reached again.
async fn read(backend: &RedisBackend, name: &str) -> Option<String> {
    let found = until(async || backend.get(&key(name)).await, Result::is_ok).await.unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[tokio::test]
async fn the_first_start_of_a_namespace_is_recorded_and_no_news() {
    let server = RedisServer::start();
    let (backend, told) = guarded(&server).await;
    assert_eq!(read(&backend, "n:k").await, None);
    assert_eq!((server.command(&["GET", RECORD]), told.times()), (run_of(&server), 0));
    assert!(server.command(&["PTTL", RECORD]).parse::<u64>().unwrap() > 24 * 3600 * 1000);
    // Nor is the next process, on any of its sockets.
    server.command(&["SET", GENERATION, "g"]);
    let (other, told) = guarded(&server).await;
    for name in 0..50 {
        assert_eq!(read(&other, &format!("n:{name}")).await, None);
    }
    assert_eq!((server.command(&["GET", GENERATION]), told.times()), ("g".to_owned(), 0));
}

#[tokio::test]
async fn a_restart_without_data_is_news_though_there_is_nothing_to_remove() {
    let mut server = RedisServer::start();
    let (backend, told) = guarded(&server).await;
    backend.set(&key("n:k"), "1".into(), plain()).await.unwrap();
    server.restart();
    assert_eq!(read(&backend, "n:k").await, None);
    assert_eq!((server.command(&["GET", RECORD]), told.times()), (run_of(&server), 1));
}

#[tokio::test]
async fn a_restart_from_an_old_dump_loses_its_generation_and_each_process_is_told_once() {
    let mut server = RedisServer::start();
    let ((one, first), (two, second)) = (guarded(&server).await, guarded(&server).await);
    for backend in [&one, &two] {
        assert_eq!(read(backend, "n:k").await, None);
    }
    server.command(&["MSET", GENERATION, "old", "n:k", "old"]);
    server.command(&["SAVE"]);
    server.command(&["DEL", GENERATION, "n:k"]);
    server.restart();
    assert_eq!(server.command(&["GET", "n:k"]), "old", "the dump was loaded");
    assert_eq!(read(&one, "n:k").await.as_deref(), Some("old"));
    assert_eq!((server.command(&["EXISTS", GENERATION]), first.times()), ("0".to_owned(), 1));
    assert_eq!(server.command(&["GET", RECORD]), run_of(&server));
    // The other one finds that it has been done, and leaves the new generation alone.
    server.command(&["SET", GENERATION, "new"]);
    assert_eq!(read(&two, "n:k").await.as_deref(), Some("old"));
    assert_eq!((server.command(&["GET", GENERATION]), second.times()), ("new".to_owned(), 1));
    for backend in [&one, &two] {
        for name in 0..50 {
            read(backend, &format!("n:{name}")).await;
        }
    }
    assert_eq!((first.times(), second.times()), (1, 1));
    assert_eq!(server.command(&["GET", GENERATION]), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_before_the_guard_has_been_told() {
    let server = RedisServer::start();
    server.command(&["MSET", RECORD, "another run", GENERATION, "old", "n:k", "old"]);
    let backend = Arc::new(RedisBackend::new(config_of(&server).sockets(1).build().unwrap()).unwrap());
    let ((called, calls), (release, released)) = (mpsc::channel(), mpsc::channel());
    let (called, released) = (std::sync::Mutex::new(called), std::sync::Mutex::new(released));
    let changed = Arc::new(move || {
        called.lock().unwrap().send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
    });
    backend.guard(Guard { record: key_at(RECORD), generation: key_at(GENERATION), changed });
    let reader = Arc::clone(&backend);
    let read = tokio::spawn(async move { reader.get(&key("n:k")).await });
    tokio::task::spawn_blocking(move || calls.recv().unwrap()).await.unwrap();
    assert_eq!(server.command(&["MGET", GENERATION, RECORD]), format!("(nil)\n{}", run_of(&server)));
    let gets = server.command(&["INFO", "commandstats"]);
    assert!(gets.contains("cmdstat_get:calls=1,"), "the record alone was read: {gets}");
    release.send(()).unwrap();
    assert_eq!(within(read).await.unwrap().unwrap().unwrap(), "old");
}

fn key_at(text: &str) -> Key {
    Key::from_canonical(text)
}

#[tokio::test]
async fn connections_that_were_open_before_are_compared_in_place() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    backend.set(&key("n:k"), "1".into(), plain()).await.unwrap();
    let opened = backend.state().opened();
    server.command(&["MSET", RECORD, "another run", GENERATION, "old"]);
    let (guard, told) = guard_of("n");
    backend.guard(guard);
    assert_eq!(read(&backend, "n:k").await.as_deref(), Some("1"));
    assert_eq!(server.command(&["MGET", GENERATION, RECORD]), format!("(nil)\n{}", run_of(&server)));
    assert_eq!((told.times(), backend.state().opened()), (1, opened));
}

#[tokio::test]
async fn every_namespace_of_a_backend_is_guarded() {
    let mut server = RedisServer::start();
    let backend = backend_of(&server).await;
    let guards = ["a", "b", "a"].map(guard_of);
    for (guard, _) in &guards {
        backend.guard(guard.clone());
    }
    assert_eq!(read(&backend, "k").await, None);
    assert!(guards.iter().all(|(_, told)| told.times() == 0));
    server.restart();
    server.command(&["MSET", "a:%generation", "old", "b:%generation", "old"]);
    assert_eq!(read(&backend, "k").await, None);
    assert_eq!(guards.iter().map(|(_, told)| told.times()).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(server.command(&["EXISTS", "a:%generation", "b:%generation"]), "0");
    assert_eq!(server.command(&["MGET", "a:%run", "b:%run"]), [run_of(&server), run_of(&server)].join("\n"));
}

#[tokio::test]
async fn a_record_that_was_evicted_is_no_news_to_who_knows_the_run() {
    let server = RedisServer::start();
    let (backend, told) = guarded(&server).await;
    read(&backend, "n:k").await;
    server.command(&["SET", GENERATION, "g"]);
    server.command(&["DEL", RECORD]);
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    let opened = backend.state().opened();
    read(&backend, "n:k").await;
    assert!(backend.state().opened() > opened);
    assert_eq!((server.command(&["GET", GENERATION]), told.times()), ("g".to_owned(), 0));
}

#[tokio::test]
async fn a_server_that_was_a_replica_of_another_meanwhile_is_compared_though_its_run_is_known() {
    let (server, other) = (RedisServer::start(), RedisServer::start());
    let (backend, told) = guarded(&server).await;
    read(&backend, "n:k").await;
    // Another primary took over and gave back, which this process did not see: the server has that one's data.
    other.command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    let (host, port) = (other.address().ip().to_string(), other.port().to_string());
    other.command(&["MSET", RECORD, &run_of(&other), GENERATION, "old"]);
    server.command(&["REPLICAOF", &host, &port]);
    within(async {
        while server.command(&["GET", GENERATION]) != "old" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.command(&["REPLICAOF", "NO", "ONE"]);
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    read(&backend, "n:k").await;
    assert_eq!(server.command(&["MGET", GENERATION, RECORD]), format!("(nil)\n{}", run_of(&server)));
    assert_eq!(told.times(), 1);
}

#[tokio::test]
async fn a_record_that_was_evicted_is_written_again_while_the_server_is_used() {
    // Whose clock may not be asked for is asked again and again.
    let server = RedisServer::builder().acl("user default on nopass ~* &* +@all -time").start();
    let (backend, told) = guarded(&server).await;
    read(&backend, "n:k").await;
    server.command(&["DEL", RECORD]);
    within(async {
        while server.command(&["GET", RECORD]) != run_of(&server) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((told.times(), backend.server_time(&key("n:k"))), (0, None));
}

#[tokio::test]
async fn without_the_rights_nothing_is_read_and_the_error_names_them() {
    for rights in ["~* +@all -info", "~* +@all -unlink", "~n:k +@all", "~* +@all -get"] {
        let server = RedisServer::builder().acl(&format!("user shop on >s3cret &* {rights}")).start();
        server.command(&["MSET", RECORD, "another run", "n:k", "1"]);
        let config = config_of(&server).user("shop").password("s3cret").build().unwrap();
        let backend = within(RedisBackend::connect(config)).await.unwrap();
        let (guard, told) = guard_of("n");
        backend.guard(guard);
        let error = within(backend.get(&key("n:k"))).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Auth, Some(&key("n:k"))), "{rights}: {error}");
        assert!(error.message().contains("`info`") && error.message().contains("unlink"), "{rights}: {error}");
        for error in within(backend.get_many(&[key("n:k"), key("n:l")], GetOptions::new())).await {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Auth, "{rights}");
        }
        within(backend.ping()).await.unwrap();
        assert_eq!(backend.state().nodes[0].last_error.as_ref().map(Error::kind), Some(ErrorKind::Auth));
        assert_eq!(told.times(), 0);
    }
}

#[tokio::test]
async fn a_full_server_without_room_for_the_record_is_read_all_the_same() {
    let server = RedisServer::start();
    server.command(&["MSET", RECORD, "another run", GENERATION, "old", "n:k", "1"]);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let (backend, told) = guarded(&server).await;
    assert_eq!(read(&backend, "n:k").await.as_deref(), Some("1"));
    assert_eq!((server.command(&["EXISTS", GENERATION]), told.times()), ("0".to_owned(), 1));
}

#[tokio::test]
async fn a_comparison_that_is_cut_off_is_made_up_for_by_the_next() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let deadline = Duration::from_millis(150);
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).connect_deadline(deadline);
    let backend = within(RedisBackend::connect(config.command_deadline(deadline).build().unwrap())).await.unwrap();
    server.command(&["MSET", RECORD, "another run", GENERATION, "old", "n:k", "1"]);
    proxy.set(ProxyMode::Blackhole).await;
    let (guard, told) = guard_of("n");
    backend.guard(guard);
    for _ in 0..3 {
        let error = within(backend.get(&key("n:k"))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
    }
    proxy.set(ProxyMode::Pass).await;
    assert_eq!(read(&backend, "n:k").await.as_deref(), Some("1"));
    assert_eq!((server.command(&["GET", RECORD]), told.times()), (run_of(&server), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_behind_sentinels_is_another_run() {
    let sentinels = RedisSentinels::start();
    let deadline = Duration::from_secs(2);
    let config = RedisConfig::builder().url(sentinels.url()).connect_deadline(deadline).command_deadline(deadline);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    let (guard, told) = guard_of("n");
    backend.guard(guard);
    read(&backend, "n:k").await;
    backend.set(&key_at(GENERATION), "old".into(), plain()).await.unwrap();
    let old = sentinels.primary();
    assert_eq!(sentinels.server(old).command(&["WAIT", "2", "10000"]), "2");
    let sentinels = tokio::task::spawn_blocking(move || {
        sentinels.failover();
        sentinels
    });
    within(async {
        while told.times() == 0 {
            drop(backend.get(&key("n:k")).await);
            tokio::task::yield_now().await;
        }
    })
    .await;
    let sentinels = sentinels.await.unwrap();
    let primary = sentinels.server(sentinels.primary());
    until(async || backend.set(&key("n:k"), "1".into(), plain()).await, Result::is_ok).await.unwrap();
    assert_eq!(primary.command(&["MGET", GENERATION, RECORD]), format!("(nil)\n{}", run_of(primary)));
    assert!(backend.server_time(&key("n:k")).is_some());
}

fn cluster_keys() -> Vec<Key> {
    (0..60).map(|index| key(&format!("n:{index}"))).collect()
}

async fn read_all(backend: &RedisBackend) {
    let keys = cluster_keys();
    let read = async || backend.get_many(&keys, GetOptions::new()).await.into_iter().collect::<Result<Vec<_>, _>>();
    until(read, Result::is_ok).await.unwrap();
}

/// The runs that are recorded anywhere in the cluster.
fn recorded(cluster: &RedisCluster, nodes: &[usize]) -> Vec<String> {
    let of = |node: usize| {
        let server = cluster.node(node);
        let keys = server.command(&["KEYS", "n:%run:*"]);
        keys.lines().map(|key| server.command(&["GET", key])).collect::<Vec<_>>()
    };
    nodes.iter().flat_map(|node| of(*node)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_each_primary_has_its_record_and_a_failover_is_noticed_by_all() {
    let mut cluster = RedisCluster::start();
    let (one, two) = (cluster_backend(&cluster).await, cluster_backend(&cluster).await);
    let ((first, told), (second, heard)) = (guard_of("n"), guard_of("n"));
    one.guard(first);
    two.guard(second);
    read_all(&one).await;
    read_all(&two).await;
    assert_eq!((told.times(), heard.times()), (0, 0));
    for node in 0..3 {
        assert_eq!(recorded(&cluster, &[node]), [run_of(cluster.node(node))]);
    }
    one.set(&key_at(GENERATION), "old".into(), plain()).await.unwrap();
    let owner = cluster.primary_of(GENERATION);
    // Not the one that has the generation.
    let victim = (owner + 1) % 3;
    assert_eq!(cluster.node(victim).command(&["WAIT", "1", "10000"]), "1");
    cluster.kill(victim);
    let (cluster, heir) = tokio::task::spawn_blocking(move || {
        let heir = cluster.await_failover(victim);
        (cluster, heir)
    })
    .await
    .unwrap();
    read_all(&one).await;
    assert_eq!(cluster.node(owner).command(&["EXISTS", GENERATION]), "0");
    assert!(told.times() >= 1);
    assert!(recorded(&cluster, &[heir]).contains(&run_of(cluster.node(heir))));
    one.set(&key_at(GENERATION), "new".into(), plain()).await.unwrap();
    // The other finds the new run recorded, and is told of it all the same: it knew another owner.
    read_all(&two).await;
    assert!(heard.times() >= 1);
    assert_eq!(cluster.node(owner).command(&["GET", GENERATION]), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_comes_back_into_office_is_compared_on_connections_that_stayed_open() {
    let cluster = RedisCluster::start();
    let backend = cluster_backend(&cluster).await;
    let (guard, told) = guard_of("n");
    backend.guard(guard);
    read_all(&backend).await;
    let primary = cluster.primary_of("n:0");
    let replica = cluster.replica_of(primary);
    let mut cluster = cluster;
    for (promoted, times) in [(replica, 1), (primary, 2)] {
        backend.set(&key_at(GENERATION), "old".into(), plain()).await.unwrap();
        cluster = tokio::task::spawn_blocking(move || {
            cluster.failover(promoted);
            cluster
        })
        .await
        .unwrap();
        // Who is told, and how often, depends on how many connections notice; that it is cleared does not.
        within(async {
            while cluster.node(cluster.primary_of(GENERATION)).command(&["EXISTS", GENERATION]) != "0" {
                read_all(&backend).await;
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(told.times() >= times);
    }
}

#[tokio::test]
async fn slots_that_move_between_primaries_are_no_news() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let backend = cluster_backend(&cluster).await;
    let (guard, told) = guard_of("n");
    backend.guard(guard);
    read_all(&backend).await;
    backend.set(&key_at(GENERATION), "g".into(), plain()).await.unwrap();
    // That of the generation too, while there is none to be found where it is looked for first.
    for name in ["n:0", GENERATION] {
        let slot = cluster.slot_of(name);
        cluster.begin_migration(slot, (cluster.primary_of_slot(slot) + 1) % 3);
        while cluster.move_keys(slot, 10) > 0 {}
        cluster.finish_migration(slot);
        for node in 0..3 {
            cluster.node(node).command(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
        read_all(&backend).await;
    }
    assert_eq!(backend.get(&key_at(GENERATION)).await.unwrap().unwrap(), "g");
    assert_eq!(told.times(), 0);
}

async fn cluster_backend(cluster: &RedisCluster) -> RedisBackend {
    let deadline = Duration::from_secs(2);
    let config = RedisConfig::builder().url(cluster.url()).connect_deadline(deadline).command_deadline(deadline);
    within(RedisBackend::connect(config.build().unwrap())).await.unwrap()
}

#[tokio::test]
async fn each_servers_clock_is_known_from_the_first_connection_on() {
    let server = RedisServer::start();
    let backend = RedisBackend::new(config_of(&server).build().unwrap()).unwrap();
    assert_eq!(backend.server_time(&key("a")), None);
    backend.ping().await.unwrap();
    let cluster = RedisCluster::builder().replicas(0).start();
    let spread = cluster_backend(&cluster).await;
    read_all(&spread).await;
    let clock = SystemClock::new();
    let times = [backend.server_time(&key("a"))]
        .into_iter()
        .chain(cluster_keys().iter().map(|key| spread.server_time(key)))
        .collect::<Option<Vec<_>>>();
    // The servers run on this machine; what differs by more was measured in the wrong unit.
    for time in times.unwrap() {
        assert!(time.0.abs_diff(clock.wall().0) < 5_000, "{time}, {}", clock.wall());
    }
}
