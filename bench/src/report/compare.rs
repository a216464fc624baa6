//! `forebay-bench compare`: a kept baseline and a new run, row by row, and whether a ratio changed by more than the runs'
//! own noise. Judges ratios only: what a machine did on another day is not comparable.

use std::fmt;
use std::path::PathBuf;

use anyhow::ensure;
use serde::Serialize;

use super::better::Better;
use super::table::{number, table, times};
use super::{Report, Row, figure};

const RULE: &str = "\
A row has changed beyond noise if all of this holds:
  - the new median ratio is outside of the baseline's range [min, max],
  - the baseline's median ratio is outside of the new range [min, max],
  - the ratio changed by more than --floor percent of the baseline's.
Whether that is better or worse follows from the row: less is better of time, bytes, processor time and what a goal
bounds from above. Where nothing says which way is better it is \"changed\", which is no failure. Rows without a peer
have no ratio and are not judged, nor is processor time, which has no range; both are shown.

Exit status: 0 if nothing is worse beyond noise, 1 if something is, 2 if the reports cannot be compared.

Example: forebay-bench compare kept/ingest.json ingest.json --floor 10 --json changes.json";

/// What `forebay-bench compare` can be told.
#[derive(Debug, clap::Args)]
#[command(after_long_help = RULE, after_help = "--help states the rule of what is beyond noise.")]
pub struct Options {
    /// The kept report, as --json wrote it
    #[arg(value_name = "BASELINE")]
    before: PathBuf,
    /// The new report of the same scenario
    #[arg(value_name = "NEW")]
    after: PathBuf,
    /// Changes of at most so many percent of the baseline's ratio are noise
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    floor: f64,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| "a number of percent is expected, such as 5".into())
}

/// What two reports of a scenario say about each other.
#[derive(Debug, Serialize)]
pub struct Comparison {
    scenario: String,
    floor_percent: f64,
    /// What makes the comparison doubtful.
    warnings: Vec<String>,
    /// In the order of the new report, then what is missing there.
    rows: Vec<Change>,
}

/// One row on both sides.
#[derive(Debug, Serialize)]
struct Change {
    name: String,
    unit: String,
    peer_name: String,
    verdict: Verdict,
    #[serde(with = "figure")]
    change_percent: f64,
    before: Option<Side>,
    after: Option<Side>,
}

/// What is compared of a row.
#[derive(Debug, Serialize)]
struct Side {
    #[serde(with = "figure")]
    ours: f64,
    #[serde(with = "figure")]
    ratio: f64,
    #[serde(with = "figure")]
    min: f64,
    #[serde(with = "figure")]
    max: f64,
    /// Our processor time over the peer's.
    #[serde(with = "figure")]
    cpu_ratio: f64,
}

/// How a row changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Worse,
    Better,
    /// Beyond noise, and nothing says which way is better.
    Changed,
    WithinNoise,
    /// It has no ratio.
    NotJudged,
    MissingBefore,
    MissingAfter,
}

/// Reads and compares.
pub fn run(options: &Options) -> anyhow::Result<Comparison> {
    let (before, after) = (Report::read(&options.before)?, Report::read(&options.after)?);
    ensure!(
        before.scenario == after.scenario,
        "{} is about the scenario {}, {} about {}: reports of one scenario are expected",
        options.before.display(),
        before.scenario,
        options.after.display(),
        after.scenario
    );
    Ok(compare(&before, &after, options.floor))
}

/// Compares reports of one scenario.
fn compare(before: &Report, after: &Report, floor: f64) -> Comparison {
    let same = |a: &Row, b: &Row| a.name == b.name && a.peer_name == b.peer_name;
    let earlier = |row: &Row| before.rows.iter().find(|other| same(row, other));
    let mut rows: Vec<Change> =
        after.rows.iter().map(|row| Change::new(earlier(row), Some(row), floor)).collect();
    let gone = before.rows.iter().filter(|row| !after.rows.iter().any(|other| same(row, other)));
    rows.extend(gone.map(|row| Change::new(Some(row), None, floor)));
    let warnings = warnings(before, after);
    Comparison { scenario: after.scenario.clone(), floor_percent: floor, warnings, rows }
}

fn warnings(before: &Report, after: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if before.machine != after.machine {
        warnings.push(format!(
            "the machines differ ({}; {}): ratios move between machines too",
            before.machine, after.machine
        ));
    }
    for (which, report) in [("baseline", before), ("new run", after)] {
        if report.rows.iter().any(|row| row.pairs == 1) {
            warnings
                .push(format!("the {which} has rows of one pair: only the floor says what is noise there"));
        }
    }
    warnings
}

impl Change {
    /// Of a row that is on one side at least.
    fn new(before: Option<&Row>, after: Option<&Row>, floor: f64) -> Change {
        let row = after.or(before);
        let text = |of: fn(&Row) -> &String| row.map(of).cloned().unwrap_or_default();
        let (verdict, change) = match (before, after) {
            (Some(before), Some(after)) => (verdict(before, after, floor), after.ratio / before.ratio - 1.0),
            (None, _) => (Verdict::MissingBefore, f64::NAN),
            (_, None) => (Verdict::MissingAfter, f64::NAN),
        };
        Change {
            name: text(|row| &row.name),
            unit: text(|row| &row.unit),
            peer_name: text(|row| &row.peer_name),
            verdict,
            change_percent: change * 100.0,
            before: before.map(Side::of),
            after: after.map(Side::of),
        }
    }
}

impl Side {
    fn of(row: &Row) -> Side {
        let cpu_ratio = row.ours_cpu_us / row.peer_cpu_us;
        Side { ours: row.ours, ratio: row.ratio, min: row.min, max: row.max, cpu_ratio }
    }

    fn text(&self) -> String {
        match self.ratio.is_finite() {
            true => format!("{} ({} to {})", times(self.ratio), number(self.min), number(self.max)),
            false => number(self.ours),
        }
    }
}

/// The rule.
fn verdict(before: &Row, after: &Row, floor: f64) -> Verdict {
    if !before.ratio.is_finite() || !after.ratio.is_finite() {
        return Verdict::NotJudged;
    }
    let outside = |ratio: f64, row: &Row| ratio < row.min.min(row.ratio) || ratio > row.max.max(row.ratio);
    let moved = (after.ratio - before.ratio).abs() > before.ratio.abs() * floor / 100.0;
    if !(moved && outside(after.ratio, before) && outside(before.ratio, after)) {
        return Verdict::WithinNoise;
    }
    match (after.better(), after.ratio > before.ratio) {
        (None, _) => Verdict::Changed,
        (Some(Better::Higher), true) | (Some(Better::Lower), false) => Verdict::Better,
        _ => Verdict::Worse,
    }
}

impl Comparison {
    /// Whether something is worse beyond noise.
    pub fn worse(&self) -> bool {
        self.count(Verdict::Worse) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Worse => "WORSE",
            Verdict::Better => "better",
            Verdict::Changed => "changed",
            Verdict::WithinNoise => "within noise",
            Verdict::NotJudged => "not judged: no ratio",
            Verdict::MissingBefore => "not in the baseline",
            Verdict::MissingAfter => "not in the new run",
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let mut table = table([
            "figure",
            "unit",
            "peer",
            "before",
            "after",
            "change",
            "CPU before",
            "CPU after",
            "verdict",
        ]);
        for row in &self.rows {
            let text = |side: &Option<Side>| side.as_ref().map(Side::text).unwrap_or_default();
            let cpu =
                |side: &Option<Side>| side.as_ref().map(|side| times(side.cpu_ratio)).unwrap_or_default();
            let change = row.change_percent;
            let change = if change.is_finite() { format!("{change:+.1} %") } else { String::new() };
            table.add_row([
                row.name.clone(),
                row.unit.clone(),
                row.peer_name.clone(),
                text(&row.before),
                text(&row.after),
                change,
                cpu(&row.before),
                cpu(&row.after),
                row.verdict.to_string(),
            ]);
        }
        writeln!(f, "{}: ratios, with the range of the pairs\n{table}", self.scenario)?;
        let [worse, better, changed] =
            [Verdict::Worse, Verdict::Better, Verdict::Changed].map(|verdict| self.count(verdict));
        write!(
            f,
            "{worse} worse, {better} better, {changed} changed beyond noise, of {} rows",
            self.rows.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Sample;

    /// A row whose pairs have these ratios.
    fn row(name: &str, unit: &str, ratios: &[f64]) -> Row {
        let sample = |value| Sample { value, cpu_us: 1.0 };
        let pairs: Vec<_> = ratios.iter().map(|ratio| (sample(*ratio * 10.0), sample(10.0))).collect();
        Row::new(name, unit, "peer", &pairs)
    }

    fn judge(unit: &str, before: &[f64], after: &[f64]) -> Verdict {
        verdict(&row("r", unit, before), &row("r", unit, after), 5.0)
    }

    #[test]
    fn only_what_leaves_both_ranges_and_the_floor_has_changed() {
        assert_eq!(judge("1/s", &[0.9, 1.0, 1.1], &[0.7, 0.8, 0.95]), Verdict::Worse);
        assert_eq!(
            judge("1/s", &[0.9, 1.0, 1.1], &[0.94, 0.95, 0.96]),
            Verdict::WithinNoise,
            "in the old range"
        );
        assert_eq!(
            judge("1/s", &[0.9, 1.0, 1.1], &[0.7, 0.8, 1.2]),
            Verdict::WithinNoise,
            "old is in the new"
        );
        assert_eq!(
            judge("1/s", &[1.0, 1.0, 1.0], &[0.96, 0.96, 0.96]),
            Verdict::WithinNoise,
            "below the floor"
        );
    }

    #[test]
    fn less_is_better_of_time_and_bytes() {
        let (low, high) = ([0.9, 1.0, 1.1], [1.9, 2.0, 2.1]);
        for (unit, up, down) in [
            ("1/s", Verdict::Better, Verdict::Worse),
            ("µs", Verdict::Worse, Verdict::Better),
            ("B/B", Verdict::Worse, Verdict::Better),
            ("x written", Verdict::Worse, Verdict::Better),
            ("x", Verdict::Changed, Verdict::Changed),
        ] {
            assert_eq!((judge(unit, &low, &high), judge(unit, &high, &low)), (up, down), "{unit}");
        }
    }

    #[test]
    fn rows_of_one_side_are_said_and_rows_without_a_peer_not_judged() {
        let report = |rows: Vec<Row>| Report { rows, ..Report::new("s") };
        let alone = Row::new(
            "alone",
            "1/s",
            "",
            &[(Sample { value: 2.0, cpu_us: 1.0 }, Sample { value: f64::NAN, cpu_us: f64::NAN })],
        );
        let before = report(vec![row("gone", "1/s", &[1.0]), row("kept", "1/s", &[1.0, 1.0]), alone.clone()]);
        let after = report(vec![row("kept", "1/s", &[1.0, 1.0]), row("new", "1/s", &[1.0, 1.0]), alone]);
        let found = compare(&before, &after, 5.0);
        let verdicts: Vec<_> = found.rows.iter().map(|row| (row.name.as_str(), row.verdict)).collect();
        let expected = [
            ("kept", Verdict::WithinNoise),
            ("new", Verdict::MissingBefore),
            ("alone", Verdict::NotJudged),
            ("gone", Verdict::MissingAfter),
        ];
        assert_eq!(verdicts, expected);
        assert!(!found.worse());
        assert_eq!(found.warnings.len(), 2, "one pair on both sides: {:?}", found.warnings);
    }

    #[test]
    fn other_machines_warn() {
        let (here, mut there) = (Report::new("s"), Report::new("s"));
        there.machine = "another".into();
        assert_eq!(compare(&there, &here, 5.0).warnings.len(), 1);
    }
}
