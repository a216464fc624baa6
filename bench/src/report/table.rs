//! A report as text, for a terminal.

use std::fmt;

use comfy_table::{Table, presets};

use super::Report;

/// What a row is shown as, in this order.
pub const COLUMNS: [&str; 11] =
    ["figure", "unit", "ours", "peer", "peer is", "ratio", "min", "max", "our CPU µs", "peer CPU µs", "goal"];

/// Three digits or more; nothing for what is not known or has no meaning.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => String::new(),
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The same with a sign that says it is a ratio.
pub fn times(ratio: f64) -> String {
    number(ratio) + if ratio.is_finite() { "x" } else { "" }
}

/// An empty table with these columns.
pub fn table<'t>(header: impl IntoIterator<Item = &'t str>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(header);
    table
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.scenario, self.machine)?;
        for (name, value) in self.data.iter() {
            writeln!(f, "  {name}: {value}")?;
        }
        let mut table = table(COLUMNS);
        for row in &self.rows {
            table.add_row([
                row.name.clone(),
                row.unit.clone(),
                number(row.ours),
                number(row.peer),
                row.peer_name.clone(),
                times(row.ratio),
                number(row.min),
                number(row.max),
                number(row.ours_cpu_us),
                number(row.peer_cpu_us),
                row.goal.clone(),
            ]);
        }
        write!(f, "{table}")
    }
}
