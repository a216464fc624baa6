//! The `edges` scenario in small: every data point's edge is told, and has its snapshot and its prediction.

use std::process::Command;

use serde_json::Value;

#[test]
fn edges_all_become_predictions() {
    let room = tempfile::tempdir().expect("a folder");
    let json = room.path().join("edges.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-bench"));
    command.args([
        "edges",
        "--warm-up",
        "1",
        "--rate",
        "100",
        "--seconds",
        "4",
        "--entities",
        "150",
        "--partitions",
        "2",
        "--sample",
        "5",
    ]);
    let output = command.arg("--json").arg(&json).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let number = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name}"));
        row["ours"].as_f64().unwrap_or_else(|| panic!("nothing was measured: {row}"))
    };
    for none in [
        "edges not told",
        "edges told twice",
        "edges and snapshots that do not match",
        "edges and predictions that do not match",
        "diagnoses that were not found",
    ] {
        assert_eq!(number(none), 0.0, "{none}");
    }
    for some in [
        "edge to prediction readable, p50",
        "edge to prediction readable, p99",
        "edge to prediction in Kafka, p99",
        "data point to prediction in Kafka, p99",
        "CPU, server",
        "CPU, executor",
        "CPU, model",
        "CPU, broker",
        "CPU, load",
    ] {
        assert!(number(some) > 0.0, "{some}");
    }
    assert!(report["data"]["timed_from_outside"].as_u64().is_some_and(|count| count >= 50));
}
