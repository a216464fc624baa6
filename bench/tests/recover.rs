//! The `recover` scenario in small: killed servers come back with every key, and a rolling restart fails no read.

use std::process::Command;

use serde_json::Value;

#[test]
fn recover_keeps_every_key_and_fails_no_read() {
    let room = tempfile::tempdir().expect("a folder");
    let json = room.path().join("recover.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-bench"));
    command.args(["recover", "--keys", "20000", "--views", "2", "--partitions", "2", "--threads", "1"]);
    command.args(["--rate", "5000", "--seconds", "0.5", "--pairs", "1", "--memory", "256MiB"]);
    command.args(["--rolling-keys", "4000", "--rolling-rate", "500", "--rolling-reads", "50"]);
    let output = command.arg("--json").arg(&json).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let row = |name: &str| {
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name} in {rows:?}"))
    };
    let number = |name: &str| row(name)["ours"].as_f64().unwrap_or_else(|| panic!("nothing: {}", row(name)));
    assert_eq!(report["data"]["keys"], 20_000);
    for none in ["keys missing", "answers other than the topics'", "rolling restart, reads that failed"] {
        assert_eq!(number(none), 0.0, "{none}: {}", report["data"]);
    }
    for some in [
        "killed at full rate, ready after",
        "stopped at full rate, ready after",
        "rolling restart, reads",
        "rolling restart, read p99",
        "rolling restart, longest wait",
    ] {
        assert!(number(some) > 0.0, "{some}");
    }
    assert!(row("killed at full rate, ready after")["peer"].as_f64().is_some_and(|seconds| seconds > 0.0));
}
