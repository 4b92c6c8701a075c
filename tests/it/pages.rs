//! The Markdown pages beside the code.

use std::{fs, path::Path};

/// The pages whose snippets are doc tests.
const PAGES: [&str; 4] = ["README.md", "docs/architecture.md", "docs/guide-map.md", "docs/strategies.md"];

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

#[test]
fn tests_that_a_page_shows_are_tests_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let files = fs::read_dir(root.join("tests/it/snippets")).unwrap();
    let known: Vec<String> = files.map(|file| read(&file.unwrap().path())).collect();
    let mut shown = 0;
    for page in PAGES {
        for snippet in snippets(&read(&root.join(page))) {
            if snippet.contains("::test]") {
                shown += 1;
                let is_known = known.iter().any(|file| file.contains(&snippet));
                assert!(is_known, "{page} shows a test that is in no file of tests/it/snippets:\n{snippet}");
            }
        }
    }
    assert!(shown > 0, "no page shows a test any more: has their form changed?");
}
