//! What the day's figures are: from what was seen to rows. A moment is of the warm-up, of a burst, of the recovery from one
//! (until its lag is gone), or calm; what is said of "calm" is what the goals call outside of bursts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::page::Buckets;
use super::audit::Audit;
use super::day::Day;
use super::diagnoses::Diagnoses;
use super::driver::Heard;
use super::reads::Answered;
use super::watch::Look;
use super::{Lived, Options, probes};
use crate::report::Row;

/// Lag is gone when it is what comes in so many seconds: as much is always under way.
const LAG_S: f64 = 0.15;
/// Peer of the reads.
const QUIET: &str = "the same, quiet";

/// Everything that was found.
pub(super) struct Findings {
    pub day: Day,
    pub heard: Heard,
    pub lived: Lived,
    pub audit: Audit,
    pub diagnoses: Option<Diagnoses>,
}

/// What a moment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Calm,
    Burst,
    Recovery,
    Over,
}

/// The value at a quantile; NaN of none.
pub fn quantile(values: impl Iterator<Item = f64>, quantile: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
    values.get(at).copied().unwrap_or(f64::NAN)
}

impl Findings {
    /// Seconds from a burst's end until its lag was gone.
    fn recovery_s(&self, end_s: f64) -> f64 {
        let is_gone = |look: &&Look| look.at_s >= end_s && look.lag <= self.day.rate * LAG_S;
        self.lived.looks.iter().find(is_gone).map_or(f64::NAN, |look| look.at_s - end_s)
    }

    fn phase(&self, at_s: f64) -> Phase {
        if at_s < self.day.warm_up_s {
            return Phase::WarmUp;
        }
        if at_s > self.day.end_s {
            return Phase::Over;
        }
        let last = self.day.bursts.iter().rev().find(|(begin, _)| at_s >= *begin);
        match last {
            Some((_, end)) if at_s <= *end => Phase::Burst,
            Some((_, end)) if at_s > end + self.recovery_s(*end) => Phase::Calm,
            Some(_) => Phase::Recovery,
            None => Phase::Calm,
        }
    }

    /// From the end of the warm-up until everything had settled.
    fn counted(&self) -> (Look, Look) {
        let looks = &self.lived.looks;
        let first = looks.iter().find(|look| look.at_s >= self.day.warm_up_s);
        (first.cloned().unwrap_or_default(), looks.last().cloned().unwrap_or_default())
    }

    fn freshness(&self, of: &[Phase]) -> Buckets {
        let mut sum = Buckets::default();
        for pair in self.lived.looks.windows(2) {
            if of.contains(&self.phase((pair[0].at_s + pair[1].at_s) / 2.0)) {
                sum.add(&pair[1].freshness.since(&pair[0].freshness));
            }
        }
        sum
    }

    fn probes(&self, of: &[Phase], at: f64) -> f64 {
        let probes = self.lived.probed.probes.iter();
        let wanted = probes.filter(|(at_s, _)| of.contains(&self.phase((*at_s).into())));
        quantile(wanted.map(|(_, took_ms)| f64::from(*took_ms)), at)
    }

    fn reads(&self, of: &[Phase], at: f64) -> f64 {
        let reads = self.lived.reads.reads.iter();
        let phases: Vec<Phase> = (0..=self.day.end_s as usize).map(|at_s| self.phase(at_s as f64)).collect();
        let phase = |at_s: f32| phases.get(at_s as usize).copied().unwrap_or(Phase::Over);
        let wanted = reads.filter(|(at_s, _)| of.contains(&phase(*at_s)));
        quantile(wanted.map(|(_, took_us)| f64::from(*took_us)), at)
    }

    /// Processor time of a process for a data point, µs.
    fn cpu(&self, process: &str) -> f64 {
        let (first, last) = self.counted();
        let of = |look: &Look| look.cpu_us.get(process).copied().map_or(f64::NAN, |us| us as f64);
        (of(&last) - of(&first)) / (last.passed - first.passed)
    }

    /// What the server needs for a read, by the quiet ones, µs.
    fn cpu_of_read(&self) -> f64 {
        let (before, after) = &self.lived.quiet_cpu;
        let of = |look: &Look| look.cpu_us["server"] as f64;
        (of(after) - of(before)) / self.lived.quiet.reads.len() as f64
    }

    /// The data and the setting, for the report.
    pub fn data(
        &self,
        options: &Options,
        (payloads, compression): (u64, f64),
    ) -> BTreeMap<&'static str, Value> {
        let sent = self.heard.sent.clone().unwrap_or_default();
        let (first, last) = self.counted();
        let data_points = last.passed - first.passed;
        let mut data = BTreeMap::from([
            ("data_points", json!(self.audit.records)),
            ("mean_bytes", json!(self.audit.bytes / self.audit.records.max(1))),
            ("raw_over_compressed", json!(compression)),
            ("payloads", json!(payloads)),
            ("scale", json!(options.scale)),
            ("partitions", json!(options.partitions)),
            ("threads", json!(options.threads)),
            ("rate_per_s", json!(options.rate)),
            ("burst_rate_per_s", json!(options.burst_rate)),
            ("reads_per_s", json!(options.reads)),
            ("bursts_from_to_s", json!(self.day.bursts)),
            ("sent_mb_on_the_wire", json!(sent.wire_bytes / 1_000_000)),
            ("keys_compared", json!(self.audit.keys)),
            ("probe_resolution_ms", json!(probes::RESOLUTION.as_millis() as u64)),
            ("edges_per_data_point", json!((last.edges - first.edges) / data_points)),
            ("edges_per_s", json!((last.edges - first.edges) / (last.at_s - first.at_s))),
        ]);
        if let Some(difference) = self.audit.wrong.first() {
            data.insert("first_difference", json!(difference));
        }
        if self.lived.reads.failed > 0 {
            data.insert("last_failed_read", json!(self.lived.reads.reason));
        }
        data
    }

    /// The table.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.fresh();
        rows.extend(self.kept());
        rows.extend(self.read());
        rows.extend(self.judged());
        rows.extend(self.cost());
        rows.extend(self.memory());
        rows
    }

    fn fresh(&self) -> Vec<Row> {
        let (calm, busy) = ([Phase::Calm], [Phase::Burst, Phase::Recovery]);
        let server = [self.freshness(&calm), self.freshness(&busy)];
        let mut rows = vec![
            Row::alone("readable after, calm, p50", "ms", self.probes(&calm, 0.5), "< 20"),
            Row::alone("readable after, calm, p99", "ms", self.probes(&calm, 0.99), "< 150"),
            Row::alone("readable after, burst, p50", "ms", self.probes(&busy, 0.5), ""),
            Row::alone("readable after, burst, p99", "ms", self.probes(&busy, 0.99), ""),
            Row::alone("freshness by the server, calm, p50", "ms", server[0].quantile(0.5), "< 20"),
            Row::alone("freshness by the server, calm, p99", "ms", server[0].quantile(0.99), "< 150"),
            Row::alone("freshness by the server, burst, p50", "ms", server[1].quantile(0.5), ""),
            Row::alone("freshness by the server, burst, p99", "ms", server[1].quantile(0.99), ""),
        ];
        for (number, (_, end_s)) in self.day.bursts.iter().enumerate() {
            let name = format!("lag gone after burst {}", number + 1);
            rows.push(Row::alone(name, "s", self.recovery_s(*end_s), "<= 60"));
        }
        let lags = self.lived.looks.iter().filter(|look| look.at_s >= self.day.warm_up_s);
        rows.push(Row::alone("most lag", "data points", lags.map(|look| look.lag).fold(0.0, f64::max), ""));
        let behind = self.heard.sent.as_ref().map_or(f64::NAN, |sent| sent.behind_ms);
        rows.push(Row::alone("generator behind its schedule, most", "ms", behind, ""));
        rows
    }

    fn kept(&self) -> Vec<Row> {
        let looks = &self.lived.looks;
        let passed = |look: Option<&Look>| look.map_or(f64::NAN, |look| look.passed);
        // The first look is from before the first data point of this run.
        let counted = passed(looks.last()) - passed(looks.first());
        vec![
            Row::alone("lost", "data points", self.audit.records as f64 - counted, "<= 0"),
            Row::alone("answers other than the topics'", "keys", self.audit.wrong.len() as f64, "<= 0"),
            Row::alone("probes lost", "", self.lived.probed.lost as f64, "<= 0"),
            Row::alone("reads failed", "", self.lived.reads.failed as f64, "<= 0"),
        ]
    }

    fn read(&self) -> Vec<Row> {
        let quiet = |at: f64| quantile(self.lived.quiet.reads.iter().map(|read| f64::from(read.1)), at);
        let row = |name: &str, of: &[Phase], at: f64, goal: &str| {
            Row::beside(name, "µs", (self.reads(of, at), quiet(at)), QUIET, goal)
        };
        let all = [Phase::Calm, Phase::Burst, Phase::Recovery];
        vec![
            row("read, p50", &all, 0.5, ""),
            row("read, p99", &all, 0.99, "<= 2x"),
            row("read, calm, p99", &[Phase::Calm], 0.99, ""),
            row("read, burst, p99", &[Phase::Burst, Phase::Recovery], 0.99, ""),
        ]
    }

    fn judged(&self) -> Vec<Row> {
        let Some(found) = &self.diagnoses else { return Vec::new() };
        let took = |at: f64| found.took_ms.value_at_quantile(at) as f64;
        vec![
            Row::alone("edges told", "", found.edges as f64, ""),
            Row::alone("edges told twice", "", found.repeated as f64, "<= 0"),
            Row::alone("edges and snapshots that do not match", "", found.snapshots_off as f64, "<= 0"),
            Row::alone("edges and predictions that do not match", "", found.predictions_off as f64, "<= 0"),
            Row::alone("edge to prediction, p50", "ms", took(0.5), ""),
            Row::alone("edge to prediction, p99", "ms", took(0.99), ""),
        ]
    }

    fn cost(&self) -> Vec<Row> {
        let (server, executor) = (self.cpu("server"), self.cpu("executor"));
        let all_in = server + if executor.is_nan() { 0.0 } else { executor };
        let (first, last) = self.counted();
        let reads = self.lived.reads.reads.iter().filter(|read| f64::from(read.0) >= first.at_s).count();
        let of_reads = self.cpu_of_read() * reads as f64 / (last.passed - first.passed);
        let row = |name: &str, value: f64, goal: &str| Row::alone(name, "µs/data point", value, goal);
        let mut rows = vec![
            row("CPU, server and executor, all in", all_in, "<= 2.2"),
            row("CPU, server, without its reads", server - of_reads, ""),
            row("CPU, server", server, ""),
        ];
        for process in ["executor", "model", "broker", "generator", "reader"] {
            let value = self.cpu(process);
            if !value.is_nan() {
                rows.push(row(&format!("CPU, {process}"), value, ""));
            }
        }
        rows.push(Row::alone(
            "the steady rate, server and executor",
            "cores",
            all_in * self.day.rate / 1e6,
            "",
        ));
        rows
    }

    /// Mean over looks between two parts of the counted time, each from 0 to 1.
    fn mean(&self, (from, to): (f64, f64), value: impl Fn(&Look) -> f64) -> f64 {
        let length_s = self.day.end_s - self.day.warm_up_s;
        let part = |look: &&Look| {
            let at = (look.at_s - self.day.warm_up_s) / length_s;
            at >= from && at < to
        };
        let values: Vec<f64> = self.lived.looks.iter().filter(part).map(value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn memory(&self) -> Vec<Row> {
        const MIB: f64 = 1048576.0;
        let most = |value: fn(&Look) -> f64| self.lived.looks.iter().map(value).fold(0.0, f64::max) / MIB;
        let limit = self.counted().1.limit / MIB;
        let beside = |name: &str, ours: f64| Row::beside(name, "MiB", (ours, limit), "storage.memory", "");
        let thirds = [(2.0 / 3.0, 1.0), (1.0 / 3.0, 2.0 / 3.0)];
        let growth = |name: &str, value: fn(&Look) -> f64| {
            let [last, middle] = thirds.map(|third| self.mean(third, value) / MIB);
            Row::beside(name, "MiB", (last, middle), "middle third", "<= 1.1x")
        };
        vec![
            beside("resident memory, most", most(|look| look.resident)),
            beside("resident without files, most", most(|look| look.own)),
            growth("resident without files, last third", |look| look.own),
            growth("resident memory, last third", |look| look.resident),
        ]
    }
}

impl Answered {
    /// Reads in windows of so many seconds: their middle, and the latency at the quantile in µs.
    pub(super) fn windows(&self, window_s: f64, at: f64) -> Vec<(f64, f64)> {
        windows(self.reads.iter().map(|(at_s, us)| (f64::from(*at_s), f64::from(*us))), window_s, at)
    }
}

/// Values at times, in windows of so many seconds: the middle of each that has any, and its quantile.
pub(super) fn windows(values: impl Iterator<Item = (f64, f64)>, window_s: f64, at: f64) -> Vec<(f64, f64)> {
    let mut all: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (at_s, value) in values {
        all.entry((at_s / window_s) as u64).or_default().push(value);
    }
    let point = |(number, values): (u64, Vec<f64>)| {
        ((number as f64 + 0.5) * window_s, quantile(values.into_iter(), at))
    };
    all.into_iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        let values = || (1..=100).map(f64::from);
        assert_eq!((quantile(values(), 0.5), quantile(values(), 0.99)), (50.0, 99.0));
        assert!(quantile(std::iter::empty(), 0.5).is_nan());
    }

    #[test]
    fn windows_have_their_own_quantiles() {
        let values = [(0.5, 1.0), (1.5, 3.0), (5.1, 7.0)];
        assert_eq!(windows(values.into_iter(), 5.0, 0.99), [(2.5, 3.0), (7.5, 7.0)]);
    }
}
