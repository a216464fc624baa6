//! Every command of `forebay` end to end: for people as tables and text, for programs as JSON, with exit codes that say
//! how it went.

use forebay_tests::{Bed, Output, Record, Status, event_now, run, run_with};
use serde_json::Value;

use crate::shared::{bed, entity};

/// A client command against a bed's server.
async fn forebay(bed: &Bed, arguments: &[&str]) -> Output {
    forebay_with(bed, arguments, "").await
}

async fn forebay_with(bed: &Bed, arguments: &[&str], input: &str) -> Output {
    let server = format!("http://{}", bed.server.grpc);
    run_with(["--server", &server].into_iter().chain(arguments.iter().copied()), input).await
}

/// Whether a text or a number like this is somewhere in a JSON document.
fn has(json: &Value, wanted: &Value) -> bool {
    json == wanted
        || match json {
            Value::Array(items) => items.iter().any(|item| has(item, wanted)),
            Value::Object(fields) => fields.values().any(|value| has(value, wanted)),
            _ => false,
        }
}

fn name(entity: &[u8]) -> &str {
    std::str::from_utf8(entity).expect("UTF-8")
}

async fn some_point(bed: &Bed, key: &[u8]) -> i64 {
    let ts = event_now();
    bed.put(Record::new("points", key, format!(r#"{{"ts":{ts},"i":42,"s":"hello"}}"#))).await;
    ts
}

#[tokio::test]
async fn get_prints_a_table_or_json() {
    let bed = bed().await;
    let key = entity("cli-get");
    let ts = some_point(&bed, &key).await;
    let table = forebay(&bed, &["get", name(&key), "nobody", "--view", "points"]).await.ok().stdout;
    for word in [name(&key), "nobody", "PRESENT", "NOT_FOUND", "hello"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    let json = forebay(&bed, &["get", name(&key), "--view", "points", "--json"]).await.ok().json();
    assert!(has(&json, &"PRESENT".into()) && has(&json, &ts.into()) && has(&json, &42.into()), "{json}");
    let typed =
        forebay(&bed, &["get", name(&key), "--view", "points:s,i", "--typed", "--json"]).await.ok().json();
    assert!(has(&typed, &"hello".into()) && has(&typed, &42.into()), "{typed}");
    let service =
        forebay(&bed, &["get", name(&key), "--service", "some@1", "--typed", "--json"]).await.ok().json();
    assert!(has(&service, &42.into()) && !has(&service, &"hello".into()), "{service}");
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let json = forebay(&bed, &["get", &format!("hex:{hex}"), "--view", "points", "--json"]).await.ok().json();
    assert!(has(&json, &"PRESENT".into()), "{json}");
}

#[tokio::test]
async fn get_reads_the_past() {
    let bed = bed().await;
    let key = entity("cli-past");
    let ts = some_point(&bed, &key).await;
    for (as_of, status) in [
        ((ts - 1).to_string(), "NOT_FOUND"),
        (ts.to_string(), "PRESENT"),
        ("2001-02-03T04:05:06Z".into(), "NOT_FOUND"),
    ] {
        let json = forebay(&bed, &["get", name(&key), "--view", "points", "--as-of", &as_of, "--json"])
            .await
            .ok()
            .json();
        assert!(has(&json, &status.into()), "as of {as_of}: {json}");
    }
    let fresh = ["get", name(&key), "--view", "points", "--max-staleness", "1h", "--include-expired"];
    forebay(&bed, &fresh).await.ok();
}

#[tokio::test]
async fn history_prints_versions_newest_first() {
    let bed = bed().await;
    let (key, ts) = (entity("cli-history"), event_now());
    for i in 0..5 {
        bed.put(Record::new("points", &key, format!(r#"{{"ts":{},"i":{}}}"#, ts - i, 1000 + i))).await;
    }
    let table = forebay(&bed, &["history", name(&key), "--view", "points"]).await.ok().stdout;
    let at = |word: &str| table.find(word).unwrap_or_else(|| panic!("{word} is not in\n{table}"));
    assert!(at("1000") < at("1004"), "{table}");
    let to = ts.to_string();
    let json =
        forebay(&bed, &["history", name(&key), "--view", "points", "--to", &to, "--limit", "2", "--json"])
            .await;
    let json = serde_json::Value::Array(json.ok().json_lines());
    assert!(has(&json, &1001.into()) && has(&json, &1002.into()), "{json}");
    assert!(!has(&json, &1000.into()) && !has(&json, &1003.into()), "{json}");
    let all =
        forebay(&bed, &["history", name(&key), "--view", "points", "--limit", "2", "--all", "--json"]).await;
    assert!(has(&serde_json::Value::Array(all.ok().json_lines()), &1004.into()));
}

#[tokio::test]
async fn push_and_delete_are_seen_by_get() {
    let bed = bed().await;
    let key = entity("cli-push");
    let payload = format!(r#"{{"ts":{},"i":77}}"#, event_now());
    forebay(&bed, &["push", "--view", "points", name(&key), &payload, "--wait"]).await.ok();
    assert_eq!(bed.get("points", &key).await.json, payload.as_bytes());
    let lines: String = (0..3)
        .map(|i| format!("{{\"entity\":\"{}-{i}\",\"view\":\"points\",\"json\":{payload}}}\n", name(&key)))
        .collect();
    forebay_with(&bed, &["push", "--wait"], &lines).await.ok();
    let third = format!("{}-2", name(&key));
    assert_eq!(bed.get("points", third.as_bytes()).await.status, Status::Present);
    let refused = forebay(&bed, &["push", "--view", "points", name(&key), "nope"]).await;
    assert!(refused.code == 1 && refused.stderr.contains("not_json"), "{refused:?}");
    forebay(&bed, &["delete", name(&key), &third, "--view", "points"]).await.ok();
    bed.settled().await;
    assert_eq!(bed.get("points", third.as_bytes()).await.status, Status::Deleted);
}

#[tokio::test]
async fn status_prints_every_shard() {
    let bed = bed().await;
    let table = forebay(&bed, &["status"]).await.ok().stdout;
    for word in ["main", "side", "strict", "READY"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    let json = forebay(&bed, &["status", "--json"]).await.ok().json();
    for word in ["main", "side", "READY", "murmur2"] {
        assert!(has(&json, &word.into()), "{word} is not in {json}");
    }
}

#[tokio::test]
async fn check_approves_what_the_server_takes() {
    let bed = bed().await;
    let definitions = bed.server.config.dir.join("definitions");
    let path = definitions.to_str().expect("UTF-8");
    let said = run(["check", path]).await.ok().stdout;
    assert!(!said.is_empty());
    run(["check", path, "--json"]).await.ok().json();
    let config = bed.server.config.file();
    run(["check", "--config", config.to_str().expect("UTF-8")]).await.ok();
    let missing = run(["check", "/nowhere/at/all"]).await;
    assert!(missing.code == 2 && missing.said().contains("/nowhere/at/all"), "{missing:?}");
}

#[tokio::test]
async fn inspect_decodes_every_file_of_a_stopped_server() {
    let mut bed = Bed::new("cli_inspect").start().await;
    bed.send_all((0..20).map(|i| {
        Record::new("points", format!("key{i}").as_bytes(), format!(r#"{{"ts":{}}}"#, event_now()))
    }))
    .await;
    bed.settled().await;
    bed.server.terminate().await;
    let data = bed.server.config.dir.join("data/main/0");
    let mut said = String::new();
    let mut paths = vec![data.clone()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("readable");
            paths.extend(entries.map(|entry| entry.expect("readable").path()));
            continue;
        }
        let shown = run(["inspect".as_ref(), path.as_os_str()]).await;
        if path.file_name().is_some_and(|name| name == "LOCK") {
            continue;
        }
        said.push_str(&shown.ok().stdout);
        let lines = run(["inspect".as_ref(), path.as_os_str(), "--json".as_ref()]).await.ok().json_lines();
        assert!(!lines.is_empty(), "{path:?}");
    }
    assert!(said.contains("key") && said.contains("main"), "{said}");
    let whole = run(["inspect".as_ref(), data.as_os_str()]).await.ok().stdout;
    assert!(whole.contains("key"), "{whole}");
    let other = run(["inspect", "/etc/hostname"]).await;
    assert_eq!(other.code, 1, "{other:?}");
}

#[tokio::test]
async fn produce_sends_the_mix_it_says_it_sends() {
    let kafka = forebay_tests::Broker::shared().await;
    let prefix = format!("cli-produce-{:06x}.", rand::random::<u32>() & 0xff_ffff);
    let produce = |more: &[&str]| {
        let base = ["produce", "--bootstrap", &kafka.bootstrap, "--topic-prefix", &prefix, "--seed", "7"];
        let all: Vec<String> = base.iter().chain(more).map(|text| (*text).to_owned()).collect();
        run(all)
    };
    let more = ["--count", "500", "--rate", "0", "--create-topics", "--partitions", "3", "--json"];
    let said = produce(&more).await.ok().json();
    let toml = produce(&["--print-definitions"]).await.ok().stdout;
    let definitions = forebay_tests::Definitions::parse(&toml);
    let mut total = 0;
    for topic in definitions.topics(None) {
        let ends = kafka.end_offsets(&topic).await;
        assert_eq!(ends.len(), 3, "{topic}");
        total += ends.iter().sum::<i64>();
    }
    assert!(total >= 500, "{total}: {said}");
    let model = forebay_tests::Model::read(&kafka, &definitions).await;
    assert!(
        model.versions.len() as i64 + model.refused.len() as i64 > total / 2,
        "they are versions of our views"
    );
    let file = forebay_tests::run_dir().join(format!("{prefix}toml"));
    std::fs::write(&file, toml).expect("written");
    run(["check".as_ref(), file.as_os_str()]).await.ok();
}

#[tokio::test]
async fn demo_ends_by_itself_with_one_line_of_json() {
    let _permit = forebay_tests::heavy().await;
    let output = run(["demo", "--seconds", "5", "--json"]).await.ok();
    let line = output.json();
    let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"));
    assert!(number("produced") > 0.0, "{line}");
    assert_eq!(
        number("applied"),
        number("produced") - number("late") - number("dead_lettered") - duplicates(&line),
        "{line}"
    );
    let more = ["edges", "diagnoses", "snapshots", "edge_to_prediction_p99_ms"];
    for key in ["readable_p50_ms", "readable_p99_ms", "read_p50_us", "read_p99_us"].into_iter().chain(more) {
        assert!(number(key) > 0.0, "{key} of {line}");
    }
    assert_eq!(number("snapshots"), number("diagnoses"), "{line}");
}

/// Data points sent twice count neither as applied nor otherwise, where the line says how many there were.
fn duplicates(line: &Value) -> f64 {
    line["duplicates"].as_f64().or(line["duplicate"].as_f64()).unwrap_or(0.0)
}

#[tokio::test]
async fn completions_are_there_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(["completions", shell]).await.ok().stdout;
        assert!(script.contains("forebay") && script.contains("history"), "{shell}");
    }
}

#[tokio::test]
async fn usage_errors_are_2_and_failures_1() {
    for arguments in [&["nope"][..], &["get"], &["get", "x"], &["--nope"], &["history", "x"], &["serve"]] {
        let output = run(arguments).await;
        assert_eq!(output.code, 2, "{arguments:?}: {output:?}");
    }
    let away = run(["--server", "http://127.0.0.1:1", "status"]).await;
    assert!(away.code == 1 && away.stderr.contains("127.0.0.1:1"), "{away:?}");
    let bed = bed().await;
    let unknown = forebay(&bed, &["get", "x", "--view", "pionts"]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("pionts"), "{unknown:?}");
    let help = run(["--help"]).await.ok().stdout;
    for command in
        ["serve", "get", "history", "push", "delete", "status", "check", "inspect", "dlq", "produce", "demo"]
    {
        assert!(help.contains(command), "{command}");
    }
}
