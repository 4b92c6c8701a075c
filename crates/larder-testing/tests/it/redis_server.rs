//! The server fixture, against real servers.

use std::{io, path::Path};

use larder_testing::RedisServer;

#[test]
fn a_server_answers_and_is_gone_with_its_value() {
    let server = RedisServer::start();
    assert_eq!(server.command(&["SET", "k", "with space\r\n"]), "OK");
    assert_eq!(server.command(&["GET", "k"]), "with space\r\n");
    assert_eq!(server.command(&["GET", "absent"]), "(nil)");
    assert_eq!(server.command(&["MGET", "absent", "k"]), "(nil)\nwith space\r\n");
    assert_eq!(server.command(&["INCRBY", "n", "-3"]), "-3");
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    let (process, directory) = (server.process_id().unwrap(), server.command(&["CONFIG", "GET", "dir"]));
    let directory = directory.lines().nth(1).unwrap().to_owned();
    assert!(Path::new(&directory).is_dir());
    drop(server);
    assert!(!Path::new(&directory).exists());
    assert!(!Path::new(&format!("/proc/{process}")).exists());
}

#[test]
fn an_error_reply_is_an_error() {
    let error = RedisServer::start().try_command(&["NOSUCH"]).unwrap_err();
    assert!(error.to_string().contains("unknown command"), "{error}");
}

#[test]
fn two_servers_share_nothing() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    assert_ne!(one.port(), other.port());
    one.command(&["SET", "k", "v"]);
    assert_eq!(other.command(&["EXISTS", "k"]), "0");
}

#[test]
fn a_restarted_server_is_empty_and_on_the_same_port() {
    let mut server = RedisServer::start();
    let (port, process) = (server.port(), server.process_id());
    server.command(&["SET", "k", "v"]);
    server.kill();
    assert_eq!(server.process_id(), None);
    assert_eq!(server.try_command(&["PING"]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.process_id(), process);
    assert_eq!(server.command(&["EXISTS", "k"]), "0");
}

#[test]
fn a_paused_server_keeps_what_it_has() {
    let server = RedisServer::start();
    server.command(&["SET", "k", "v"]);
    server.pause();
    let state = format!("/proc/{}/stat", server.process_id().unwrap());
    // The kernel stops the process some time after the signal was sent.
    while !std::fs::read_to_string(&state).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    server.resume();
    assert_eq!(server.command(&["GET", "k"]), "v");
}

#[test]
fn settings_reach_the_server() {
    let server = RedisServer::builder()
        .password("p@ss word")
        .max_memory_bytes(8 << 20)
        .databases(3)
        .unix_socket()
        .option("maxmemory-policy", "allkeys-lru")
        .start();
    assert_eq!(server.url(), format!("redis://:p%40ss%20word@127.0.0.1:{}", server.port()));
    for (name, value) in [("maxmemory", "8388608"), ("databases", "3"), ("maxmemory-policy", "allkeys-lru")] {
        assert_eq!(server.command(&["CONFIG", "GET", name]), format!("{name}\n{value}"));
    }
    let socket = server.unix_socket().unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
}

#[test]
fn arguments_of_several_words_reach_the_server() {
    let limit = ["--client-output-buffer-limit", "pubsub", "1mb", "0", "0"];
    let server = RedisServer::with_args(&[&limit[..], &["--databases", "3"]].concat());
    assert!(server.command(&["CONFIG", "GET", "client-output-buffer-limit"]).ends_with("pubsub 1048576 0 0"));
    assert_eq!(server.command(&["CONFIG", "GET", "databases"]), "databases\n3");
}

#[test]
fn users_come_from_an_acl_file() {
    let server = RedisServer::builder().acl("user reader on >secret ~* +get").start();
    assert!(server.command(&["ACL", "LIST"]).contains("user reader on"));
    assert_eq!(server.command(&["PING"]), "PONG");
}

#[test]
fn a_server_that_cannot_start_shows_its_log() {
    let error = RedisServer::builder().option("no-such-setting", 1).try_start().unwrap_err();
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}

#[test]
fn a_missing_program_names_the_command_that_installs_it() {
    let error = RedisServer::builder().program("/nonexistent/redis-server").try_start().unwrap_err();
    assert!(error.to_string().contains("cargo xtask test"), "{error}");
    assert!(error.to_string().contains("/nonexistent/redis-server"), "{error}");
}
