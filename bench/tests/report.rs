//! `report` and `compare` as a user runs them: the page is one well-formed file that holds everything and fetches nothing,
//! and the exit status says what a comparison found.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay-bench")).args(arguments).output().expect("started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn row(name: &str, unit: &str, ratio: f64) -> Value {
    json!({"name": name, "unit": unit, "ours": ratio * 1e6, "peer": 1e6, "peer_name": "peer & co", "ratio": ratio,
        "min": ratio * 0.9, "max": ratio * 1.1, "ours_cpu_us": 1.5, "peer_cpu_us": null, "pairs": 5,
        "goal": ">= 0.9x, >= 700 k"})
}

fn report(scenario: &str, rows: Vec<Value>) -> Value {
    json!({"scenario": scenario, "machine": "a <machine>", "date": "2026-11-29T10:00:00Z",
    "command": "forebay-bench x --lane \"<all>\"", "data": {"lane": "<script>alert(1)</script>", "data_points": 1000},
    "rows": rows, "series": [
        {"name": "freshness, p50", "unit": "ms", "points": [[0.0, 3.0], [1.0, null], [2.0, 4.0]]},
        {"name": "freshness, p99 <worst>", "unit": "ms", "points": [[0.0, 30.0], [2.0, 140.0]]},
        {"name": "lag", "unit": "records", "points": [[0.0, 0.0], [60.0, 250000.0]]}
    ]})
}

fn keep(room: &Path, name: &str, report: &Value) -> String {
    let path = room.join(name);
    std::fs::write(&path, report.to_string()).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

/// Every element of a page is closed where it must be, and nothing stands loose: gives the texts between tags, unescaped.
fn texts(page: &str) -> Vec<String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let (mut open, mut texts) = (Vec::new(), Vec::new());
    while let Some(at) = rest.find('<') {
        texts.push(unescaped(&rest[..at]));
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "</{name}> closes what is open");
        } else if !tag.ends_with('/') {
            attributes(tag);
            open.push(tag.split(' ').next().unwrap_or_default().to_owned());
        } else {
            attributes(tag.trim_end_matches('/'));
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert_eq!(rest.trim(), "");
    texts
}

/// Attributes are names with values in quotes.
fn attributes(tag: &str) {
    let mut rest = tag.split_once(' ').map_or("", |(_, rest)| rest).trim();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("an attribute in <{tag}>"));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name} in <{tag}>");
        let (value, after) = value.split_once('"').unwrap_or_else(|| panic!("a closed value in <{tag}>"));
        unescaped(value);
        rest = after.trim_start();
    }
}

fn unescaped(text: &str) -> String {
    assert!(!text.contains('>'), "a loose > in {text}");
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').unwrap_or_else(|| panic!("a loose & in {text}"));
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            _ => panic!("&{name}; is known to HTML alone"),
        });
        plain.push_str(rest);
    }
    plain
}

#[test]
fn the_page_holds_every_figure_and_needs_nothing_else() {
    let room = tempfile::tempdir().expect("a folder");
    let names = ["applied & durable", "unary <1 value>", "a row without a peer"];
    let mut alone = row(names[2], "µs", 1.0);
    for unknown in ["peer", "ratio", "min", "max"] {
        alone[unknown] = Value::Null;
    }
    alone["peer_name"] = json!("");
    let first = report("ingest", vec![row(names[0], "data points/s", 0.5), row(names[1], "µs", 2.0), alone]);
    let files = [keep(room.path(), "a.json", &first), keep(room.path(), "b.json", &report("read", vec![]))];
    let out = room.path().join("report.html");
    let output = bench(&["report", &files[0], &files[1], "--out", out.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", said(&output));

    let page = std::fs::read_to_string(&out).expect("written");
    let texts = texts(&page).join("\n");
    let rows = names.iter().copied();
    let series = ["freshness, p50", "freshness, p99 <worst>", "lag (records)"];
    let others = [
        "a <machine>",
        "<script>alert(1)</script>",
        "peer & co",
        "forebay-bench x --lane \"<all>\"",
        "ingest",
        "read",
    ];
    for wanted in rows.chain(series).chain(others) {
        assert!(texts.contains(wanted), "no {wanted} in {texts}");
    }
    assert_eq!(page.matches("<path").count(), 6, "a curve for each series of both reports");
    assert_eq!(page.matches("<circle").count(), 2, "a point for each ratio");
    assert!(page.contains("prefers-color-scheme: dark"));
    for fetched in ["http", "src=", "<script", "<link", "<img", "@import", "url("] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

#[test]
fn a_comparison_says_by_its_exit_status_what_it_found() {
    let room = tempfile::tempdir().expect("a folder");
    let kept = |name: &str, rows| keep(room.path(), name, &report("ingest", rows));
    let rows = |rate, time| vec![row("rate", "1/s", rate), row("time", "µs", time)];
    let without_goals = |mut rows: Vec<Value>| {
        rows.iter_mut().for_each(|row| row["goal"] = json!(""));
        rows
    };
    let before = kept("before.json", without_goals(rows(1.0, 1.0)));
    let same = kept("same.json", without_goals(rows(1.02, 0.98)));
    let slower = kept("slower.json", without_goals(rows(1.0, 2.0)));
    let faster = kept("faster.json", without_goals(rows(2.0, 0.5)));
    let out: PathBuf = room.path().join("changes.json");
    for (after, code, verdicts) in [
        (&same, 0, ["within_noise", "within_noise"]),
        (&slower, 1, ["within_noise", "worse"]),
        (&faster, 0, ["better", "better"]),
    ] {
        let output = bench(&["compare", &before, after, "--json", out.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let found: Value = serde_json::from_slice(&std::fs::read(&out).expect("written")).expect("JSON");
        let found: Vec<_> =
            found["rows"].as_array().expect("rows").iter().map(|row| &row["verdict"]).collect();
        assert_eq!(found, verdicts, "{}", said(&output));
    }
    let wide = bench(&["compare", &before, &slower, "--floor", "150"]);
    assert_eq!(wide.status.code(), Some(0), "{}", said(&wide));
}

#[test]
fn what_cannot_be_compared_is_named() {
    let room = tempfile::tempdir().expect("a folder");
    let ingest = keep(room.path(), "ingest.json", &report("ingest", vec![]));
    let read = keep(room.path(), "read.json", &report("read", vec![]));
    let text = keep(room.path(), "text.json", &json!("a text"));
    let missing = room.path().join("missing.json").to_str().expect("UTF-8").to_owned();
    for (other, wanted) in [
        (&read, ["scenario", "read.json"]),
        (&text, ["text.json is no report", "rows is expected"]),
        (&missing, ["missing.json cannot be read", "--json"]),
    ] {
        let output = bench(&["compare", &ingest, other]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(wanted.iter().all(|wanted| said(&output).contains(wanted)), "{}", said(&output));
    }
    let output = bench(&["report", &text, "--out", &missing]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[test]
fn help_teaches() {
    let general = said(&bench(&["--help"]));
    for wanted in
        ["engine", "ingest", "read", "triggers", "report", "compare", "record", "replay", "Examples:"]
    {
        assert!(general.contains(wanted), "{wanted} in {general}");
    }
    let compare = said(&bench(&["compare", "--help"]));
    assert!(
        compare.contains("beyond noise if all of this holds") && compare.contains("Exit status"),
        "{compare}"
    );
    let replay = said(&bench(&["replay", "--help"]));
    assert!(replay.contains("Event times inside of payloads"), "{replay}");
}
