//! The figures in `docs/reliability.md`.

use anyhow::{Context, Result};

use super::{Report, report::HEADER};

/// What stands before and behind the figures.
const BEGIN: &str = "<!-- figures: written by `cargo xtask chaos --write-docs` -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// The page with the figures of a report in place of those that it has.
///
/// # Errors
/// If the page has lost its markers.
pub fn refresh(page: &str, report: &Report) -> Result<String> {
    let (head, rest) = page.split_once(BEGIN).context("the page has no place for figures")?;
    let (_, tail) = rest.split_once(END).context("the figures of the page have no end")?;
    Ok([head, BEGIN, &figures(report), END, tail].concat())
}

fn figures(report: &Report) -> String {
    let build = if report.optimized { "with" } else { "without" };
    let mut text = format!(
        "\nOne run of {} s in all with seed {}, built {build} optimizations, callers, caches and servers on the same machine.\n\n",
        report.seconds, report.seed
    );
    text += &format!("| {} |\n|---|{}\n", HEADER.join(" | "), "---:|".repeat(HEADER.len() - 1));
    for scenario in &report.scenarios {
        text += &format!("| {} |\n", scenario.cells().join(" | "));
    }
    let broken: Vec<String> = report
        .scenarios
        .iter()
        .filter(|scenario| !scenario.problems.is_empty())
        .map(|scenario| format!("- `{}`: {}\n", scenario.scenario, problems(&scenario.problems)))
        .collect();
    if !broken.is_empty() {
        text += &format!("\nWhat did not hold in this run:\n\n{}", broken.concat());
    }
    let slow: Vec<String> = report
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.slow.iter().map(move |slow| format!("- `{}`: {slow}\n", scenario.scenario)))
        .collect();
    if !slow.is_empty() {
        text += &format!("\nWhat took longer than it should:\n\n{}", slow.concat());
    }
    text + "\n"
}

fn problems(problems: &[super::Problem]) -> String {
    let names = problems.iter().map(|problem| match problem {
        super::Problem::Errors => "callers saw errors",
        super::Problem::WrongValues => "callers were told wrong values",
        super::Problem::LostInvalidations => "Redis held invalidated values at the end",
        super::Problem::NotRecovered => "Redis was not used again within 30 s",
        super::Problem::NotSettled => "the cache was not whole again within 30 s",
        super::Problem::Memory => "more memory than allowed",
        super::Problem::FullDisk => "a full disk under the journal was not told, or a successor not warned",
    });
    names.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let page = format!("# Head\n\n{BEGIN}old figures\n{END}\ntail\n");
        let report = Report::new(3, 60, Vec::new());
        let fresh = refresh(&page, &report).unwrap();
        assert!(fresh.starts_with("# Head\n") && fresh.ends_with("\ntail\n"), "{fresh}");
        assert!(fresh.contains("seed 3") && !fresh.contains("old figures"), "{fresh}");
        assert_eq!(refresh(&fresh, &report).unwrap(), fresh);
    }

    #[test]
    fn a_page_without_markers_is_refused() {
        assert!(refresh("# Head\n", &Report::new(3, 60, Vec::new())).is_err());
    }
}
