//! The plot of a report's ratios: for each row the median, the range of the pairs, its goal, and a line where both are equal.

use std::fmt::Write;

use super::super::Row;
use super::super::better::{Better, Goal, goals};
use super::super::table::{number, times};
use super::axis::Axis;
use super::{escape, shortened};

const WIDTH: f64 = 900.0;
/// Where names end and values begin.
const LEFT: f64 = 360.0;
const RIGHT: f64 = 820.0;
const LINE: f64 = 24.0;
const NAME: usize = 54;

/// The figure; nothing if no row has a ratio.
pub fn plot(rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.ratio.is_finite() && row.ratio > 0.0).collect();
    if rows.is_empty() {
        return String::new();
    }
    let limits = rows.iter().flat_map(|row| goals(row)).filter(|goal| goal.of_ratio).map(|goal| goal.limit);
    let ends = rows.iter().flat_map(|row| [row.ratio, row.min, row.max]).chain(limits).chain([1.0]);
    let ends: Vec<f64> = ends.filter(|value| value.is_finite() && *value > 0.0).collect();
    let low = ends.iter().copied().fold(1.0, f64::min) / 1.15;
    let high = ends.iter().copied().fold(1.0, f64::max) * 1.15;
    let axis = Axis::logarithmic(low, high, LEFT + 10.0, RIGHT);
    let bottom = LINE * rows.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"ratios of ours to the peers'\">\n",
        bottom + 24.0
    );
    for (value, text) in axis.ticks(10) {
        let x = axis.at(value);
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}x</text>",
            bottom + 16.0
        )
        .ok();
    }
    let one = axis.at(1.0);
    writeln!(svg, "<line class=\"one\" x1=\"{one:.1}\" y1=\"0\" x2=\"{one:.1}\" y2=\"{bottom}\"/>").ok();
    for (n, row) in rows.iter().enumerate() {
        svg += &line(row, &axis, LINE * (n as f64 + 0.5) + 4.0);
    }
    format!(
        "<figure><div class=\"plot\">\n{svg}</svg></div>\n<figcaption><span><b class=\"dot-g\">●</b> ahead of the \
         peer</span><span><b class=\"dot-e\">●</b> about even, or no way is better</span><span><b class=\"dot-b\">●</b> \
         behind</span><span><b class=\"dot-t\">┆</b> goal</span><span>↑ more is better, ↓ less is better; bars from the \
         lowest to the highest pair; logarithmic</span></figcaption></figure>\n"
    )
}

/// One row, around this height.
fn line(row: &Row, axis: &Axis, y: f64) -> String {
    let direction = match row.better() {
        Some(Better::Higher) => " ↑",
        Some(Better::Lower) => " ↓",
        None => "",
    };
    let name = match row.peer_name.is_empty() {
        true => row.name.clone(),
        false => format!("{}, to {}", row.name, row.peer_name),
    };
    let class = class(row);
    let (min, max) = (row.min.min(row.ratio), row.max.max(row.ratio));
    let title =
        escape(&format!("{name}: {} ({} to {}) {}", times(row.ratio), number(min), number(max), row.goal));
    let mut svg = format!("<g><title>{title}</title>\n");
    writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" text-anchor=\"end\">{}{direction}</text>",
        y + 4.0,
        escape(&shortened(&name, NAME))
    )
    .ok();
    for Goal { limit, .. } in goals(row).into_iter().filter(|goal| goal.of_ratio) {
        let x = axis.at(limit);
        let (top, end) = (y - LINE / 2.0 + 2.0, y + LINE / 2.0 - 2.0);
        writeln!(svg, "<line class=\"goal\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{end:.1}\"/>")
            .ok();
    }
    let [from, at, to] = [min, row.ratio, max].map(|value| axis.at(value));
    writeln!(
        svg,
        "<line class=\"range {class}\" x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\"/>\
         <circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        RIGHT + 12.0,
        y + 4.0,
        times(row.ratio)
    )
    .ok();
    svg
}

/// Ahead or behind only if all pairs are.
fn class(row: &Row) -> &'static str {
    let (above, below) = (row.min.min(row.ratio) > 1.0, row.max.max(row.ratio) < 1.0);
    match row.better() {
        Some(Better::Higher) if above => "g",
        Some(Better::Higher) if below => "b",
        Some(Better::Lower) if above => "b",
        Some(Better::Lower) if below => "g",
        _ => "e",
    }
}
