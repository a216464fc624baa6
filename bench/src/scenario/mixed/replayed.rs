//! A running server under a recorded tape of its own topics, played by `forebay-bench replay` in a process of its own: how
//! fresh, how far behind, what was lost, at what cost. Reads are none: what is to be asked of somebody's own views is not
//! known here.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::series::{freshness, levels, rates, series};
use super::watch::{Look, Subject, Watch};
use super::{Options, SETTLE};
use crate::report::{Report, Row};
use crate::scenario::{progress, reach};

/// The lane that keeps diagnoses: what it takes in is no data point.
const DIAGNOSES: &str = "diagnoses";

/// Plays the tape and says how the target did.
pub async fn run(options: &Options, tape: &Path, target: &str) -> anyhow::Result<Report> {
    let status = reach(target).await?.status().await?;
    let lanes = status.lanes.into_iter().map(|lane| lane.lane).filter(|lane| lane != DIAGNOSES);
    let subject = Subject { http: options.http.clone(), pids: Default::default(), lanes: lanes.collect() };
    let step = progress("replaying");
    let begin = Instant::now();
    let first = Look::take(&subject, begin).await?;
    let watch = Watch::start(subject, first, begin);
    let replayed = replay(options, tape).await?;
    let replayed_s = begin.elapsed().as_secs_f64();
    step.set_message("letting it settle");
    let end = Instant::now() + SETTLE;
    while watch.last().is_none_or(|look| look.lag > 0.0 || look.at_s <= replayed_s) {
        ensure!(Instant::now() < end, "still behind after {SETTLE:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    step.finish_and_clear();
    let looks = watch.leave();
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { anyhow::bail!("nothing was seen") };
    let (passed, delivered) = (last.passed - first.passed, replayed["delivered"].as_f64());
    let delivered = delivered.context("the replay says what it delivered")?;
    let fresh = last.freshness.since(&first.freshness);
    let most = |value: fn(&Look) -> f64| looks.iter().map(value).fold(0.0, f64::max);
    let server_us = (last.cpu_us["server"] - first.cpu_us["server"]) as f64;
    let mut report = Report::new("mixed");
    report.data.insert("tape", json!(tape));
    report.data.insert("replay", replayed);
    report.rows = vec![
        Row::alone("freshness by the server, p50", "ms", fresh.quantile(0.5), "< 20"),
        Row::alone("freshness by the server, p99", "ms", fresh.quantile(0.99), "< 150"),
        Row::alone("most lag", "data points", most(|look| look.lag), ""),
        Row::alone("lag gone after the last record", "s", last.at_s - replayed_s, "<= 60"),
        Row::alone("lost", "data points", delivered - passed, "<= 0"),
        Row::alone("CPU, server", "µs/data point", server_us / passed, "<= 2.2"),
        Row::alone("resident memory, most", "MiB", most(|look| look.resident) / 1048576.0, ""),
    ];
    report.series = vec![
        series("passed by the server", "data points/s", rates(&looks, |look| look.passed)),
        series("lag", "data points", levels(&looks, |look| look.lag)),
        series("freshness by the server, p99", "ms", freshness(&looks)),
        series("resident memory", "MiB", levels(&looks, |look| look.resident / 1048576.0)),
    ];
    Ok(report)
}

/// Runs `forebay-bench replay` to its end; what it says.
async fn replay(options: &Options, tape: &Path) -> anyhow::Result<Value> {
    let said = tempfile::NamedTempFile::new()?;
    let bootstrap = options.bootstrap.as_deref().context("--tape needs --bootstrap")?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg("replay").arg(tape).args(["--bootstrap", bootstrap, "--speed", &options.speed]);
    command.args(["--topic-prefix", &options.topic_prefix]).arg("--json").arg(said.path());
    let status = command.stdout(Stdio::null()).kill_on_drop(true).status().await?;
    ensure!(status.success(), "the replay failed: {status}");
    Ok(serde_json::from_slice(&std::fs::read(said.path())?)?)
}
