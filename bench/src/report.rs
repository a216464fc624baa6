//! What a scenario found: rows of ours beside a peer's, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{Table, presets};
use serde::Serialize;

/// The outcome of one scenario.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Scenario name.
    pub scenario: &'static str,
    /// Processor, cores and kernel.
    pub machine: String,
    /// The data it ran on: sizes, counts, compression ratio.
    pub data: BTreeMap<&'static str, serde_json::Value>,
    /// One per figure.
    pub rows: Vec<Row>,
    /// What is worth a curve: how a figure went during the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
}

/// A figure over the time of a run.
#[derive(Debug, Serialize)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// Of the values.
    pub unit: &'static str,
    /// Seconds since the run began, and the value then.
    pub points: Vec<(f64, f64)>,
}

/// One figure: the median of ours over the median of the peer's, with the extremes of the pairs' ratios.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Unit of `ours` and `peer`.
    pub unit: &'static str,
    /// Median.
    pub ours: f64,
    /// Median.
    pub peer: f64,
    /// Who the peer is.
    pub peer_name: &'static str,
    /// `ours / peer`.
    pub ratio: f64,
    /// Lowest ratio of a pair.
    pub min: f64,
    /// Highest ratio of a pair.
    pub max: f64,
    /// Processor time per operation of our server, µs.
    pub ours_cpu_us: f64,
    /// Processor time per operation of the peer, µs.
    pub peer_cpu_us: f64,
    /// What is to be reached, for people; empty for nothing.
    #[serde(skip)]
    pub goal: &'static str,
}

/// One measurement of one side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// In the row's unit.
    pub value: f64,
    /// Processor time per operation, µs.
    pub cpu_us: f64,
}

impl Row {
    /// The row of alternating pairs (ours, peer); there is at least one.
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        peer_name: &'static str,
        pairs: &[(Sample, Sample)],
    ) -> Row {
        let ratios = || pairs.iter().map(|(ours, peer)| ours.value / peer.value);
        let ours = median(pairs.iter().map(|pair| pair.0.value));
        let peer = median(pairs.iter().map(|pair| pair.1.value));
        Row {
            name: name.into(),
            unit,
            ours,
            peer,
            peer_name,
            ratio: ours / peer,
            min: ratios().fold(f64::INFINITY, f64::min),
            max: ratios().fold(0.0, f64::max),
            ours_cpu_us: median(pairs.iter().map(|pair| pair.0.cpu_us)),
            peer_cpu_us: median(pairs.iter().map(|pair| pair.1.cpu_us)),
            goal: "",
        }
    }
}

impl Row {
    /// The row of a figure that was measured once and has nothing beside it.
    pub fn alone(name: impl Into<String>, unit: &'static str, value: f64, goal: &'static str) -> Row {
        let nothing = Sample { value: f64::NAN, cpu_us: f64::NAN };
        let ours = Sample { value, cpu_us: f64::NAN };
        let row = Row::new(name, unit, "", &[(ours, nothing)]);
        Row { goal, min: f64::NAN, max: f64::NAN, ..row }
    }

    /// The row of a figure beside its peer, both measured once.
    pub fn beside(
        name: impl Into<String>,
        unit: &'static str,
        (ours, peer): (f64, f64),
        peer_name: &'static str,
        goal: &'static str,
    ) -> Row {
        let sample = |value| Sample { value, cpu_us: f64::NAN };
        Row { goal, ..Row::new(name, unit, peer_name, &[(sample(ours), sample(peer))]) }
    }
}

/// The middle value (of an even number the upper of the two in the middle).
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Report {
    /// An empty report about this machine.
    pub fn new(scenario: &'static str) -> Report {
        Report { scenario, machine: machine(), data: BTreeMap::new(), rows: Vec::new(), series: Vec::new() }
    }
}

/// Three digits or more; nothing for what is not known or has no meaning.
fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => String::new(),
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.scenario, self.machine)?;
        for (name, value) in &self.data {
            writeln!(f, "  {name}: {value}")?;
        }
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header([
            "figure",
            "unit",
            "ours",
            "peer",
            "peer is",
            "ratio",
            "min",
            "max",
            "our CPU µs",
            "peer CPU µs",
            "goal",
        ]);
        for row in &self.rows {
            table.add_row([
                row.name.clone(),
                row.unit.into(),
                number(row.ours),
                number(row.peer),
                row.peer_name.into(),
                number(row.ratio) + if row.ratio.is_nan() { "" } else { "x" },
                number(row.min),
                number(row.max),
                number(row.ours_cpu_us),
                number(row.peer_cpu_us),
                row.goal.into(),
            ]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_ratio_of_medians_with_the_extremes_of_the_pairs() {
        let sample = |value| Sample { value, cpu_us: 1.0 };
        let pairs = [(2.0, 1.0), (30.0, 10.0), (4.0, 1.0)].map(|(a, b)| (sample(a), sample(b)));
        let row = Row::new("x", "1/s", "peer", &pairs);
        assert_eq!((row.ours, row.peer, row.ratio), (4.0, 1.0, 4.0));
        assert_eq!((row.min, row.max), (2.0, 4.0));
    }
}
