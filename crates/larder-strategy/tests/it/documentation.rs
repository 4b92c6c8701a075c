use larder_strategy::{policy_table, presets, recommend::recommendation_table};

/// The crate's documentation as a reader sees it.
fn crate_docs() -> String {
    let source = include_str!("../../src/lib.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// The page in the repository; a published crate is tested without it.
fn docs_page() -> Option<String> {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/strategies.md")).ok()
}

fn assert_holds(place: &str, text: &str, table: &str) {
    assert!(text.contains(table), "{place} does not show this table, which the code gives:\n{table}");
}

#[test]
fn the_table_of_presets_in_the_documentation_is_what_the_presets_do() {
    let table = policy_table(&presets::all());
    assert_holds("src/lib.rs", &crate_docs(), &table);
    if let Some(page) = docs_page() {
        assert_holds("docs/strategies.md", &page, &table);
    }
}

#[test]
fn the_table_of_recommended_ttls_in_the_documentation_is_what_the_helpers_say() {
    let table = recommendation_table();
    assert_holds("src/lib.rs", &crate_docs(), &table);
    if let Some(page) = docs_page() {
        assert_holds("docs/strategies.md", &page, &table);
    }
}
