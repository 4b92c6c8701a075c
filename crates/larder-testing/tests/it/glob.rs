//! The table of globs against a real server, against core's matcher, and against cases from elsewhere.

use std::{collections::BTreeSet, fs, path::Path};

use larder_core::glob_matches;
use larder_testing::{RedisServer, conformance::glob_cases};

#[test]
fn the_table_holds_on_a_real_server() {
    let server = RedisServer::start();
    for case in glob_cases() {
        server.command(&["FLUSHALL"]);
        for text in case.matching.iter().chain(case.other) {
            server.command(&["SET", text, "v"]);
        }
        let listed = server.command(&["KEYS", case.pattern]);
        let listed: BTreeSet<_> = listed.lines().collect();
        assert_eq!(listed, case.matching.iter().copied().collect(), "{:?}", case.pattern);
    }
}

#[test]
fn the_table_holds_for_the_matcher_of_core() {
    for case in glob_cases() {
        for text in case.matching {
            assert!(glob_matches(case.pattern.as_bytes(), text.as_bytes()), "{:?} matches {text:?}", case.pattern);
        }
        for text in case.other {
            assert!(!glob_matches(case.pattern.as_bytes(), text.as_bytes()), "{:?} matches {text:?}", case.pattern);
        }
    }
}

/// A collection of cases beside the checkout, where there is one.
#[test]
fn cases_from_beside_the_checkout_hold_where_they_are_present() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/conformance/glob-cases.json");
    let Ok(text) = fs::read_to_string(path) else { return };
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = document["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let pattern = case["pattern"].as_str().unwrap();
        for (field, expected) in [("match", true), ("no_match", false)] {
            for text in case[field].as_array().into_iter().flatten() {
                let text = text.as_str().unwrap();
                assert_eq!(glob_matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern:?} on {text:?}");
            }
        }
    }
}
