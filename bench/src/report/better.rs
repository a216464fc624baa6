//! Which way a figure is to go. The one place that knows: what a row says of itself, else its goal, else its unit.

use serde::{Deserialize, Serialize};

use super::Row;

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A rate, a share of what is useful.
    Higher,
    /// Time, memory, bytes, processor time.
    Lower,
}

/// A goal as programs understand it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// Higher: at least `limit`; lower: at most.
    pub better: Better,
    /// What is to be reached.
    pub limit: f64,
    /// Whether it is about the ratio, and not about our own figure.
    pub of_ratio: bool,
}

/// Units of which less is better: of time, of bytes, of processors.
const LOWER: &[&str] = &[
    "ns", "µs", "us", "ms", "s", "min", "h", "B", "KB", "kB", "MB", "GB", "KiB", "MiB", "GiB", "byte",
    "bytes", "CPU", "core", "cores",
];

/// Which way is better by the unit alone: `µs`, `B/B`, `CPU µs/data point`, `x written` lower, `data points/s` higher.
/// None if it does not say.
pub fn by_unit(unit: &str) -> Option<Better> {
    let unit = unit.trim();
    if unit.ends_with("/s") || unit.ends_with("per second") {
        return Some(Better::Higher);
    }
    let first = unit.split(['/', ' ']).next().unwrap_or_default();
    let less = LOWER.contains(&first) || unit.ends_with("written") || unit.ends_with("lost");
    less.then_some(Better::Lower)
}

/// The parts of a goal that are understood: `>= 8x, >= 150 k`. Where the unit is `x` itself, `<= 2x` may be about our figure:
/// there it is, if there is no peer.
pub fn goals(row: &Row) -> Vec<Goal> {
    let one = |part: &str| {
        let part = part.trim();
        let signs = [(">=", Better::Higher), ("≥", Better::Higher), (">", Better::Higher)];
        let signs =
            signs.into_iter().chain([("<=", Better::Lower), ("≤", Better::Lower), ("<", Better::Lower)]);
        let (better, rest) =
            signs.into_iter().find_map(|(sign, better)| Some((better, part.strip_prefix(sign)?)))?;
        let rest = rest.trim();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let times = match unit.split_whitespace().next() {
            Some("k") => 1e3,
            Some("M") => 1e6,
            Some("G") => 1e9,
            _ => 1.0,
        };
        let of_ratio = unit.starts_with('x') && !row.peer_name.is_empty();
        Some(Goal { better, limit: number.parse::<f64>().ok()? * times, of_ratio })
    };
    row.goal.split(", ").filter_map(one).collect()
}

impl Goal {
    /// Whether a row reaches it; none if its figure is not known.
    pub fn reached(&self, row: &Row) -> Option<bool> {
        let figure = if self.of_ratio { row.ratio } else { row.ours };
        figure.is_finite().then_some(match self.better {
            Better::Higher => figure >= self.limit,
            Better::Lower => figure <= self.limit,
        })
    }
}

impl Row {
    /// Which way is better, for our figure as for its ratio to the peer's; none if nothing says it.
    pub fn better(&self) -> Option<Better> {
        let by_goal = || goals(self).first().map(|goal| goal.better);
        self.better.or_else(by_goal).or_else(|| by_unit(&self.unit))
    }

    /// Whether all goals are reached that are understood; none if there is none.
    pub fn reached(&self) -> Option<bool> {
        let reached: Option<Vec<bool>> = goals(self).iter().map(|goal| goal.reached(self)).collect();
        reached.filter(|goals| !goals.is_empty()).map(|goals| goals.into_iter().all(|reached| reached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Sample;

    fn row(unit: &str, peer: &str, goal: &str) -> Row {
        let sample = |value| Sample { value, cpu_us: 0.0 };
        Row::new("r", unit, peer, &[(sample(10.0), sample(5.0))]).goal(goal)
    }

    #[test]
    fn units_say_which_way_is_better() {
        for unit in [
            "µs",
            "ms",
            "s",
            "B",
            "MiB",
            "B/B",
            "CPU µs",
            "CPU µs/data point",
            "x written",
            "cores",
            "data points lost",
        ] {
            assert_eq!(by_unit(unit), Some(Better::Lower), "{unit}");
        }
        for unit in ["1/s", "data points/s", "MB/s", "B/s"] {
            assert_eq!(by_unit(unit), Some(Better::Higher), "{unit}");
        }
        assert_eq!(by_unit("x"), None);
    }

    #[test]
    fn a_goal_says_more_than_a_unit_and_a_row_more_than_its_goal() {
        assert_eq!(row("B/B", "p", "").better(), Some(Better::Lower));
        assert_eq!(row("B/B", "p", ">= 0.6").better(), Some(Better::Higher));
        let said = Row { better: Some(Better::Lower), ..row("B/B", "p", ">= 0.6") };
        assert_eq!(said.better(), Some(Better::Lower));
    }

    #[test]
    fn goals_are_about_the_ratio_or_our_figure() {
        let goal = |better, limit, of_ratio| Goal { better, limit, of_ratio };
        assert_eq!(goals(&row("1/s", "p", ">= 8x")), [goal(Better::Higher, 8.0, true)]);
        assert_eq!(goals(&row("1/s", "p", "≥ 8 M")), [goal(Better::Higher, 8e6, false)]);
        assert_eq!(goals(&row("x", "", "<= 1.1x")), [goal(Better::Lower, 1.1, false)]);
        let two = row("1/s", "p", ">= 2x, >= 150 k");
        assert_eq!(goals(&two).len(), 2);
        assert_eq!(two.reached(), Some(false));
        assert_eq!(row("1/s", "p", ">= 2x").reached(), Some(true));
        assert_eq!(row("1/s", "p", "as fast as it goes").reached(), None);
    }
}
