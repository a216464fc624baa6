//! `inspect::dump` on whole and on damaged files.

use std::path::Path;

use forebay_storage::{InspectError, inspect};
use serde_json::Value;

use crate::store::{Point, open_at, point, segments, temporary, write};

fn dumped(path: &Path, json: bool) -> (String, Result<(), InspectError>) {
    let mut out = Vec::new();
    let result = inspect::dump(path, json, &mut out);
    (String::from_utf8(out).expect("text"), result)
}

fn shard(dir: &Path) {
    let (mut writer, _) = open_at(dir);
    for n in 0..150 {
        let value = Point { payload: vec![b'v'; 1000], ..point(b"modem", n, n * 2) };
        write(&mut writer, &[value, Point { view: 700, ..point(&[0xFF, 1], n - 3 * (n % 2), n * 2 + 1) }]);
    }
    writer.close().expect("a close");
}

#[test]
fn a_whole_shard_is_shown_with_every_record() {
    let dir = temporary();
    shard(dir.path());
    let (text, result) = dumped(dir.path(), true);
    result.expect("whole");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |what: &str| lines.iter().filter(|line| line["what"] == what).count();
    assert_eq!((count("manifest"), count("segment"), count("free")), (1, segments(dir.path()).len(), 1));
    assert_eq!(count("footer"), count("segment") - 1);
    let frames: Vec<_> = lines.iter().filter(|line| line["what"] == "frame").collect();
    let records: u64 = frames.iter().map(|frame| frame["records"].as_u64().expect("a number")).sum();
    assert_eq!(records, count("record") as u64);
    let last = lines.iter().rfind(|line| line["what"] == "record").expect("a record");
    assert_eq!((&last["entity"], &last["topic"]), (&Value::from("hex:ff01"), &Value::from("b.main")));
    assert!(lines.iter().any(|line| line["late"] == true && line["prev"] != "-"));
    let (text, result) = dumped(&segments(dir.path())[0], false);
    result.expect("whole");
    assert!(text.starts_with("segment file=") && text.contains("\n    record at="), "{text}");
}

#[test]
fn a_damaged_shard_is_shown_as_far_as_it_is_whole_and_the_damage_is_named() {
    let dir = temporary();
    shard(dir.path());
    let path = segments(dir.path())[1].clone();
    let mut bytes = std::fs::read(&path).expect("a segment");
    bytes[30_000] ^= 1;
    std::fs::write(&path, bytes).expect("a segment");
    let (text, result) = dumped(dir.path(), false);
    assert!(matches!(&result, Err(InspectError::Damaged { file, at, .. }) if *file == path && *at < 30_000));
    // What comes after the damaged segment is shown all the same.
    assert!(text.contains("000003.seg") && text.contains("footer"));
    std::fs::remove_file(dir.path().join("MANIFEST")).expect("a removal");
    let (text, result) = dumped(dir.path(), false);
    assert!(result.is_err() && text.contains("record"));
}

#[test]
fn what_no_shard_has_is_not_shown() {
    let dir = temporary();
    assert!(matches!(dumped(dir.path(), true).1, Err(InspectError::Unknown(_))));
    let stray = dir.path().join("notes.txt");
    std::fs::write(&stray, "x").expect("a file");
    assert!(matches!(dumped(&stray, true).1, Err(InspectError::Unknown(_))));
    let not = dir.path().join("000001.seg");
    std::fs::write(&not, vec![7; 500]).expect("a file");
    assert!(matches!(dumped(&not, true).1, Err(InspectError::Damaged { at: 0, .. })));
    assert!(matches!(dumped(&dir.path().join("000009.seg"), true).1, Err(InspectError::Io { .. })));
}
