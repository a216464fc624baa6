//! The `isolation` scenario in small: that it runs to the end and says everything it is to say. How much one lane moves the
//! other decides nothing here.

use std::process::Command;

use serde_json::Value;

#[test]
fn isolation_measures_both_lanes_in_a_burst_and_without() {
    let room = tempfile::tempdir().expect("a folder");
    let json = room.path().join("isolation.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-bench"));
    command.args(["isolation", "--count", "300000", "--rate", "500", "--reads", "200", "--seconds", "0.4"]);
    command.args(["--partitions", "4", "--scale", "1000", "--pairs", "1", "--json"]).arg(&json);
    let output = command.output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(report["scenario"], "isolation");
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["standard freshness p50", "standard freshness p99", "read p50", "read p99"]);
    for row in rows {
        for side in ["ours", "peer"] {
            assert!(row[side].as_f64().is_some_and(|ms| ms > 0.0), "{row}");
        }
    }
    assert!(report["data"]["burst_applied_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{report}");
}
