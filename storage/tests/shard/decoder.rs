//! `FORMAT.md` against the bytes: `decoder.py`, which was written from it, reads what the engine wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use forebay_storage::{Kind, Options};
use serde_json::Value;

use crate::store::{Point, TOPICS, VIEWS, applied, history, identity, no_sync, options, point, temporary};

fn decoded(dir: &Path) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder.py");
    let done = Command::new("python3").arg(script).arg(dir).output().expect("python3 runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What a data point and a decoded record have in common; the payload only if it is stored as it came.
type Seen = (u64, String, bool, i64, i64, i64, u64, i64, Option<String>);

fn of_point(point: &Point, raw: bool) -> Seen {
    let entity = point.entity.iter().map(|byte| format!("{byte:02x}")).collect();
    let payload = raw.then(|| String::from_utf8(point.payload.clone()).expect("text"));
    let times = (point.event_time_ms, point.ingest_time_ms, point.expiry_ms);
    let tombstone = point.kind == Kind::Tombstone;
    (
        point.view.into(),
        entity,
        tombstone,
        times.0,
        times.1,
        times.2,
        point.topic.into(),
        point.offset,
        payload,
    )
}

fn of_record(line: &Value) -> Seen {
    let time = |name: &str| line[name].as_i64().expect("a number");
    let text = |name: &str| line[name].as_str().expect("text").to_owned();
    let number = |name: &str| line[name].as_u64().expect("a number");
    let (event, ingest, expiry) = (time("event_time_ms"), time("ingest_time_ms"), time("expiry_ms"));
    let payload = (line["coding"] == "raw").then(|| text("payload"));
    let tombstone = line["kind"] == "tombstone";
    let (view, topic) = (number("view"), number("topic"));
    (view, text("entity"), tombstone, event, ingest, expiry, topic, time("offset"), payload)
}

/// Writes a shard with sealed segments, late data points, tombstones and a reopening, and compares.
fn compare(codec_samples: u32) {
    let dir = temporary();
    let options = Options { codec_samples, ..options() };
    for round in 0..3_i64 {
        let (mut writer, _) =
            crate::store::open_patiently(dir.path(), &identity(), &options, &no_sync()).expect("a shard");
        for n in round * 200..round * 200 + 200 {
            // Ids of all the lengths that are hashed in their own way.
            let entity = "e".repeat([1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 255][n as usize % 12]);
            let event_time_ms = if n % 9 == 8 { n * 700 + 1 } else { n * 1000 };
            let one = Point {
                view: VIEWS[n as usize % 5 % 3],
                topic: (n % 3) as u16,
                ingest_time_ms: n * 1000 + n % 3 * 50,
                ..point(entity.as_bytes(), event_time_ms, n)
            };
            let one = if n % 17 == 16 { one.tombstone() } else { one };
            writer.put(&one.put()).expect("a put");
            if n % 4 == 0 {
                writer.commit().expect("a commit");
            }
            let until = Instant::now() + Duration::from_secs(60);
            while writer.is_learning() {
                assert!(Instant::now() < until, "waited for a training");
                std::thread::yield_now();
                writer.commit().expect("a commit");
            }
        }
        writer.commit().expect("a commit");
        if round != 1 {
            writer.close().expect("a close");
        }
    }
    let lines = decoded(dir.path());
    let (positions, records) = lines.split_at(TOPICS.len());
    let (_writer, reader) =
        crate::store::open_patiently(dir.path(), &identity(), &options, &no_sync()).expect("a shard");
    for (topic, line) in positions.iter().enumerate() {
        assert_eq!(line["position"].as_i64(), applied(&reader, topic as u16));
    }
    assert_eq!(records.iter().any(|line| line["coding"] != "raw"), codec_samples > 0);
    assert!(records.last().expect("a record")["location"].as_u64() > Some(2 << 40), "several segments");
    let mut keys = BTreeMap::<(String, u64), Vec<&Value>>::new();
    for line in records {
        let key =
            (line["entity"].as_str().expect("text").to_owned(), line["view"].as_u64().expect("a number"));
        keys.entry(key).or_default().push(line);
    }
    assert_eq!(keys.len() as u64, reader.stats().keys);
    for ((entity, view), mut lines) in keys {
        let entity = "e".repeat(entity.len() / 2);
        let points = history(&reader, entity.as_bytes(), view as u16, &Default::default()).expect("whole");
        assert_eq!(points.len(), lines.len());
        lines.sort_by_key(|line| {
            std::cmp::Reverse((line["event_time_ms"].as_i64(), line["kind"].as_str() == Some("tombstone")))
        });
        for (line, point) in lines.iter().zip(&points) {
            assert_eq!(of_record(line), of_point(point, line["coding"] == "raw"));
        }
    }
}

#[test]
fn format_md_matches_the_bytes_an_independent_decoder_reads() {
    compare(0);
    compare(8);
}
