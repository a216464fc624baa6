//! The `engine` scenario in small, ours alone: that it runs to the end and says everything it is to say. How fast anything
//! is decides nothing here.

use std::process::Command;

use serde_json::Value;

#[test]
fn engine_measures_everything_it_promises() {
    let room = tempfile::tempdir().expect("a folder");
    let json = room.path().join("engine.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-bench"));
    command.args([
        "engine",
        "--peer",
        "none",
        "--keys",
        "4000",
        "--seconds",
        "0.1",
        "--pairs",
        "1",
        "--json",
    ]);
    let output = command.arg(&json).arg("--dir").arg(room.path()).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(report["scenario"], "engine");
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    for wanted in [
        "put, new keys",
        "update",
        "get, hot",
        "get, cold",
        "batch get of 10 views",
        "as of, p50",
        "index RAM per key",
        "disk per raw byte",
        "write amplification, thinning",
        "put call, p99.9",
        "expiry, CPU per data point",
        "get p99, thinning over quiet",
        "get p99, expiry over quiet",
        "get p99, checkpoint over quiet",
        "open after a crash, files cached",
        "index rebuilt, entries per core",
        "coding with validation",
        "stored per raw byte of payload",
    ] {
        assert!(names.contains(&wanted), "no row {wanted} in {names:?}");
    }
    for row in rows {
        assert!(row["ours"].as_f64().is_some_and(|value| value >= 0.0), "{row}");
    }
    let left: Vec<_> = std::fs::read_dir(room.path()).expect("readable").flatten().collect();
    assert_eq!(left.len(), 1, "only the report is left: {left:?}");
}
