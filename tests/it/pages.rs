//! The Markdown pages beside the code.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The pages whose snippets are doc tests.
const PAGES: [&str; 11] = [
    "README.md",
    "docs/architecture.md",
    "docs/behaviours/batches.md",
    "docs/behaviours/degradation.md",
    "docs/behaviours/invalidation.md",
    "docs/behaviours/staleness.md",
    "docs/behaviours/stampedes.md",
    "docs/behaviours/timeouts.md",
    "docs/guide-map.md",
    "docs/redis.md",
    "docs/strategies.md",
];

/// The Rust snippets of a page.
fn snippets(page: &str) -> Vec<String> {
    let mut snippets = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```rust") {
            let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            snippets.push(code.join("\n"));
        }
    }
    snippets
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_page_with_rust_in_it_is_a_doc_test() {
    let library = read(&root().join("tests/src/lib.rs"));
    for page in PAGES {
        assert!(library.contains(&format!("../../{page}\"")), "{page} is not in tests/src/lib.rs");
    }
    for folder in ["docs", "docs/behaviours"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().display());
            if name.ends_with(".md") && !snippets(&read(&path)).is_empty() {
                assert!(
                    PAGES.contains(&name.as_str()),
                    "{name} has Rust snippets: add it here and in tests/src/lib.rs"
                );
            }
        }
    }
}

#[test]
fn tests_that_a_page_shows_are_tests_here() {
    let files = fs::read_dir(root().join("tests/it/snippets")).unwrap();
    let known: Vec<String> = files.map(|file| read(&file.unwrap().path())).collect();
    let mut shown = 0;
    for page in PAGES {
        for snippet in snippets(&read(&root().join(page))) {
            if snippet.contains("::test]") {
                shown += 1;
                let is_known = known.iter().any(|file| file.contains(&snippet));
                assert!(is_known, "{page} shows a test that is in no file of tests/it/snippets:\n{snippet}");
            }
        }
    }
    assert!(shown > 0, "no page shows a test any more: has their form changed?");
}
