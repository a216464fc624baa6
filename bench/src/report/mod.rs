//! What a scenario found: rows of ours beside a peer's and curves over the run, written as JSON and read back. Scenarios
//! fill it, the commands that show and compare reports read it; it knows nothing of how anything was measured.

pub mod better;
pub mod compare;
mod figure;
pub mod html;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::better::Better;

/// The outcome of one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Scenario name.
    pub scenario: String,
    /// Processor, cores and kernel.
    pub machine: String,
    /// When the run began, UTC, as RFC 3339; empty if not known.
    #[serde(default)]
    pub date: String,
    /// The command line of the run; empty if not known.
    #[serde(default)]
    pub command: String,
    /// The data it ran on: sizes, counts, compression ratio.
    pub data: Facts,
    /// One per figure.
    pub rows: Vec<Row>,
    /// What is worth a curve: how a figure went during the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
}

/// What is said of the data, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(BTreeMap<String, Value>);

/// A figure over the time of a run. Series of one unit are drawn together if their names are the same up to the first
/// `, `: "freshness, p50" and "freshness, p99".
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// Of the values.
    pub unit: String,
    /// Seconds since the run began, and the value then; NaN where it is not known.
    #[serde(with = "figure::points")]
    pub points: Vec<(f64, f64)>,
}

/// One figure: the median of ours over the median of the peer's, with the extremes of the pairs' ratios. NaN is what is
/// not known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Unit of `ours` and `peer`.
    pub unit: String,
    /// Median.
    #[serde(with = "figure")]
    pub ours: f64,
    /// Median.
    #[serde(with = "figure")]
    pub peer: f64,
    /// Who the peer is; empty for nobody.
    pub peer_name: String,
    /// `ours / peer`.
    #[serde(with = "figure")]
    pub ratio: f64,
    /// Lowest ratio of a pair.
    #[serde(with = "figure")]
    pub min: f64,
    /// Highest ratio of a pair.
    #[serde(with = "figure")]
    pub max: f64,
    /// Processor time per operation of our server, µs.
    #[serde(with = "figure")]
    pub ours_cpu_us: f64,
    /// Processor time per operation of the peer, µs.
    #[serde(with = "figure")]
    pub peer_cpu_us: f64,
    /// Pairs measured; 0 if not known.
    #[serde(default)]
    pub pairs: usize,
    /// What is to be reached, for people; empty for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub goal: String,
    /// Which way is up, where goal and unit do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
}

/// One measurement of one side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// In the row's unit.
    pub value: f64,
    /// Processor time per operation, µs.
    pub cpu_us: f64,
}

impl Facts {
    /// Says one thing.
    pub fn insert(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }
}

impl<N: Into<String>> Extend<(N, Value)> for Facts {
    fn extend<I: IntoIterator<Item = (N, Value)>>(&mut self, facts: I) {
        self.0.extend(facts.into_iter().map(|(name, value)| (name.into(), value)));
    }
}

impl Row {
    /// The row of alternating pairs (ours, peer); there is at least one.
    pub fn new(
        name: impl Into<String>,
        unit: impl Into<String>,
        peer_name: impl Into<String>,
        pairs: &[(Sample, Sample)],
    ) -> Row {
        let ratios = || pairs.iter().map(|(ours, peer)| ours.value / peer.value).filter(|r| r.is_finite());
        let ours = median(pairs.iter().map(|pair| pair.0.value));
        let peer = median(pairs.iter().map(|pair| pair.1.value));
        Row {
            name: name.into(),
            unit: unit.into(),
            ours,
            peer,
            peer_name: peer_name.into(),
            ratio: ours / peer,
            min: ratios().fold(f64::NAN, f64::min),
            max: ratios().fold(f64::NAN, f64::max),
            ours_cpu_us: median(pairs.iter().map(|pair| pair.0.cpu_us)),
            peer_cpu_us: median(pairs.iter().map(|pair| pair.1.cpu_us)),
            pairs: pairs.len(),
            goal: String::new(),
            better: None,
        }
    }

    /// The row of a figure that was measured once and has nothing beside it.
    pub fn alone(name: impl Into<String>, unit: &str, value: f64, goal: &str) -> Row {
        Row::beside(name, unit, (value, f64::NAN), "", goal)
    }

    /// The row of a figure beside its peer, both measured once.
    pub fn beside(
        name: impl Into<String>,
        unit: &str,
        (ours, peer): (f64, f64),
        peer_name: &str,
        goal: &str,
    ) -> Row {
        let sample = |value| Sample { value, cpu_us: f64::NAN };
        Row::new(name, unit, peer_name, &[(sample(ours), sample(peer))]).goal(goal)
    }

    /// Says what is to be reached: `>= 0.9x` is about the ratio, `< 10` about our figure.
    pub fn goal(self, goal: impl Into<String>) -> Row {
        Row { goal: goal.into(), ..self }
    }
}

/// The middle value (of an even number the upper of the two in the middle).
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Report {
    /// An empty report about this machine and this command.
    pub fn new(scenario: impl Into<String>) -> Report {
        Report {
            scenario: scenario.into(),
            machine: machine(),
            date: now(),
            command: command(),
            data: Facts::default(),
            rows: Vec::new(),
            series: Vec::new(),
        }
    }

    /// Reads one that `--json` wrote.
    pub fn read(path: &Path) -> anyhow::Result<Report> {
        let bytes = std::fs::read(path).with_context(|| {
            format!("{} cannot be read: a report written with --json is expected", path.display())
        })?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is no report of forebay-bench: JSON with scenario, machine, data and rows is expected, as --json \
                 writes it",
                path.display()
            )
        })
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

fn now() -> String {
    let now = time::OffsetDateTime::now_utc().replace_nanosecond(0).ok();
    now.and_then(|now| now.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}

/// As it was given, but for the folder the program is in.
fn command() -> String {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    format!("forebay-bench {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f64) -> Sample {
        Sample { value, cpu_us: 1.0 }
    }

    #[test]
    fn a_row_is_the_ratio_of_medians_with_the_extremes_of_the_pairs() {
        let pairs = [(2.0, 1.0), (30.0, 10.0), (4.0, 1.0)].map(|(a, b)| (sample(a), sample(b)));
        let row = Row::new("x", "1/s", "peer", &pairs);
        assert_eq!((row.ours, row.peer, row.ratio), (4.0, 1.0, 4.0));
        assert_eq!((row.min, row.max, row.pairs), (2.0, 4.0, 3));
    }

    #[test]
    fn what_is_not_known_survives_being_written_and_read() {
        let mut report = Report::new("x");
        report.data.insert("count", 3.into());
        report.rows.push(Row::new("alone", "µs", "", &[(sample(2.0), sample(f64::NAN))]).goal("< 10"));
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.5)];
        report.series.push(Series { name: "lag".into(), unit: "records".into(), points });
        let json = serde_json::to_string(&report).expect("written");
        let back: Report = serde_json::from_str(&json).expect("read");
        let row = &back.rows[0];
        assert_eq!((row.ours, row.ours_cpu_us, row.goal.as_str()), (2.0, 1.0, "< 10"));
        assert!([row.peer, row.ratio, row.min, row.max].iter().all(|value| value.is_nan()), "{row:?}");
        assert!(back.series[0].points[1].1.is_nan());
        assert_eq!(back.series[0].points[2], (2.0, 3.5));
        assert_eq!((&back.data, &back.date), (&report.data, &report.date));
        assert_eq!(serde_json::to_string(&back).expect("written again"), json);
    }

    #[test]
    fn a_report_without_what_came_later_is_read() {
        let old = r#"{"scenario": "ingest", "machine": "m", "data": {"n": 1}, "rows": [{"name": "a", "unit": "1/s",
            "ours": 1.0, "peer": 2.0, "peer_name": "p", "ratio": 0.5, "min": 0.4, "max": 0.6, "ours_cpu_us": 1.0,
            "peer_cpu_us": null}]}"#;
        let report: Report = serde_json::from_str(old).expect("read");
        assert_eq!((report.rows[0].pairs, report.series.len(), report.date.as_str()), (0, 0, ""));
    }
}
