//! The traps of the libraries underneath, each of which has bitten somebody, and what shows that it is not fallen into.
//!
//! | | trap | shown by |
//! |---|---|---|
//! | 1 | Nagle's delay, half-open sockets | `sockets_have_no_nagles_delay_and_notice_a_peer_that_is_gone` |
//! | 2 | calls hang while a connection is opened again | `calls_in_an_outage_end_by_their_own_deadlines` |
//! | 3 | a refused login is for good | `refusals::a_user_that_is_deleted_is_refused_and_used_again_when_it_is_back` |
//! | 4 | waiting without bound for a permit | `lifetime::calls_beyond_the_limit_are_refused_at_once_counted_and_not_sent` |
//! | 5 | a cluster's calls have no deadline | `calls_to_a_silent_cluster_end_by_their_own_deadlines` |
//! | 6 | a cluster's commands run twice | `a_cluster_is_not_sent_a_command_twice_when_the_link_breaks`, `cluster::a_planned_failover_loses_no_call` |
//! | 7 | a scan of a cluster sees one node | `cluster::a_batch_is_spread_over_the_primaries_and_answers_in_order`, `cluster::pattern_deletion_reaches_every_key_while_slots_move` |
//! | 8 | a dead connection serves old values | `a_dead_connection_serves_no_old_values` |
//! | 9 | messages are lost in silence | `bus::a_subscriber_that_the_server_throws_out_comes_back`, `bus::a_link_that_is_silent_without_being_closed_is_lost` |
//! | 10 | writes go to the old primary for ever | `sentinel::a_planned_failover_ends_with_writes_on_the_new_primary_and_a_confirmed_bus` |
//! | 11 | dead connections stay pooled | `outage::a_write_after_a_restart_that_nobody_noticed_succeeds`, `faults::a_reset_link_is_unavailable_and_opened_again` |
//! | 12 | a half-open connection goes back as healthy | `a_socket_that_owes_its_ping_is_not_used_again_however_short_the_deadlines` |
//! | 13 | each use PINGs all primaries | `using_a_cluster_sends_no_pings`, `batches::a_thousand_plain_reads_are_one_mget_and_a_read_asks_for_no_ping` |
//! | 14 | memory without bound, panics of waiters | larder-memory `backend::rewriting_a_key_and_changing_its_ttl_for_ever_takes_no_more_memory`, larder-flight `flight::a_soak_with_cancelled_callers_leaves_nothing_behind` |
//! | 15 | a load stores what was invalidated | larder-flight `fence::no_interleaving_of_insert_and_raise_leaves_an_old_value`, larder `loads::an_invalidation_during_a_load_keeps_its_value_out` |
//! | 16 | loads of other types share no flight | larder-flight `flight::calls_of_other_types_or_options_do_not_share_a_flight`: one load each is what is promised |
//! | 17 | a new value keeps the old TTL | larder-memory `backend::a_value_that_is_written_again_gets_its_own_ttl_and_not_what_remained` |
//! | 18 | predicates slow down every read | larder-memory removes a pattern's keys by listing them: `powers::a_pattern_deletes_what_it_matches_and_says_how_many` |
//! | 19 | an empty option vanishes | larder-codec `refusals::json_and_messagepack_refuse_a_some_that_would_read_as_none` |
//! | 20 | a skipped field shifts the others | larder-codec `refusals::postcard_refuses_a_skipped_field_and_names_it`, `round_trip::named_fields_survive_fields_that_were_added_removed_and_moved` |
//! | 21 | recursion overflows the stack | larder-codec `hostile::deeply_nested_messagepack_is_an_error` and its neighbours |
//! | 22 | figures made before the recorder are lost | larder `figures::a_recorder_that_is_installed_after_the_cache_gets_its_figures` |
//! | 23 | rustls without a provider | `tls::a_server_is_trusted_by_its_own_authority_without_a_provider_being_installed` (feature `tls`) |
//! | 24 | syn 2 beside darling | larder-macros depends on syn 3 and not on darling |
//! | 25 | the client library in the public interface | `no_type_of_the_client_library_is_in_the_public_interface` |

use std::{fs, path::Path, time::Duration};

use futures_util::future::join_all;
use larder_core::{Backend, BackendExt, Counter, ErrorKind, GetOptions, Key, Result};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisCluster, RedisServer};

use crate::server::{backend_of, config_of, key, plain, until, within};

/// Far beyond any deadline that these tests set, and less than the libraries' own patience.
const HANGS: Duration = Duration::from_secs(5);

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sockets_have_no_nagles_delay_and_notice_a_peer_that_is_gone() {
    use rustix::{
        net::sockopt,
        process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
    };

    let server = RedisServer::start();
    let config = config_of(&server).keepalive(Duration::from_secs(7)).user_timeout(Duration::from_millis(4321));
    let backend = within(RedisBackend::connect(config.sockets(1).build().unwrap())).await.unwrap();
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let mut ours = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let number = entry.unwrap().file_name().into_string().unwrap().parse().unwrap();
        let Ok(socket) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else { continue };
        let stream = std::net::TcpStream::from(socket);
        if !stream.peer_addr().is_ok_and(|peer| peer == server.address()) {
            continue;
        }
        ours += 1;
        assert!(sockopt::tcp_nodelay(&stream).unwrap());
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(7));
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), Duration::from_secs(1));
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 3);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 4321);
    }
    assert_eq!((ours, backend.state().connected()), (1, 1));
}

#[tokio::test]
async fn calls_in_an_outage_end_by_their_own_deadlines() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let short = Duration::from_millis(100);
    let config = RedisConfig::builder().port(proxy.port()).connect_deadline(short).command_deadline(short);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    for mode in [ProxyMode::Refuse, ProxyMode::Blackhole, ProxyMode::Reset] {
        proxy.set(mode).await;
        for _ in 0..5 {
            let keys: Vec<Key> = (0..20).map(|index| key(&format!("k{index}"))).collect();
            let calls = join_all(keys.iter().map(|key| backend.get(key)));
            let answers = tokio::time::timeout(HANGS, calls).await.unwrap_or_else(|_| panic!("calls hang in {mode:?}"));
            assert!(answers.iter().all(Result::is_err), "{mode:?}");
        }
    }
    proxy.set(ProxyMode::Pass).await;
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn calls_to_a_silent_cluster_end_by_their_own_deadlines() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let short = Duration::from_millis(300);
    let config = RedisConfig::builder().url(cluster.url()).connect_deadline(short).command_deadline(short);
    let backend = RedisBackend::new(config.build().unwrap()).unwrap();
    until(async || backend.set(&key("a"), "1".into(), plain()).await, Result::is_ok).await.unwrap();
    (0..3).for_each(|node| cluster.pause(node));
    let keys: Vec<Key> = (0..50).map(|index| key(&format!("k{index}"))).collect();
    let fails = async {
        assert!(backend.get(&key("a")).await.unwrap_err().is_transient());
        assert!(backend.set(&key("a"), "2".into(), plain()).await.unwrap_err().is_transient());
        for answer in backend.get_many(&keys, GetOptions::new()).await {
            assert!(answer.unwrap_err().is_transient());
        }
    };
    tokio::time::timeout(HANGS * 2, fails).await.expect("calls hang");
    (0..3).for_each(|node| cluster.resume(node));
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_not_sent_a_command_twice_when_the_link_breaks() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let config = RedisConfig::builder().url(cluster.url()).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let owner = cluster.node(cluster.primary_of("n"));
    let mut counted = 0;
    for _ in 0..10 {
        counted = until(async || backend.increment(&key("n"), 1, None).await, Result::is_ok).await.unwrap();
        // This runtime gets no turn before the next call, which meets the closed connection.
        owner.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        let error = within(backend.increment(&key("n"), 1, None)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(owner.command(&["GET", "n"]), counted.to_string());
    }
    assert_eq!(counted, 10);
}

#[tokio::test]
async fn a_dead_connection_serves_no_old_values() {
    let mut server = RedisServer::start();
    let backend = backend_of(&server).await;
    backend.set(&key("a"), "old".into(), plain()).await.unwrap();
    assert_eq!(backend.get(&key("a")).await.unwrap().unwrap(), "old");
    server.restart();
    server.command(&["SET", "a", "new"]);
    let read = until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert_eq!(read.unwrap(), "new");
    server.kill();
    for _ in 0..20 {
        within(backend.get(&key("a"))).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_socket_that_owes_its_ping_is_not_used_again_however_short_the_deadlines() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let same = Duration::from_millis(200);
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).min_sockets(0);
    let config = config.connect_deadline(same).command_deadline(same).idle_check(Duration::from_millis(1));
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    let pings = proxy.commands_named("ping");
    // Sooner or later one comes after the limit: it has to prove itself, and does.
    within(async {
        while proxy.commands_named("ping") == pings {
            backend.get(&key("a")).await.unwrap();
        }
    })
    .await;
    assert_eq!(backend.state().opened(), 1);
    proxy.set(ProxyMode::Blackhole).await;
    // A call that comes too soon for a PING times out by itself.
    let is_unsent = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
    until(async || backend.get(&key("a")).await, is_unsent).await.unwrap_err();
    assert_eq!((backend.state().connected(), backend.state().nodes[0].broken), (0, 1));
    proxy.set(ProxyMode::Pass).await;
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert_eq!(backend.state().opened(), 2);
}

/// How often the server was sent a command.
fn calls_of(server: &RedisServer, command: &str) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn using_a_cluster_sends_no_pings() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let config = RedisConfig::builder().url(cluster.url()).sockets(2).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let keys: Vec<Key> = (0..100).map(|index| key(&format!("k{index}"))).collect();
    let use_it = async || {
        for key in &keys {
            backend.get(key).await.unwrap();
        }
        backend.get_many(&keys, GetOptions::new().with_ttl()).await.into_iter().for_each(|found| drop(found.unwrap()));
    };
    use_it().await;
    let pings = || (0..3).map(|node| calls_of(cluster.node(node), "ping")).sum::<u64>();
    let before = pings();
    use_it().await;
    assert_eq!(pings(), before);
}

/// What `lib.rs` re-exports lies in these files; in them no public line may name the library, nor may a conversion.
#[test]
fn no_type_of_the_client_library_is_in_the_public_interface() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |file: &str| fs::read_to_string(source.join(file)).unwrap();
    let exported =
        read("lib.rs").lines().filter(|line| line.starts_with("pub ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        exported,
        [
            "pub use backend::RedisBackend;",
            "pub use config::{RedisConfig, RedisConfigBuilder};",
            "pub use login::{Credentials, CredentialsProvider};",
            "pub use state::{NodeState, RedisState};",
            "pub use tls::TlsConfig;",
        ],
        "add the files of what is new to this test"
    );
    let library = [
        "redis::",
        "Cmd",
        "RedisError",
        "RedisResult",
        "Pipeline",
        "Value>",
        "ConnectionInfo",
        "MultiplexedConnection",
    ];
    for file in ["backend.rs", "config/mod.rs", "config/builder.rs", "config/check.rs", "login.rs", "state.rs"] {
        let text = read(file);
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().map(str::trim).filter(|line| line.starts_with("pub ") || line.contains(" From<")) {
            assert!(!library.iter().any(|name| line.contains(name)), "{file}: {line}");
        }
    }
}
