//! The result for people and for programs.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};

use crate::row::{Bound, Row};

const SUMMARY: &str = "target/larder-bench/summary.json";

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
pub(crate) fn write(workspace: &Path, rows: &[Row], _quick: bool) -> Result<()> {
    let summary = workspace.join(SUMMARY);
    let folder = summary.parent().context("the summary has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_string_pretty(rows)? + "\n";
    fs::write(&summary, json).with_context(|| format!("cannot write {}", summary.display()))
}

fn figure(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{figure:.2}"),
        size if size < 1000.0 => format!("{figure:.0}"),
        _ => thousands(figure),
    }
}

fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
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
