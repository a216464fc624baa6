//! The seed's day in small: that it comes to its end, says everything it is to say, and loses nothing. How fast anything is
//! decides nothing here.

use std::process::Command;

use serde_json::Value;

const SMALL: [&str; 25] = [
    "mixed",
    "--seconds",
    "12",
    "--warm-up",
    "2",
    "--bursts",
    "1",
    "--burst-seconds",
    "3",
    "--rate",
    "3000",
    "--burst-rate",
    "6000",
    "--reads",
    "100",
    "--quiet",
    "2",
    "--scale",
    "5000",
    "--payloads",
    "4000",
    "--partitions",
    "2",
    "--segment",
    "4MiB",
];

fn number(report: &Value, name: &str) -> f64 {
    let rows = report["rows"].as_array().expect("rows");
    let row =
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name} in {rows:?}"));
    row["ours"].as_f64().unwrap_or_else(|| panic!("nothing was measured: {row}"))
}

#[test]
fn mixed_says_everything_and_loses_nothing() {
    let room = tempfile::tempdir().expect("a folder");
    let json = room.path().join("mixed.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-bench"));
    let output = command.args(SMALL).arg("--json").arg(&json).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(report["scenario"], "mixed");
    for none in [
        "lost",
        "answers other than the topics'",
        "probes lost",
        "reads failed",
        "edges told twice",
        "edges and snapshots that do not match",
        "edges and predictions that do not match",
    ] {
        assert_eq!(number(&report, none), 0.0, "{none}: {}", report["data"]);
    }
    for some in [
        "readable after, calm, p50",
        "readable after, calm, p99",
        "readable after, burst, p99",
        "freshness by the server, calm, p99",
        "freshness by the server, burst, p99",
        "generator behind its schedule, most",
        "read, p50",
        "read, p99",
        "read, calm, p99",
        "read, burst, p99",
        "edges told",
        "edge to prediction, p99",
        "CPU, server and executor, all in",
        "CPU, server",
        "CPU, executor",
        "CPU, model",
        "CPU, broker",
        "CPU, generator",
        "CPU, reader",
        "the steady rate, server and executor",
        "resident memory, most",
        "resident without files, last third",
    ] {
        assert!(number(&report, some) > 0.0, "{some}");
    }
    assert!(number(&report, "lag gone after burst 1") >= 0.0);
    let due = 14.0 * 3000.0 + 3.0 * 3000.0;
    let sent = report["data"]["data_points"].as_f64().expect("a count");
    assert!((sent / due - 1.0).abs() < 0.05, "{sent} of {due} data points");
    let series = report["series"].as_array().expect("series");
    for name in [
        "produced",
        "lag",
        "readable after, p99",
        "read, p99",
        "resident memory",
        "CPU, server",
        "CPU, broker",
    ] {
        let found =
            series.iter().find(|series| series["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(found["points"].as_array().is_some_and(|points| points.len() > 1), "{found}");
    }
}
