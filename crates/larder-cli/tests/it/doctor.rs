//! `larder doctor` before servers that are fit for a cache, and not.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use larder_testing::{RedisCluster, RedisSentinels, RedisServer};
use serde_json::Value;

use crate::{Answer, larder, run};

fn finding<'a>(document: &'a Value, check: &str) -> &'a Value {
    let findings = document["findings"].as_array().expect("a list of findings");
    findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check}: {document}"))
}

fn grade<'a>(document: &'a Value, check: &str) -> &'a str {
    finding(document, check)["grade"].as_str().expect("a grade")
}

fn found<'a>(document: &'a Value, check: &str) -> &'a str {
    finding(document, check)["found"].as_str().expect("what was found")
}

/// The doctor's answer about a server behind any URL.
fn doctor(url: &str, more: &[&str]) -> Answer {
    let mut all = vec!["--redis", url, "--deadline", "10s", "--json", "doctor", "--pings", "3"];
    all.extend(more);
    run(&all, &[])
}

/// The doctor does not reach a server, and says so in a document as well as on standard error.
fn unreachable(url: &str, more: &[&str]) -> (String, String) {
    let answer = doctor(url, more).fails(1);
    let document = answer.json();
    let connection = finding(&document, "connection");
    assert_eq!(
        (&document["fit"], &document["ping_us"], &document["sample"]),
        (&false.into(), &Value::Null, &Value::Null)
    );
    assert_eq!(connection["grade"], "failure");
    let text = |field: &str| connection[field].as_str().expect("a text");
    let (found, todo) = (text("found"), text("todo"));
    assert!(answer.err.contains(todo), "{answer:?}");
    (found.to_owned(), todo.to_owned())
}

/// A cache's server by the page's advice.
fn fit() -> larder_testing::RedisServerBuilder {
    RedisServer::builder().max_memory_bytes(64 << 20).option("maxmemory-policy", "allkeys-lru")
}

#[test]
fn a_server_with_a_limit_and_eviction_is_fit() {
    let server = fit().start();
    let document = larder(&server, &["--json", "doctor", "--pings", "20"]).ok().json();
    assert_eq!((&document["fit"], &document["ping_us"]["count"]), (&true.into(), &20.into()), "{document}");
    assert_eq!(grade(&document, "maxmemory-policy"), "ok");
    let text = larder(&server, &["doctor", "--pings", "1"]).ok().text();
    assert!(text.ends_with("\nfit for a cache\n"), "{text}");
}

#[test]
fn a_server_as_redis_ships_it_is_not_fit() {
    let server = RedisServer::start();
    let answer = larder(&server, &["--json", "doctor", "--pings", "1"]).fails(1);
    assert!(answer.err.contains("maxmemory, maxmemory-policy"), "{answer:?}");
    let document = answer.json();
    assert_eq!(document["fit"], false);
    assert_eq!((grade(&document, "maxmemory"), grade(&document, "version")), ("warning", "ok"));
}

#[test]
fn advice_leaves_a_server_fit() {
    let server = RedisServer::builder().max_memory_bytes(64 << 20).option("maxmemory-policy", "volatile-lru").start();
    server.command(&["SET", "for-ever", "1"]);
    let document = larder(&server, &["--json", "doctor", "--pings", "1"]).ok().json();
    assert_eq!((grade(&document, "maxmemory-policy"), grade(&document, "keys without TTL")), ("advice", "advice"));
}

#[test]
fn no_pings_or_too_many_are_wrong_arguments() {
    for pings in ["0", "1000001", "x"] {
        let answer = run(&["doctor", "--pings", pings], &[]);
        assert_eq!(answer.code, 2, "{answer:?}");
    }
}

#[test]
fn a_sample_shows_what_lies_in_the_server() {
    let server = fit().start();
    for index in 0..30 {
        server.command(&["SET", &format!("shop:user:{index}"), "v", "EX", "3000"]);
    }
    let large = "v".repeat(2 << 20);
    server.command(&["SET", "shop:report:1", &large]);
    let document = larder(&server, &["--json", "doctor", "--pings", "1"]).ok().json();
    let sample = &document["sample"];
    assert_eq!((&sample["keys"], &sample["total"], &sample["without_ttl"]), (&31.into(), &31.into(), &1.into()));
    assert_eq!(
        (&sample["prefixes"][0]["prefix"], &sample["prefixes"][1]["keys"]),
        (&"shop:report:".into(), &30.into())
    );
    assert_eq!(sample["biggest"][0]["key"], "shop:report:1");
    let hour = sample["ttl"].as_array().unwrap().iter().find(|band| band["up_to_ms"] == 3_600_000).unwrap();
    assert_eq!(hour["keys"], 30);
    assert_eq!((grade(&document, "big keys"), grade(&document, "keys without TTL")), ("advice", "advice"));
    assert!(found(&document, "big keys").ends_with("shop:report:1"), "{document}");
    let text = larder(&server, &["doctor", "--pings", "1"]).ok().text();
    for part in ["31 of 31 keys looked at", "up to 1 h", "shop:user:", "without TTL: 3 %"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let document = larder(&server, &["--json", "doctor", "--pings", "1", "--sample", "0"]).ok().json();
    assert_eq!(document["sample"], Value::Null);
}

#[test]
fn settings_are_judged() {
    let server = fit()
        .arguments(&[
            "--save",
            "3600",
            "1",
            "--timeout",
            "60",
            "--tcp-keepalive",
            "0",
            "--notify-keyspace-events",
            "KEA",
        ])
        .start();
    server.command(&["RPUSH", "list", "v"]);
    let document = larder(&server, &["--json", "doctor", "--pings", "1"]).ok().json();
    for check in ["save", "timeout", "tcp-keepalive", "notify-keyspace-events", "lazyfree"] {
        assert_eq!(grade(&document, check), "advice", "{check}");
    }
    assert_eq!((grade(&document, "maxclients"), grade(&document, "hz")), ("ok", "ok"));
    assert_eq!(document["settings"]["save"], serde_json::json!(["3600 1"]));
}

#[test]
fn a_user_who_may_see_little_learns_little_and_the_server_is_not_blamed() {
    let server = fit().acl("user blind on >secret ~* +@connection +info +dbsize").start();
    server.command(&["SET", "shop:1", "v"]);
    let document = doctor(&server.url().replace("://", "://blind:secret@"), &[]).ok().json();
    assert!(found(&document, "settings").starts_with("unknown"), "{document}");
    assert!(found(&document, "keys").starts_with("unknown"), "{document}");
}

#[test]
fn a_client_that_waits_is_told_of() {
    let server = fit().start();
    let url = server.url();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.command(&["BLPOP", "queue", "9"]));
        while !server.command(&["INFO", "clients"]).contains("blocked_clients:1") {
            assert!(!waiting.is_finished(), "nobody waits");
        }
        let document = doctor(&url, &[]).ok().json();
        server.command(&["RPUSH", "queue", "v"]);
        assert_eq!((grade(&document, "blocked clients"), found(&document, "blocked clients")), ("advice", "1"));
    });
}

#[test]
fn a_cluster_is_examined_as_a_whole() {
    let cluster = RedisCluster::builder()
        .replicas(0)
        .option("cluster-require-full-coverage", "no")
        .option("maxmemory", 32 << 20)
        .option("maxmemory-policy", "allkeys-lru")
        .start();
    for node in 0..3 {
        let key = (0..).map(|it| format!("shop:user:{it}")).find(|key| cluster.primary_of(key) == node).unwrap();
        cluster.node(node).command(&["SET", &key, "v", "EX", "3000"]);
    }
    let document = doctor(&cluster.url(), &[]).ok().json();
    assert_eq!(found(&document, "topology"), "cluster, 3 primaries");
    assert_eq!(found(&document, "cluster"), "ok, 16384 of 16384 slots covered");
    assert!(found(&document, "maxmemory").starts_with("96.0 MiB"), "{document}");
    assert_eq!(document["sample"]["keys"], 3);

    let one = doctor(&cluster.node(0).url(), &[]).fails(1).json();
    assert_eq!(grade(&one, "topology"), "failure");

    for node in 0..3 {
        cluster.node(node).command(&["CLUSTER", "DELSLOTS", "42"]);
    }
    let document = doctor(&cluster.url(), &[]).fails(1).json();
    assert_eq!(
        (grade(&document, "cluster"), found(&document, "cluster")),
        ("failure", "ok, 16383 of 16384 slots covered")
    );
}

#[test]
fn a_service_behind_sentinels_and_its_replicas_are_examined() {
    let group = RedisSentinels::start();
    let document = doctor(&group.url(), &[]).fails(1).json();
    assert_eq!((found(&document, "topology"), found(&document, "role")), ("sentinel", "primary"));
    assert_eq!((grade(&document, "replicas"), found(&document, "replicas")), ("ok", "2"));
    let replica = (0..3).find(|index| *index != group.primary()).unwrap();
    let document = doctor(&group.server(replica).url(), &[]).fails(1).json();
    assert_eq!((grade(&document, "role"), found(&document, "role")), ("failure", "replica, linked to its primary"));
}

#[test]
fn a_server_that_refuses_is_told_from_one_that_is_silent() {
    let mut server = RedisServer::start();
    server.pause();
    let (found, todo) = unreachable(&server.url(), &["--deadline", "200ms"]);
    assert!(found.contains("no connection to the server within the connect deadline"), "{found}");
    server.resume();
    server.kill();
    let (refused, _) = unreachable(&server.url(), &[]);
    assert!(
        refused.contains("nothing listens at the server's address") && todo.contains("--redis"),
        "{refused} {todo}"
    );
}

#[test]
fn tls_where_there_is_none_ends_at_the_deadline_with_a_hint() {
    // A Redis server without TLS waits for the end of a line that does not come.
    let server = RedisServer::start();
    let (_, todo) = unreachable(&server.url().replace("redis://", "rediss://"), &["--deadline", "300ms"]);
    assert!(todo.contains("one without TLS with redis://"), "{todo}");
}

#[test]
fn a_server_with_its_own_authority_is_examined_with_its_file() {
    let certificates = Certificates::make();
    let [authority, certificate, key] = ["ca.pem", "peer.pem", "peer.key"].map(|file| certificates.path(file));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let _server = fit()
        .arguments(&["--tls-port", &port, "--tls-ca-cert-file", &authority])
        .arguments(&["--tls-cert-file", &certificate, "--tls-key-file", &key])
        .start();
    let url = format!("rediss://127.0.0.1:{port}");
    let trusting = ["--tls-ca", &authority, "--tls-cert", &certificate, "--tls-key", &key];
    assert_eq!(doctor(&url, &trusting).ok().json()["fit"], true);
    let (found, _) = unreachable(&url, &[]);
    assert!(found.contains("certificate is not trusted"), "{found}");
    for alone in [&trusting[2..4], &trusting[4..]] {
        assert!(doctor(&url, alone).fails(2).err.contains("go together"));
    }
}

/// An authority, and a certificate of it for 127.0.0.1, in a directory that goes with this value.
struct Certificates(PathBuf);

impl Certificates {
    fn make() -> Self {
        let directory = std::env::temp_dir().join(format!("larder-certificates-{:016x}", fastrand::u64(..)));
        fs::create_dir(&directory).expect("the directory of temporary files can be written");
        let own = Self(directory);
        fs::write(own.path("peer.ext"), "subjectAltName=IP:127.0.0.1").expect("the directory can be written");
        let new_key = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        own.openssl(&format!("{new_key} -x509 -days 1 -subj /CN=authority -keyout ca.key -out ca.pem"));
        own.openssl(&format!("{new_key} -subj /CN=peer -keyout peer.key -out peer.csr"));
        own.openssl(
            "x509 -req -days 1 -in peer.csr -CA ca.pem -CAkey ca.key -set_serial 2 -extfile peer.ext -out peer.pem",
        );
        own
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.0).output();
        let output = output.expect("openssl makes the certificates of this test; install it");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().expect("the path is text").to_owned()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_wrong_password_is_told_from_a_missing_right() {
    let server = RedisServer::builder().acl("user blind on >secret ~* +@connection").start();
    let (found, todo) = unreachable(&server.url().replace("://", "://blind:wrong@"), &[]);
    assert!(found.contains("refused user or password") && todo.contains("password"), "{found} {todo}");
    let (found, todo) = unreachable(&server.url().replace("://", "://blind:secret@"), &[]);
    assert!(found.contains("lacks the right") && todo.contains("ACL"), "{found} {todo}");
}

#[test]
fn a_server_that_still_loads_is_not_fit_yet() {
    // A server that loads one key every 20 ms, until it is told not to.
    let server = fit()
        .option("enable-debug-command", "yes")
        .option("key-load-delay", 20_000)
        .option("loading-process-events-interval-bytes", 1_024)
        .start();
    server.command(&["DEBUG", "POPULATE", "20000"]);
    let url = server.url();
    thread::scope(|scope| {
        scope.spawn(|| server.try_command(&["DEBUG", "RELOAD"]));
        while !server.try_command(&["INFO", "persistence"]).is_ok_and(|info| info.contains("loading:1")) {}
        let document = doctor(&url, &[]).fails(1).json();
        server.command(&["CONFIG", "SET", "key-load-delay", "0"]);
        assert_eq!((grade(&document, "loading"), &document["ping_us"]), ("failure", &Value::Null));
    });
}

#[test]
fn what_is_no_redis_server_is_called_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Answers as a web server does, until the test's process ends.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // One that hangs up at once has seen enough.
            if stream.read(&mut [0; 1024]).is_ok_and(|bytes| bytes > 0) {
                drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
            }
        }
    });
    let (found, todo) = unreachable(&format!("redis://{address}"), &[]);
    assert!(found.contains("is this a Redis server?") && todo.contains("something else"), "{found} {todo}");
}

fn project(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The command of the service in the compose file: a list, one item a line.
fn composed_command() -> Vec<String> {
    let file = project("docker-compose.yml");
    let lines = file.lines().skip_while(|line| line.trim() != "command:").skip(1).map(str::trim);
    let items = lines.filter(|line| !line.starts_with('#')).map_while(|line| line.strip_prefix("- "));
    items.map(|item| item.trim_matches('"').to_owned()).collect()
}

#[test]
fn the_server_of_the_compose_file_is_fit_without_any_advice() {
    let command = composed_command();
    let (program, options) = command.split_first().expect("a command");
    assert_eq!(program, "redis-server");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    assert!(options.contains(&"--maxmemory") && options.contains(&"--lazyfree-lazy-server-del"), "{options:?}");
    let server = RedisServer::builder().arguments(&options).start();
    server.command(&["SET", "shop:user:7", "v", "EX", "300"]);
    let document = larder(&server, &["--json", "doctor", "--pings", "3"]).ok().json();
    assert_eq!(document["fit"], true);
    for finding in document["findings"].as_array().unwrap() {
        // How soon it answers is the machine's matter.
        assert!(finding["grade"] == "ok" || finding["check"] == "latency", "{finding}");
    }
    assert_eq!(found(&document, "maxmemory-policy"), "allkeys-lru, 0 keys evicted");
    assert!(found(&document, "maxmemory").starts_with("768.0 MiB"), "{document}");
}

#[test]
fn the_operators_rights_of_the_page_are_enough() {
    let page = project("docs/redis.md");
    let rule = page.lines().find(|line| line.starts_with("user larder-doctor ")).expect("the page shows the rule");
    let server = fit().acl(rule).start();
    server.command(&["SET", "shop:user:7", "v", "EX", "300"]);
    server.command(&["ACL", "LOG", "RESET"]);
    let url = server.url().replace("://", "://larder-doctor:change-me@");
    let document = doctor(&url, &[]).ok().json();
    assert_eq!((&document["sample"]["keys"], &document["settings"]["save"]), (&1.into(), &serde_json::json!([""])));
    for command in ["memory", "bigkeys"] {
        run(&["--redis", &url, "--deadline", "10s", command], &[]).ok();
    }
    assert_eq!(server.command(&["ACL", "LOG"]), "", "the server refused something");
}
