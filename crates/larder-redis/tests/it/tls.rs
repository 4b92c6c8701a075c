//! TLS: whom this client trusts, and what it shows of itself.

use larder_core::{BackendExt, BusEvent, BusSource, Error, ErrorKind, GetOptions, Key, Result, SetItem};
use larder_redis::{RedisBackend, RedisConfig, RedisConfigBuilder, TlsConfig};
use larder_testing::{RedisCluster, RedisSentinels, RedisServer, TlsCertificates};

use crate::server::{key, plain, until, within};

/// A server that also listens with TLS.
fn start(certificates: &TlsCertificates, auth_clients: &str) -> (RedisServer, u16) {
    let server = RedisServer::builder().tls(certificates.files()).option("tls-auth-clients", auth_clients).start();
    let port = server.tls_port().unwrap();
    (server, port)
}

fn at(port: u16) -> RedisConfigBuilder {
    RedisConfig::builder().url(format!("rediss://127.0.0.1:{port}"))
}

async fn refused(config: RedisConfigBuilder) -> Error {
    let error = within(RedisBackend::connect(config.build().unwrap())).await.unwrap_err();
    assert!(!error.is_transient() && !error.to_string().contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn a_server_is_trusted_by_its_own_authority_without_a_provider_being_installed() {
    let certificates = TlsCertificates::create();
    let (server, port) = start(&certificates, "no");
    let config = at(port).tls(TlsConfig::new().ca_pem(certificates.authority_pem("ca"))).sockets(2);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    assert!(backend.set(&key("a"), "1".into(), plain()).await.unwrap().is_stored());
    assert_eq!(server.command(&["GET", "a"]), "1");
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap().unwrap(), "1");
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused_and_the_error_says_what_to_give() {
    let certificates = TlsCertificates::create();
    let (_server, port) = start(&certificates, "no");
    let systems = refused(at(port)).await;
    let others = refused(at(port).tls(TlsConfig::new().ca_pem(certificates.authority_pem("other")))).await;
    for error in [systems, others] {
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        assert!(error.message().contains("ca_pem"), "{error}");
    }
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() {
    let certificates = TlsCertificates::create();
    let (_server, port) = start(&certificates, "no");
    let trusted = TlsConfig::new().ca_pem(certificates.authority_pem("ca"));
    let error = refused(RedisConfig::builder().url(format!("rediss://localhost:{port}")).tls(trusted)).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(error.message().contains("name"), "{error}");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_takes_the_right_one_alone() {
    let certificates = TlsCertificates::create();
    let (_server, port) = start(&certificates, "yes");
    let trusting = || TlsConfig::new().ca_pem(certificates.authority_pem("ca"));
    let showing = |name: &str| {
        let (certificate, key) = certificates.pair_pem(name);
        trusting().client_pem(certificate, key)
    };
    let right = at(port).tls(showing("client")).build().unwrap();
    within(RedisBackend::connect(right)).await.unwrap();
    for tls in [trusting(), showing("stranger")] {
        let error = within(RedisBackend::connect(at(port).tls(tls).build().unwrap())).await.unwrap_err();
        // The refusal comes after the handshake, and may be lost when the server closes the connection.
        assert!(matches!(error.kind(), ErrorKind::Auth | ErrorKind::Unavailable), "{error}");
        assert!(error.message().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn tls_to_a_port_without_it_fails_in_time_and_the_reverse_says_what_may_be_wrong() {
    let certificates = TlsCertificates::create();
    let (server, port) = start(&certificates, "no");
    // The server takes the greeting for the beginning of a command, and waits for the rest.
    let tls = at(server.port()).tls(TlsConfig::new().ca_pem(certificates.authority_pem("ca"))).build().unwrap();
    let error = within(RedisBackend::connect(tls)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let plain = RedisConfig::builder().port(port).build().unwrap();
    let error = within(RedisBackend::connect(plain)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("TLS"), "{error}");
}

#[test]
fn certificates_that_are_none_are_refused_before_anything_is_connected() {
    for tls in [TlsConfig::new().ca_pem("x"), TlsConfig::new().client_pem("x", "y")] {
        let error = RedisBackend::new(at(1).tls(tls).build().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains("`tls`") && error.message().contains("PEM"), "{error}");
    }
}

fn patient(url: String, certificates: &TlsCertificates) -> RedisConfigBuilder {
    let deadline = std::time::Duration::from_secs(2);
    let tls = TlsConfig::new().ca_pem(certificates.authority_pem("ca"));
    RedisConfig::builder().url(url).tls(tls).connect_deadline(deadline).command_deadline(deadline)
}

#[tokio::test]
async fn a_cluster_is_reached_by_tls_on_all_its_nodes_and_its_bus_too() {
    let certificates = TlsCertificates::create();
    let cluster = RedisCluster::builder().tls(certificates.files()).replicas(0).start();
    let backend = within(RedisBackend::connect(patient(cluster.url(), &certificates).build().unwrap())).await.unwrap();
    let keys: Vec<Key> = (0..60).map(|index| key(&format!("k{index}"))).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "1", plain())).collect();
    for stored in larder_core::Backend::set_many(&backend, &items).await {
        assert!(stored.unwrap().is_stored());
    }
    let mut addresses: Vec<_> = backend.state().nodes.into_iter().map(|node| node.address).collect();
    addresses.sort();
    let mut seeds = cluster.seeds();
    seeds.sort();
    assert_eq!(addresses, seeds, "the ports for TLS");
    let mut events = backend.open_bus("channel").await.unwrap().events();
    assert_eq!(within(futures_util::StreamExt::next(&mut events)).await, Some(BusEvent::Confirmed));
    // A node that another one names is trusted by its own certificate.
    let slot = cluster.slot_of("k0");
    cluster.begin_migration(slot, (cluster.primary_of_slot(slot) + 1) % 3);
    while cluster.move_keys(slot, 10) > 0 {}
    cluster.finish_migration(slot);
    for found in larder_core::Backend::get_many(&backend, &keys, GetOptions::new()).await {
        assert_eq!(found.unwrap().unwrap().value, "1");
    }
    let strange = TlsConfig::new().ca_pem(certificates.authority_pem("other"));
    let error = refused(patient(cluster.url(), &certificates).tls(strange)).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_the_servers_that_they_name_are_reached_by_tls() {
    let certificates = TlsCertificates::create();
    let sentinels = RedisSentinels::builder().tls(certificates.files()).start();
    let config = || patient(sentinels.url(), &certificates);
    let backend = within(RedisBackend::connect(config().build().unwrap())).await.unwrap();
    assert!(backend.set(&key("a"), "1".into(), plain()).await.unwrap().is_stored());
    let strange = TlsConfig::new().ca_pem(certificates.authority_pem("other"));
    let error = refused(config().tls(strange)).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    let sentinels = tokio::task::spawn_blocking(move || {
        sentinels.failover();
        sentinels
    });
    let sentinels = sentinels.await.unwrap();
    let primary = sentinels.server(sentinels.primary());
    // The old one takes writes until it has been told.
    within(async {
        while primary.command(&["GET", "a"]) != "2" {
            drop(backend.set(&key("a"), "2".into(), plain()).await);
            tokio::task::yield_now().await;
        }
    })
    .await;
}
