//! Runs `forebay-bench` in small and looks into what it reports. How fast anything is decides nothing here.

use std::process::Command;

use serde_json::Value;

/// What a run of a scenario reported.
pub struct Run {
    /// The whole report.
    pub report: Value,
    /// What it said on standard error.
    pub said: String,
}

impl Run {
    /// Runs a scenario with these arguments, one pair.
    pub fn of(arguments: &[&str]) -> Run {
        let room = tempfile::tempdir().expect("a folder");
        let json = room.path().join("report.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-bench"));
        command.args(arguments).args(["--pairs", "1", "--json"]).arg(&json);
        let output = command.output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let report: Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
        assert_eq!(report["scenario"], arguments[0]);
        Run { report, said }
    }

    /// Panics if the rows are not these, by name and peer; what was measured of both sides is more than nothing.
    pub fn has_rows(&self, wanted: &[(&str, &str)]) {
        let rows = self.report["rows"].as_array().expect("rows");
        let text = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
        let found: Vec<_> = rows.iter().map(|row| (text(row, "name"), text(row, "peer_name"))).collect();
        let wanted: Vec<_> = wanted.iter().map(|(name, peer)| (name.to_string(), peer.to_string())).collect();
        assert_eq!(found, wanted, "{}", self.said);
        for row in rows {
            let positive = |key: &str| row[key].as_f64().is_some_and(|value| value > 0.0);
            assert!(positive("ours"), "{row}");
            assert!(positive("peer") || row["peer_name"] == "", "{row}");
        }
    }
}
