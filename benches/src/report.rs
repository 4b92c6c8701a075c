//! The result for people and for programs.

use std::{
    collections::HashSet,
    env::consts::{ARCH, OS},
    fs,
    num::NonZero,
    path::Path,
    thread,
};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};

use crate::{
    reasons,
    row::{Bound, Row},
};

const SUMMARY: &str = "target/larder-bench/summary.json";
const PAGE: &str = "docs/performance.md";
const INTRODUCTION: &str = include_str!("introduction.md");

/// The rows for a terminal.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["what", "larder", "baseline", "", "unit", "ratio", "budget", ""]);
    for row in rows {
        table.add_row([
            row.name.clone(),
            figure(row.larder),
            figure(row.baseline),
            row.baseline_name.clone(),
            row.unit.to_owned(),
            ratio(row),
            budget(row),
            verdict(row).to_owned(),
        ]);
    }
    for column in [1, 2, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Writes `summary.json` and `docs/performance.md`.
pub(crate) fn write(workspace: &Path, rows: &[Row], quick: bool) -> Result<()> {
    write_file(&workspace.join(SUMMARY), &(serde_json::to_string_pretty(rows)? + "\n"))?;
    write_file(&workspace.join(PAGE), &page(rows, quick))
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn page(rows: &[Row], quick: bool) -> String {
    let mut page = INTRODUCTION.replace("{machine}", &machine());
    let command = if quick { "cargo xtask bench --quick" } else { "cargo xtask bench" };
    page += &format!("\nThe figures below are of one run of `{command}`.\n");
    page += "\n## Budgets\n\n";
    page += &markdown(rows.iter().filter(|row| row.bound != Bound::None));
    page += "\n## Missed budgets\n\n";
    page += &missed(rows);
    page += "\n## Other figures\n\n";
    page += &markdown(rows.iter().filter(|row| row.bound == Bound::None));
    page
}

fn missed(rows: &[Row]) -> String {
    let missed: Vec<&Row> = rows.iter().filter(|row| row.is_missed()).collect();
    if missed.is_empty() {
        return "None.\n".to_owned();
    }
    // Rows of one reason stand together, in the order of the first of them.
    let mut reasons: Vec<&str> = missed.iter().map(|row| reasons::of(row)).collect();
    let mut seen = HashSet::new();
    reasons.retain(|reason| seen.insert(*reason));
    let mut text = String::new();
    for reason in reasons {
        for row in missed.iter().filter(|row| reasons::of(row) == reason) {
            text += &format!("- {}: {} ({})\n", row.name, figure_of(row), budget(row));
        }
        text += &format!("\n  Reason: {reason}.\n\n");
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn figure_of(row: &Row) -> String {
    row.ratio.map_or_else(|| figure(row.larder), |ratio| format!("{ratio:.2}x"))
}

fn markdown<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut text = "| what | Larder | baseline | of | unit | ratio | budget | |\n".to_owned();
    text += "|---|---:|---:|---|---|---:|---:|---|\n";
    for row in rows {
        let [larder, baseline] = [figure(row.larder), figure(row.baseline)];
        let [ratio, budget, verdict] = [ratio(row), budget(row), verdict(row).to_owned()];
        let cells = [&row.name, &larder, &baseline, &row.baseline_name, row.unit, &ratio, &budget, &verdict];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// What the figures depend on, as far as it can be told without naming anybody's machine.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let cores = if cores == 1 { "one core".to_owned() } else { format!("{cores} cores") };
    format!("{OS} on {ARCH}, {cores} shared by everything that was measured, the Redis server included")
}

fn figure(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{figure:.2}"),
        size if size < 1000.0 => format!("{figure:.0}"),
        _ => grouped(&format!("{figure:.0}")),
    }
}

/// Digits in groups of three.
pub(crate) fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn ratio(row: &Row) -> String {
    row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

fn budget(row: &Row) -> String {
    let limit = row.budget.unwrap_or_default();
    match row.bound {
        Bound::None => String::new(),
        Bound::AtMost => format!("≤ {limit}"),
        Bound::AtLeast => format!("≥ {limit}"),
    }
}

fn verdict(row: &Row) -> &'static str {
    match row.holds {
        None => "",
        Some(true) => "holds",
        Some(false) => "missed",
    }
}
