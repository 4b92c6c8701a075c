//! The links of the Markdown pages: what they point at must exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A link of a page, as it is written.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// One line for each relative link in the pages at the top of the project and in `docs/` whose file does not exist.
///
/// # Errors
/// If a page cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for page in pages(root)? {
        let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
        let shown = page.strip_prefix(root).unwrap_or(&page).display();
        for link in links(&text) {
            if let Some(file) = file_of(&link.target, root, &page)
                && !file.exists()
            {
                problems.push(format!("{shown}:{}: the link `{}` points at nothing", link.line, link.target));
            }
        }
    }
    Ok(problems)
}

fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    collect(root, false, &mut pages)?;
    let docs = root.join("docs");
    if docs.is_dir() {
        collect(&docs, true, &mut pages)?;
    }
    pages.sort();
    Ok(pages)
}

fn collect(dir: &Path, recursive: bool, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if recursive {
                collect(&path, true, pages)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// The file that a link names; `None` if it leads to the web or within its own page.
fn file_of(target: &str, root: &Path, page: &Path) -> Option<PathBuf> {
    let has_scheme = target.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    if has_scheme || target.starts_with("//") {
        return None;
    }
    let path = target.split(['#', '?']).next().filter(|path| !path.is_empty())?.replace("%20", " ");
    Some(match path.strip_prefix('/') {
        Some(from_root) => root.join(from_root),
        None => page.parent().unwrap_or(root).join(path),
    })
}

/// The links of a page, in line and by reference, without those in code.
fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, raw) in text.lines().enumerate() {
        let trimmed = raw.trim_start();
        let marker = ["```", "~~~"].into_iter().find(|marker| trimmed.starts_with(marker));
        match (fence, marker) {
            (Some(open), Some(marker)) if open == marker => fence = None,
            (None, Some(marker)) => fence = Some(marker),
            (Some(_), _) => {}
            (None, None) => {
                let targets = links_of_line(&without_inline_code(raw));
                links.extend(targets.into_iter().map(|target| Link { line: index + 1, target }));
            }
        }
    }
    links
}

/// What stands between backticks is blanked out, the text of a link included.
fn without_inline_code(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let body = &rest[start + ticks..];
        let Some(length) = body.find(&"`".repeat(ticks)) else { break };
        kept.push_str(&rest[..start]);
        rest = &body[length + ticks..];
    }
    kept.push_str(rest);
    kept
}

fn links_of_line(line: &str) -> Vec<String> {
    let mut targets = Vec::new();
    // A reference: `[name]: target`.
    if let Some((name, target)) = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]:"))
        && !name.contains(']')
        && !name.starts_with('^')
    {
        targets.extend(target_of(target));
    }
    let mut rest = line;
    while let Some((_, after)) = rest.split_once("](") {
        targets.extend(target_of(&after[..parenthesis_length(after)]));
        rest = after;
    }
    targets
}

/// The length of the text up to the parenthesis that closes it; all of it if none does.
fn parenthesis_length(text: &str) -> usize {
    let mut depth = 1_usize;
    for (offset, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset;
        }
    }
    text.len()
}

/// The target without its title and its angle brackets.
fn target_of(text: &str) -> Option<String> {
    let text = text.trim();
    let target = match text.strip_prefix('<') {
        Some(bracketed) => bracketed.split('>').next(),
        None => text.split_whitespace().next(),
    };
    target.filter(|target| !target.is_empty()).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<String> {
        links(text).into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn links_are_found_in_line_and_by_reference() {
        let text = "See [a](docs/a.md) and ![b](<b c.png> \"title\").\n\n[c]: ../c.md 'title'\n";
        assert_eq!(targets(text), ["docs/a.md", "b c.png", "../c.md"]);
        assert_eq!(links(text)[2].line, 3);
    }

    #[test]
    fn a_link_whose_text_is_code_is_found() {
        assert_eq!(targets("| [`larder-core`](crates/larder-core) | the contract |"), ["crates/larder-core"]);
    }

    #[test]
    fn a_target_with_parentheses_is_whole() {
        assert_eq!(targets("[a](docs/a_(b).md), [c](c.md)"), ["docs/a_(b).md", "c.md"]);
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(targets("```rust\nlet a = b[0](c);\n```\n`[a](b.md)` ~~~\n~~~\n[d](e)\n~~~\n"), [""; 0]);
    }

    #[test]
    fn a_link_is_taken_from_the_folder_of_its_page() {
        let file = |target| file_of(target, Path::new("/p"), Path::new("/p/docs/page.md"));
        assert_eq!(file("a.md#part"), Some(PathBuf::from("/p/docs/a.md")));
        assert_eq!(file("/README.md"), Some(PathBuf::from("/p/README.md")));
        assert_eq!(file("my%20page.md"), Some(PathBuf::from("/p/docs/my page.md")));
    }

    #[test]
    fn links_to_the_web_and_within_the_page_name_no_file() {
        for target in ["https://example.org/a.md", "mailto:a@example.org", "//example.org", "#part"] {
            assert_eq!(file_of(target, Path::new("/p"), Path::new("/p/README.md")), None, "{target}");
        }
    }

    #[test]
    fn a_link_to_a_file_that_is_missing_is_a_problem() {
        let root = std::env::temp_dir().join(format!("larder-xtask-links-{}", std::process::id()));
        fs::create_dir_all(root.join("docs/deep")).unwrap();
        fs::write(root.join("README.md"), "[there](docs/deep/page.md)\n[gone](docs/gone.md)\n").unwrap();
        fs::write(root.join("docs/deep/page.md"), "[up](../../README.md) [gone](gone.md#a)\n").unwrap();
        let problems = check(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            problems.unwrap(),
            [
                "README.md:2: the link `docs/gone.md` points at nothing",
                "docs/deep/page.md:1: the link `gone.md#a` points at nothing",
            ]
        );
    }
}
