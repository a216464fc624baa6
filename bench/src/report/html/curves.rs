//! The plots of a report's series over the time of the run: those of one unit and one kind share axes.

use std::fmt::Write;

use super::super::{Series, median};
use super::axis::Axis;
use super::{escape, grouped};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 885.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 222.0;
/// Colours; further curves are dashed.
const COLOURS: usize = 6;

/// A figure for each group of series.
pub fn plots(series: &[Series]) -> String {
    let mut groups: Vec<(&str, &str, Vec<&Series>)> = Vec::new();
    for one in series {
        let (kind, unit) = (kind(&one.name), one.unit.as_str());
        match groups.iter_mut().find(|(of, with, _)| (*of, *with) == (kind, unit)) {
            Some((_, _, group)) => group.push(one),
            None => groups.push((kind, unit, vec![one])),
        }
    }
    groups.iter().map(|(kind, unit, group)| figure(kind, unit, group)).collect()
}

/// What a name says before the first `, `.
fn kind(name: &str) -> &str {
    name.split_once(", ").map_or(name, |(kind, _)| kind)
}

fn figure(kind: &str, unit: &str, group: &[&Series]) -> String {
    let heading = match group {
        [one] => &one.name,
        _ => kind,
    };
    let heading = escape(&format!("{heading} ({unit})"));
    let legend: String = group.iter().enumerate().map(|(n, series)| entry(n, series)).collect();
    format!(
        "<h3>{heading}</h3>\n<figure><div class=\"plot\">\n{}</div>\n<ul class=\"legend\">{legend}</ul></figure>\n",
        drawing(&heading, group)
    )
}

/// Name, and what a curve comes to in numbers.
fn entry(n: usize, series: &Series) -> String {
    let values = || known(series).map(|(_, value)| value);
    let largest = values().fold(f64::NAN, f64::max);
    let last = values().last().unwrap_or(f64::NAN);
    let text = |value: f64| if value.is_finite() { grouped(value) } else { "none".into() };
    format!(
        "<li><span class=\"key c{}\">{}</span>{}: median {}, highest {}, last {}</li>\n",
        n % COLOURS,
        if n < COLOURS { "—" } else { "- -" },
        escape(&series.name),
        text(median(values())),
        text(largest),
        text(last)
    )
}

fn known(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    series.points.iter().copied().filter(|(at, value)| at.is_finite() && value.is_finite())
}

fn drawing(heading: &str, group: &[&Series]) -> String {
    let all = || group.iter().flat_map(|series| known(series));
    let ends = |of: fn((f64, f64)) -> f64| {
        all().map(of).fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((begin, end), (low, high)) = (ends(|point| point.0), ends(|point| point.1));
    let x = Axis::linear(begin, end, LEFT, RIGHT);
    let y = Axis::linear(low, high * 1.05, BOTTOM, TOP);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{heading}\">\n");
    for (value, text) in y.ticks(5) {
        let at = y.at(value);
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            LEFT - 8.0,
            at + 4.0
        )
        .ok();
    }
    for (value, text) in x.ticks(10) {
        let at = x.at(value);
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{BOTTOM}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text} s</text>",
            BOTTOM + 4.0,
            BOTTOM + 18.0
        )
        .ok();
    }
    for (n, series) in group.iter().enumerate() {
        let more = if n < COLOURS { "" } else { " more" };
        let colour = n % COLOURS;
        writeln!(
            svg,
            "<g><title>{}</title><path class=\"curve c{colour}{more}\" d=\"{}\"/></g>",
            escape(&series.name),
            path(series, &x, &y)
        )
        .ok();
    }
    svg + "</svg>"
}

/// A line through the points, with gaps where nothing is known. A point alone is drawn as a short line.
fn path(series: &Series, x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    for run in series.points.split(|(at, value)| !at.is_finite() || !value.is_finite()) {
        for (n, (at, value)) in run.iter().enumerate() {
            let step = if n == 0 { 'M' } else { 'L' };
            write!(path, "{step}{:.1} {:.1}", x.at(*at), y.at(*value)).ok();
        }
        if run.len() == 1 {
            path.push_str("h3");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, unit: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), unit: unit.into(), points: points.to_vec() }
    }

    #[test]
    fn series_of_one_kind_and_unit_share_axes() {
        let points = [(0.0, 1.0), (1.0, 2.0)];
        let all =
            [("freshness, p50", "ms"), ("lag", "records"), ("freshness, p99", "ms"), ("freshness, n", "1/s")];
        let html = plots(&all.map(|(name, unit)| series(name, unit, &points)));
        assert_eq!(html.matches("<svg").count(), 3);
        assert_eq!(html.matches("<path").count(), 4);
        assert!(html.contains("<h3>freshness (ms)</h3>") && html.contains("<h3>lag (records)</h3>"));
    }

    #[test]
    fn what_is_not_known_is_a_gap() {
        let (x, y) = (Axis::linear(0.0, 10.0, 0.0, 10.0), Axis::linear(0.0, 10.0, 10.0, 0.0));
        let gap = series("a", "1", &[(0.0, 0.0), (1.0, 1.0), (2.0, f64::NAN), (3.0, 3.0)]);
        assert_eq!(path(&gap, &x, &y), "M0.0 10.0L1.0 9.0M3.0 7.0h3");
        assert_eq!(path(&series("none", "1", &[]), &x, &y), "");
        assert!(figure("none", "1", &[&series("none", "1", &[])]).contains("median none"));
    }
}
