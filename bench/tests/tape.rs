//! `record` and `replay` as a user runs them, against a real broker: a topic that was recorded and replayed is the same topic.

use std::collections::BTreeMap;
use std::path::Path;

use forebay_tests::{Broker, Consumed, Kafka, Output, Record};
use serde_json::Value;

async fn bench(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_forebay-bench"));
    let done = command.args(arguments).kill_on_drop(true).output().await.expect("started");
    Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

/// What a replay must keep of a record.
type Kept = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>, i64);

/// The records of each partition, in order.
async fn partitions(kafka: &Kafka, topic: &str) -> BTreeMap<u32, Vec<Kept>> {
    let mut found = BTreeMap::<u32, Vec<Kept>>::new();
    for Consumed { place, key, value, headers, timestamp_ms } in kafka.read_topic(topic).await {
        found.entry(place.partition).or_default().push((key, value, headers, timestamp_ms));
    }
    found
}

const BEGIN_MS: i64 = 1_790_000_000_000;

/// A record of every kind, at a time of its own.
fn record(topic: &str, n: i64) -> Record {
    let mut record = Record::new(topic, format!("e{}", n % 50).as_bytes(), format!("{{\"n\": {n}}}"));
    record = record.at(BEGIN_MS + n * 10).on((n % 3) as i32);
    match n % 10 {
        1 => record.value = None,
        2 => record = record.keyless(),
        3 => record.key = Some(Vec::new()),
        4 => record.value = Some(Vec::new()),
        5 => record = record.header("trace", b"\x00\x01\xff").header("trace", b"").header("", b"x"),
        _ => {}
    }
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_recorded_and_replayed_is_the_same() {
    let (kafka, room) = (Broker::shared().await, tempfile::tempdir().expect("a folder"));
    let tape = room.path().join("day.tape");
    let (tape, out) = (tape.to_str().expect("UTF-8"), room.path().join("out.json"));
    let out_text = out.to_str().expect("UTF-8");
    kafka.create_topics(&["same.a", "same.b"], 3).await;
    kafka.send_all(&(0..2000).map(|n| record("same.a", n)).collect::<Vec<_>>()).await;
    kafka.send_all(&(500..700).map(|n| record("same.b", n)).collect::<Vec<_>>()).await;
    // What a transaction leaves: records that are not committed, and markers that are no records at the very end.
    kafka.send_transaction(&[record("same.a", 1), record("same.b", 2)], false).await;
    kafka.send_transaction(&[record("same.a", 2001), record("same.a", 2002)], true).await;

    let bootstrap = kafka.bootstrap.as_str();
    let from = ["record", "--bootstrap", bootstrap, "--topic", "same.a", "--topic", "same.b", "--out", tape];
    bench(&[&from[..], &["--json", out_text]].concat()).await.ok();
    let recorded = json(&out);
    assert_eq!(
        (&recorded["records"], &recorded["topics"][1]["records"]),
        (&2202.into(), &200.into()),
        "{recorded}"
    );
    let again = bench(&from).await;
    assert!(again.code == 1 && again.stderr.contains("day.tape"), "a tape is not written over: {again:?}");

    let to = ["replay", tape, "--bootstrap", bootstrap, "--topic-prefix", "again.", "--create-topics"];
    bench(&[&to[..], &["--speed", "max", "--keep-timestamps", "--json", out_text]].concat()).await.ok();
    let replayed = json(&out);
    assert_eq!((&replayed["delivered"], &replayed["failed"]), (&2202.into(), &0.into()), "{replayed}");
    for topic in ["same.a", "same.b"] {
        let (before, after) =
            (partitions(&kafka, topic).await, partitions(&kafka, &format!("again.{topic}")).await);
        assert_eq!(before, after, "{topic}");
    }

    bench(&[&to[..], &["--speed", "max", "--loop", "3"]].concat()).await.ok();
    assert_eq!(kafka.read_topic("again.same.b").await.len(), 800, "three times more");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_between_records_are_kept_across_topics() {
    let (kafka, room) = (Broker::shared().await, tempfile::tempdir().expect("a folder"));
    let tape = room.path().join("pace.tape");
    let (tape, bootstrap) = (tape.to_str().expect("UTF-8"), kafka.bootstrap.as_str());
    kafka.create_topics(&["pace.a", "pace.b"], 1).await;
    let at = |topic, seconds: i64| Record::new(topic, b"e", "x").at(BEGIN_MS + seconds * 1000);
    kafka.send_all(&[at("pace.a", 0), at("pace.a", 8), at("pace.b", 4)]).await;
    bench(&["record", "--bootstrap", bootstrap, "--topic", "pace.a", "--topic", "pace.b", "--out", tape])
        .await
        .ok();
    let to = [
        "replay",
        tape,
        "--bootstrap",
        bootstrap,
        "--topic-prefix",
        "x.",
        "--create-topics",
        "--speed",
        "20",
    ];
    let said = bench(&to).await.ok().said();
    assert!(said.contains("at 20 times the recorded speed; behind by"), "{said}");
    let times = |records: Vec<Consumed>| records.iter().map(|record| record.timestamp_ms).collect::<Vec<_>>();
    let (a, b) = (times(kafka.read_topic("x.pace.a").await), times(kafka.read_topic("x.pace.b").await));
    // Eight seconds at twenty times the speed are 400 ms; the first record may be late by some of them, the others then too.
    assert!(b[0] > a[0] && a[1] > b[0] && a[1] - a[0] > 200, "{a:?} {b:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_waits_for_what_comes() {
    let (kafka, room) = (Broker::shared().await, tempfile::tempdir().expect("a folder"));
    let tape = room.path().join("coming.tape");
    let (tape, bootstrap) = (tape.to_str().expect("UTF-8"), kafka.bootstrap.as_str());
    kafka.create_topics(&["coming"], 3).await;
    kafka.send_all(&(0..10).map(|n| record("coming", n)).collect::<Vec<_>>()).await;
    let from = ["record", "--bootstrap", bootstrap, "--topic", "coming", "--out"];
    let more = async {
        let (first, second) = (record("coming", 10), record("coming", 11));
        kafka.send_all(&[first, second]).await;
    };
    let recording = [&from[..], &[tape, "--count", "12"]].concat();
    let (recorded, ()) = tokio::join!(bench(&recording), more);
    assert!(recorded.ok().said().contains("coming: 12 records in 3 partitions"));

    let quiet = room.path().join("quiet.tape");
    let said =
        bench(&[&from[..], &[quiet.to_str().expect("UTF-8"), "--seconds", "0.1"]].concat()).await.ok().said();
    assert!(said.contains("coming: 0 records"), "what was there before is not recorded: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let (kafka, room) = (Broker::shared().await, tempfile::tempdir().expect("a folder"));
    let path = room.path().join("three.tape");
    let (tape, bootstrap) = (path.to_str().expect("UTF-8"), kafka.bootstrap.as_str());
    kafka.create_topics(&["three"], 3).await;
    kafka.create_topics(&["few.three"], 2).await;
    kafka.send_all(&(0..30).map(|n| record("three", n)).collect::<Vec<_>>()).await;
    bench(&["record", "--bootstrap", bootstrap, "--topic", "three", "--out", tape]).await.ok();
    let missing = room.path().join("no.tape");
    let absent = missing.to_str().expect("UTF-8");
    let other = bench(&["record", "--bootstrap", bootstrap, "--topic", "nothing", "--out", absent]).await;
    assert!(other.code == 1 && other.stderr.contains("topic nothing does not exist"), "{other:?}");
    assert!(!missing.exists(), "nothing is left of it");

    let to = |prefix: &'static str| ["replay", tape, "--bootstrap", bootstrap, "--topic-prefix", prefix];
    for (prefix, wanted) in [
        ("few.", "topic few.three has 2 partitions, and 3 were recorded"),
        ("none.", "topic none.three does not exist: create it, or add --create-topics"),
    ] {
        let refused = bench(&to(prefix)).await;
        assert!(refused.code == 1 && refused.stderr.contains(wanted), "{refused:?}");
    }
    assert!(kafka.read_topic("few.three").await.is_empty(), "nothing was sent");

    let mut bytes = std::fs::read(&path).expect("readable");
    let near_the_end = bytes.len() - 60;
    bytes[near_the_end] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let damaged = bench(&to("")).await;
    assert!(damaged.code == 1 && damaged.stderr.contains("three.tape is damaged in block 0"), "{damaged:?}");
}
