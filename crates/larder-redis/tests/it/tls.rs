//! TLS: whom this client trusts, and what it shows of itself.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use larder_core::{BackendExt, Error, ErrorKind, Result};
use larder_redis::{RedisBackend, RedisConfig, RedisConfigBuilder, TlsConfig};
use larder_testing::RedisServer;

use crate::server::{key, plain, until, within};

/// A folder with two certificate authorities, and certificates of the first: of the server and of a client.
struct Certificates(PathBuf);

impl Certificates {
    fn create() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("larder-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let these = Self(std::env::temp_dir().join(name));
        fs::create_dir(&these.0).unwrap();
        these.authority("ca");
        these.authority("other");
        fs::write(these.path("san"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n").unwrap();
        these.signed("server", "ca");
        these.signed("client", "ca");
        these.signed("stranger", "other");
        these
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn pem(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn authority(&self, name: &str) {
        let (subject, key, certificate) = (format!("/CN=larder {name}"), format!("{name}.key"), format!("{name}.crt"));
        self.openssl(&["req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate], true);
    }

    fn signed(&self, name: &str, by: &str) {
        let [key, request, certificate] = ["key", "csr", "crt"].map(|ending| format!("{name}.{ending}"));
        let subject = format!("/CN=larder {name}");
        self.openssl(&["req", "-subj", &subject, "-keyout", &key, "-out", &request], true);
        let [by_key, by_certificate] = ["key", "crt"].map(|ending| format!("{by}.{ending}"));
        let sign =
            ["x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", "san", "-in", &request, "-out", &certificate];
        self.openssl(&[&sign[..], &["-CA", &by_certificate, "-CAkey", &by_key]].concat(), false);
    }

    fn openssl(&self, arguments: &[&str], new_key: bool) {
        let new_key: &[&str] =
            if new_key { &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"] } else { &[] };
        let mut command = Command::new("openssl");
        let output = command.current_dir(&self.0).args(arguments).args(new_key).stdin(Stdio::null()).output();
        let output = output.expect("this test needs the program openssl");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // What is left in the folder for temporary files does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A server that also listens with TLS. The port may be taken by another process before the server has it, which fails.
fn start(certificates: &Certificates, auth_clients: &str) -> (RedisServer, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = |name: &str| Path::to_str(&certificates.path(name)).unwrap().to_owned();
    let server = RedisServer::builder()
        .option("tls-port", port)
        .option("tls-cert-file", path("server.crt"))
        .option("tls-key-file", path("server.key"))
        .option("tls-ca-cert-file", path("ca.crt"))
        .option("tls-auth-clients", auth_clients)
        .start();
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
    let certificates = Certificates::create();
    let (server, port) = start(&certificates, "no");
    let config = at(port).tls(TlsConfig::new().ca_pem(certificates.pem("ca.crt"))).sockets(2);
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    assert!(backend.set(&key("a"), "1".into(), plain()).await.unwrap().is_stored());
    assert_eq!(server.command(&["GET", "a"]), "1");
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap().unwrap(), "1");
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused_and_the_error_says_what_to_give() {
    let certificates = Certificates::create();
    let (_server, port) = start(&certificates, "no");
    let systems = refused(at(port)).await;
    let others = refused(at(port).tls(TlsConfig::new().ca_pem(certificates.pem("other.crt")))).await;
    for error in [systems, others] {
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        assert!(error.message().contains("ca_pem"), "{error}");
    }
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() {
    let certificates = Certificates::create();
    let (_server, port) = start(&certificates, "no");
    let trusted = TlsConfig::new().ca_pem(certificates.pem("ca.crt"));
    let error = refused(RedisConfig::builder().url(format!("rediss://localhost:{port}")).tls(trusted)).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(error.message().contains("name"), "{error}");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_takes_the_right_one_alone() {
    let certificates = Certificates::create();
    let (_server, port) = start(&certificates, "yes");
    let trusting = || TlsConfig::new().ca_pem(certificates.pem("ca.crt"));
    let showing = |name: &str| {
        let [certificate, key] = ["crt", "key"].map(|ending| certificates.pem(&format!("{name}.{ending}")));
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
    let certificates = Certificates::create();
    let (server, port) = start(&certificates, "no");
    // The server takes the greeting for the beginning of a command, and waits for the rest.
    let tls = at(server.port()).tls(TlsConfig::new().ca_pem(certificates.pem("ca.crt"))).build().unwrap();
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
