//! Wrong arguments, servers that are not there, secrets and help.

use std::net::TcpListener;

use larder_testing::RedisServer;

use crate::{larder, run};

const COMMANDS: [&[&str]; 11] = [
    &["get", "a"],
    &["keys", "a*"],
    &["ttl", "a"],
    &["delete", "a"],
    &["invalidate", "--key", "a"],
    &["stats"],
    &["health"],
    &["doctor"],
    &["memory"],
    &["bigkeys"],
    &["explain", "a"],
];

/// A URL where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    format!("redis://{}", listener.local_addr().expect("it is bound"))
}

#[test]
fn a_server_that_cannot_be_reached_is_told_in_one_line_that_says_what_to_check() {
    let url = nowhere();
    for command in COMMANDS {
        for json in [&[][..], &["--json"]] {
            let arguments: Vec<&str> = [&["--redis", url.as_str()][..], json, command].concat();
            let answer = run(&arguments, &[]).fails(1);
            assert!(answer.err.contains(&url) && answer.err.contains("LARDER_REDIS_URL"), "{answer:?}");
            let verdict = match *command {
                ["health"] => Some("healthy"),
                ["doctor"] if !json.is_empty() => Some("fit"),
                _ => None,
            };
            assert_eq!(answer.out.is_empty(), verdict.is_none(), "{answer:?}");
            if let Some(verdict) = verdict.filter(|_| !json.is_empty()) {
                assert_eq!(answer.json()[verdict], false);
            }
        }
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up_after_the_deadline() {
    let server = RedisServer::start();
    server.pause();
    let answer = run(&["--redis", &server.url(), "--deadline", "100ms", "stats"], &[]).fails(1);
    server.resume();
    assert!(answer.err.contains("--deadline"), "{answer:?}");
}

#[test]
fn no_output_shows_a_password() {
    let server = RedisServer::builder().password("correct").start();
    let wrong = server.url().replace("correct", "hunter2");
    let closed = nowhere().replace("redis://", "redis://ada:hunter2@");
    for arguments in [
        &["--redis", wrong.as_str(), "stats"][..],
        &["--redis", wrong.as_str(), "--json", "health"],
        &["--redis", closed.as_str(), "stats"],
        &["--redis", closed.as_str(), "--json", "health"],
    ] {
        let answer = run(arguments, &[]).fails(1);
        assert!(!format!("{} {}", answer.text(), answer.err).contains("hunter2"), "{answer:?}");
    }
    for arguments in [
        &[wrong.as_str(), "stats"][..],
        &["--redis", "http://ada:hunter2@x", "stats"],
        &["--redis", "ada:hunter2@x", "stats"],
        &["--redis", "redis://ada:hunter2@x/seven", "stats"],
        &["stats", wrong.as_str()],
    ] {
        let answer = run(arguments, &[]);
        assert_eq!(answer.code, 2, "{answer:?}");
        assert!(!answer.err.contains("hunter2") && !answer.err.is_empty(), "{answer:?}");
    }
    let help = run(&["--help"], &[("LARDER_REDIS_URL", "redis://:hunter2@x")]).ok();
    assert!(!help.text().contains("hunter2"), "{help:?}");
}

#[test]
fn a_refused_login_says_what_to_correct() {
    let server = RedisServer::builder().password("correct").start();
    let url = server.url().replace("correct", "wrong");
    let answer = run(&["--redis", &url, "stats"], &[]).fails(1);
    assert!(answer.err.contains("user and password"), "{answer:?}");
    larder(&server, &["stats"]).ok();
}

#[test]
fn the_url_may_stand_in_the_environment() {
    let server = RedisServer::start();
    run(&["health"], &[("LARDER_REDIS_URL", &server.url())]).ok();
    let closed = nowhere();
    run(&["--redis", &server.url(), "health"], &[("LARDER_REDIS_URL", &closed)]).ok();
    run(&["health"], &[("LARDER_REDIS_URL", &closed)]).fails(1);
}

#[test]
fn wrong_arguments_end_with_2_before_any_server_is_asked() {
    let url = nowhere();
    for (arguments, said) in [
        (&[][..], "Usage"),
        (&["fetch"], "fetch"),
        (&["get"], "KEY"),
        (&["get", "a", "--raw", "--json"], "--raw"),
        (&["delete"], "KEY"),
        (&["invalidate"], "--everything"),
        (&["invalidate", "--everything"], "--yes"),
        (&["invalidate", "--tag", ""], "--tag is empty"),
        (&["keys", "a*", "--limit", "0"], "limit"),
        (&["get", ""], "KEY is empty"),
        (&["explain", ""], "KEY is empty"),
        (&["ttl", "a", ""], "KEY is empty"),
        (&["delete", ""], "KEY is empty"),
        (&["delete", "--canonical", "other:a", "--namespace", "shop"], "outside the namespace"),
        (&["keys", ""], "pattern"),
        (&["invalidate", "--pattern", ""], "--pattern is empty"),
        (&["invalidate", "--pattern", "*"], "pattern"),
        (&["invalidate", "--pattern", "*", "--dry-run"], "pattern"),
        (&["invalidate", "--pattern", "**"], "pattern"),
        (&["invalidate", "--key", "a", "--pattern", "?*"], "pattern"),
        (&["invalidate", "--region", ":"], "region"),
        (&["invalidate", "--key", "a", "--limit", "x"], "limit"),
        (&["invalidate", "--canonical", "--pattern", "shop:*", "--namespace", "shop"], "--everything"),
        (&["invalidate", "--canonical", "--key", "other:a", "--namespace", "shop"], "outside the namespace"),
        (&["stats", "--deadline", "2"], "500ms, 2s or 1m"),
        (&["stats", "--namespace", ":x"], "namespace"),
        (&["stats", "--namespace", ""], "namespace"),
    ] {
        let arguments: Vec<&str> = [&["--redis", url.as_str()][..], arguments].concat();
        let answer = run(&arguments, &[]);
        assert_eq!(answer.code, 2, "{arguments:?}: {answer:?}");
        assert!(answer.err.contains(said) && answer.out.is_empty(), "{arguments:?}: {answer:?}");
    }
}

#[test]
fn every_command_has_help_with_examples() {
    let program = run(&["--help"], &[]).ok().text();
    assert!(program.contains("Exit codes"), "{program}");
    for command in COMMANDS {
        assert!(program.contains(command[0]), "{}", command[0]);
        let help = run(&[command[0], "--help"], &[]).ok().text();
        assert!(help.contains("Examples:") && help.contains(&format!(" {} ", command[0])), "{help}");
    }
    assert!(run(&["--version"], &[]).ok().text().starts_with("larder "));
}
