//! What every crate has: metadata, crate documentation, the workspace's lints, a line in the README's table.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

use crate::workspace::{Package, Workspace};

/// One line for each thing that a crate lacks.
///
/// # Errors
/// If a manifest or the root file of a crate cannot be read.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in &workspace.packages {
        problems.extend(check_package(package, &workspace.root)?);
    }
    let readme = workspace.root.join("README.md");
    if readme.exists() {
        let text = fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
        problems.extend(check_table(&text, &published_folder(workspace)));
    }
    Ok(problems)
}

fn check_package(package: &Package, root: &Path) -> Result<Vec<String>> {
    let name = &package.name;
    let mut problems = Vec::new();
    for (field, value) in [("description", &package.description), ("license", &package.license)] {
        if value.is_none() {
            problems.push(format!("`{name}` has no `{field}` in its Cargo.toml"));
        }
    }
    let manifest = read(&package.dir.join("Cargo.toml"))?;
    if !takes_workspace_lints(&manifest) {
        problems.push(format!("`{name}` does not take the workspace's lints: add `[lints]` with `workspace = true`"));
    }
    for crate_root in &package.crate_roots {
        if !starts_with_docs(&read(crate_root)?) {
            let shown = crate_root.strip_prefix(root).unwrap_or(crate_root).display();
            problems.push(format!("{shown} does not start with the documentation of its crate (`//!`)"));
        }
    }
    Ok(problems)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let compact: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        (section == "[lints]" && compact == "workspace=true")
            || (section.is_empty() && compact == "lints.workspace=true")
    })
}

fn starts_with_docs(source: &str) -> bool {
    source.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"))
}

/// The packages in `crates/`, which users may meet; the others serve the project itself.
fn published_folder(workspace: &Workspace) -> BTreeSet<&str> {
    let crates = workspace.root.join("crates");
    workspace.packages.iter().filter(|package| package.dir.starts_with(&crates)).map(|package| &*package.name).collect()
}

fn check_table(readme: &str, names: &BTreeSet<&str>) -> Vec<String> {
    let rows = readme.lines().map(str::trim).filter(|line| line.starts_with('|'));
    let cells: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).collect();
    let named = |name: &&&str| {
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || "-_/.".contains(c);
        cells.iter().any(|cell| cell.split(|c| !part_of_name(c)).any(|word| word == **name))
    };
    let missing = names.iter().filter(|name| !named(name));
    missing.map(|name| format!("README.md names `{name}` in the first column of no table")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspaces_lints_are_recognized_in_both_forms() {
        assert!(takes_workspace_lints("[package]\nname = \"a\"\n\n[lints] # all\nworkspace=true\n"));
        assert!(takes_workspace_lints("lints.workspace = true\n[package]\n"));
    }

    #[test]
    fn another_sections_workspace_key_does_not_count() {
        assert!(!takes_workspace_lints("[lints]\n[dependencies.bytes]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\n# workspace = true\n"));
    }

    #[test]
    fn crate_documentation_comes_first() {
        assert!(starts_with_docs("\n//! A crate.\nuse a;\n"));
        assert!(!starts_with_docs("use a;\n//! A crate.\n"));
        assert!(!starts_with_docs(""));
    }

    #[test]
    fn a_crate_without_a_row_is_missed() {
        let readme = "larder-redis\n\n| crate | for |\n|---|---|\n| [`larder`](crates/larder) | all |\n| `larder-core` | larder-memory |\n";
        let names = BTreeSet::from(["larder", "larder-core", "larder-memory", "larder-redis"]);
        let problems = check_table(readme, &names);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("larder-memory") && problems[1].contains("larder-redis"), "{problems:?}");
    }

    #[test]
    fn a_longer_name_does_not_stand_for_a_shorter_one() {
        let readme = "| [`larder-core`](crates/larder-core) | the contract |\n";
        assert_eq!(check_table(readme, &BTreeSet::from(["larder"])).len(), 1);
    }
}
