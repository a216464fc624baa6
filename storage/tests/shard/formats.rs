//! Directories that other versions of this engine wrote are read and gone on with. `fixtures/README.md` says how they
//! were made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use forebay_storage::{Kind, ShardReader};
use serde_json::Value;

use crate::store::{Point, VIEWS, applied, copy, history, open_at, point, temporary, write};

/// What a fixture holds.
struct Expected {
    positions: Vec<i64>,
    /// Newest first.
    versions: BTreeMap<(Vec<u8>, u16), Vec<Point>>,
}

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

impl Expected {
    fn read(file: &Path) -> Expected {
        let mut expected = Expected { positions: Vec::new(), versions: BTreeMap::new() };
        for line in fs::read_to_string(file).expect("a file").lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            match line.get("position") {
                Some(position) => expected.positions.push(position.as_i64().expect("a number")),
                None => expected.add_last(version(&line)),
            }
        }
        expected
    }

    fn key(&mut self, point: &Point) -> &mut Vec<Point> {
        self.versions.entry((point.entity.clone(), point.view)).or_default()
    }

    fn add_last(&mut self, point: Point) {
        self.key(&point).push(point);
    }

    fn put(&mut self, point: Point) {
        self.positions[usize::from(point.topic)] = point.offset;
        self.key(&point).insert(0, point);
    }

    fn assert_is(&self, reader: &ShardReader) {
        for (topic, position) in self.positions.iter().enumerate() {
            assert_eq!(applied(reader, topic as u16), Some(*position), "position of {topic}");
        }
        assert_eq!(reader.stats().keys, self.versions.len() as u64);
        for ((entity, view), versions) in &self.versions {
            let got = history(reader, entity, *view, &Default::default()).expect("whole");
            assert_eq!(&got, versions, "{} of view {view}", String::from_utf8_lossy(entity));
        }
    }
}

fn version(line: &Value) -> Point {
    let number = |name: &str| line[name].as_i64().unwrap_or_else(|| panic!("{name} in {line}"));
    let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("{name} in {line}")).to_owned();
    let digits = text("entity");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
    Point {
        view: number("view") as u16,
        entity: (0..digits.len()).step_by(2).map(byte).collect(),
        kind: if text("kind") == "value" { Kind::Value } else { Kind::Tombstone },
        event_time_ms: number("event_time_ms"),
        ingest_time_ms: number("ingest_time_ms"),
        expiry_ms: number("expiry_ms"),
        topic: number("topic") as u16,
        offset: number("offset"),
        payload: text("payload").into_bytes(),
    }
}

/// Opens a copy of a fixture again and again, and goes on writing.
fn is_read_and_goes_on(format: u32) {
    let dir = temporary();
    let shard = dir.path().join("shard");
    copy(&fixture(format).join("shard"), &shard);
    let mut expected = Expected::read(&fixture(format).join("expected.jsonl"));
    for round in 0..3 {
        let (mut writer, reader) = open_at(&shard);
        expected.assert_is(&reader);
        let from = expected.positions[0] + 1;
        for n in from..from + 300 {
            let entity = format!("modem-{}", n % 40);
            let next =
                Point { view: VIEWS[n as usize % 2], ..point(entity.as_bytes(), 1_800_000_000_000 + n, n) };
            write(&mut writer, std::slice::from_ref(&next));
            expected.put(next);
        }
        expected.assert_is(&reader);
        match round {
            1 => drop(writer),
            _ => writer.close().expect("a close"),
        }
    }
    expected.assert_is(&open_at(&shard).1);
    let manifest = fs::read_to_string(shard.join("MANIFEST")).expect("text");
    assert!(manifest.starts_with("forebay-shard 2 "), "{manifest}");
}

#[test]
fn p21_format_1_is_read_and_goes_on() {
    is_read_and_goes_on(1);
}

#[test]
fn p21_format_2_is_read() {
    let shard = fixture(2).join("shard");
    assert!(shard.join("codec/000001").is_file() && shard.join("index/000001").is_file());
    is_read_and_goes_on(2);
}
