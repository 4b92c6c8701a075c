//! What the compiler does not check: the order of the crates, what every crate has, and what reads well.

mod crates;
mod layers;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::workspace::{Package, Workspace};

/// Reported, not refused: where a longer file or function reads better, it may stay.
const LONG_FILE: usize = 400;
const LONG_FUNCTION: usize = 60;

/// Checks the workspace and reports what is long.
///
/// # Errors
/// If something has to be put right, or a file cannot be read. What is wrong has been printed.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut problems = layers::check(workspace);
    problems.extend(crates::check(workspace)?);
    let mut long = Vec::new();
    for package in &workspace.packages {
        for path in rust_files(&package.dir)? {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path).display().to_string();
            let code = source::code_of(&text);
            problems.extend(refused(&shown, &code));
            if !is_test(package, &path) {
                long.extend(report(&shown, &code));
            }
        }
    }
    if !long.is_empty() {
        println!("long, which is no error:");
        long.iter().for_each(|line| println!("  {line}"));
    }
    if !workspace.root.join("README.md").exists() {
        println!("there is no README.md, so its table of crates was not checked");
    }
    if problems.is_empty() {
        println!("{} crates are tidy", workspace.packages.len());
        return Ok(());
    }
    problems.iter().for_each(|problem| println!("error: {problem}"));
    bail!("tidy found {} to put right", counted(problems.len(), "thing"));
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The Rust files of the package in `dir`, without those of packages within it.
///
/// Folders named `ui` hold programs that are meant to fail to compile.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            let skipped = name.starts_with('.') || matches!(name, "target" | "ui") || path.join("Cargo.toml").exists();
            if !skipped {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Tests may be as long as their cases are many.
fn is_test(package: &Package, path: &Path) -> bool {
    let within = path.strip_prefix(&package.dir).unwrap_or(path);
    within.starts_with("tests") || package.name == "larder-tests"
}

fn refused(shown: &str, code: &str) -> Vec<String> {
    let allows = source::allow_attributes(code).into_iter().map(|line| {
        format!("{shown}:{line}: `allow` stays when its reason is gone: write `#[expect(.., reason = \"..\")]`")
    });
    let todos =
        source::todos(code).into_iter().map(|line| format!("{shown}:{line}: `todo!` marks something unfinished"));
    allows.chain(todos).collect()
}

fn report(shown: &str, code: &str) -> Vec<String> {
    let mut long = Vec::new();
    let lines = source::lines_before_tests(code);
    if lines > LONG_FILE {
        long.push(format!("{shown}: {lines} lines before its tests (aim: {LONG_FILE})"));
    }
    let functions = source::functions(code).into_iter();
    long.extend(functions.filter(|function| function.line <= lines && function.lines > LONG_FUNCTION).map(
        |function| {
            format!(
                "{shown}:{}: `{}` has {} lines (aim: {LONG_FUNCTION})",
                function.line, function.name, function.lines
            )
        },
    ));
    long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_reported_with_its_place_and_length() {
        let code = format!("\nfn long() {{\n{}}}\n", "\n".repeat(60));
        assert_eq!(report("a.rs", &code), ["a.rs:2: `long` has 62 lines (aim: 60)"]);
    }

    #[test]
    fn the_aim_itself_is_not_reported() {
        let function = format!("fn long() {{\n{}}}\n", "\n".repeat(58));
        let file = "\n".repeat(340);
        assert_eq!(report("a.rs", &(function + &file)), [""; 0]);
    }

    #[test]
    fn a_long_file_is_reported_without_its_tests() {
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(report("a.rs", &("\n".repeat(400) + tests)), [""; 0]);
        assert_eq!(report("a.rs", &("\n".repeat(401) + tests)), ["a.rs: 401 lines before its tests (aim: 400)"]);
    }

    #[test]
    fn a_long_test_is_not_reported() {
        let code = format!("#[cfg(test)]\nmod tests {{\nfn long() {{\n{}}}\n}}\n", "\n".repeat(90));
        assert_eq!(report("a.rs", &code), [""; 0]);
    }

    #[test]
    fn what_is_refused_is_named_with_its_line() {
        let problems = refused("a.rs", "#[allow(dead_code)]\nfn a() { todo!() }\n");
        assert!(
            problems[0].starts_with("a.rs:1: `allow`") && problems[1].starts_with("a.rs:2: `todo!`"),
            "{problems:?}"
        );
    }
}
