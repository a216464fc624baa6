//! How the day went: its figures over time.

use super::findings::{Findings, windows};
use super::watch::Look;
use crate::report::Series;

/// Seconds of a window.
const WINDOW_S: f64 = 5.0;
const PROCESSES: [&str; 6] = ["server", "executor", "model", "broker", "generator", "reader"];

/// All of them.
pub(super) fn all(findings: &Findings) -> Vec<Series> {
    let (lived, looks) = (&findings.lived, &findings.lived.looks);
    let probes = lived.probed.probes.iter().map(|(at_s, ms)| (f64::from(*at_s), f64::from(*ms)));
    let sent = findings.heard.seconds.windows(2).map(|pair| {
        let ((from_s, before, _), (to_s, after, _)) = (pair[0], pair[1]);
        (to_s, (after - before) as f64 / (to_s - from_s))
    });
    let behind = findings.heard.seconds.iter().map(|(at_s, _, ms)| (*at_s, *ms));
    let mut all = vec![
        series("produced", "data points/s", sent.collect()),
        series("generator behind its schedule", "ms", behind.collect()),
        series("passed by the server", "data points/s", rates(looks, |look| look.passed)),
        series("lag", "data points", levels(looks, |look| look.lag)),
        series("readable after, p99", "ms", windows(probes, WINDOW_S, 0.99)),
        series("freshness by the server, p99", "ms", freshness(looks)),
        series("read, p99", "µs", lived.reads.windows(WINDOW_S, 0.99)),
        series("edges", "1/s", rates(looks, |look| look.edges)),
        series("resident memory", "MiB", levels(looks, |look| look.resident / 1048576.0)),
        series("resident without files", "MiB", levels(looks, |look| look.own / 1048576.0)),
    ];
    for process in PROCESSES {
        let us = |look: &Look| look.cpu_us.get(process).map_or(f64::NAN, |us| *us as f64);
        let cores: Vec<_> = rates(looks, us).into_iter().map(|(at_s, us)| (at_s, us / 1e6)).collect();
        if cores.iter().any(|(_, cores)| cores.is_finite()) {
            all.push(series(&format!("CPU, {process}"), "cores", cores));
        }
    }
    all
}

pub(super) fn series(name: &str, unit: &str, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.into(), unit: unit.into(), points }
}

pub(super) fn levels(looks: &[Look], value: impl Fn(&Look) -> f64) -> Vec<(f64, f64)> {
    looks.iter().map(|look| (look.at_s, value(look))).collect()
}

pub(super) fn rates(looks: &[Look], value: impl Fn(&Look) -> f64) -> Vec<(f64, f64)> {
    let rate = |pair: &[Look]| {
        let per_s = (value(&pair[1]) - value(&pair[0])) / (pair[1].at_s - pair[0].at_s);
        (pair[1].at_s, per_s)
    };
    looks.windows(2).map(rate).collect()
}

pub(super) fn freshness(looks: &[Look]) -> Vec<(f64, f64)> {
    let p99 = |pair: &[Look]| (pair[1].at_s, pair[1].freshness.since(&pair[0].freshness).quantile(0.99));
    looks.windows(2).map(p99).filter(|(_, ms)| ms.is_finite()).collect()
}
