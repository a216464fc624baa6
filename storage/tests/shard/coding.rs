//! Payloads stored by what was learned of their view: they come back, fields are found, and a generation file that is
//! missing, damaged, swapped or given out twice never leads to other bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forebay_storage::{FieldPlan, OpenError, Options, Outcome, ReadError, ShardReader, ShardWriter, inspect};
use serde_json::Value;

use crate::store::{
    Point, copy, files, history, identity, latest, no_sync, options, owned, point, temporary, write,
};

const SAMPLES: u32 = 8;

/// Opens a shard that learns early.
fn coded(dir: &Path) -> (ShardWriter, ShardReader) {
    try_coded(dir).unwrap_or_else(|error| panic!("{error}"))
}

fn try_coded(dir: &Path) -> Result<(ShardWriter, ShardReader), OpenError> {
    crate::store::open_patiently(
        dir,
        &identity(),
        &Options { codec_samples: SAMPLES, ..options() },
        &no_sync(),
    )
}

/// Commits until nothing is being learned.
fn learn(writer: &mut ShardWriter) {
    let until = Instant::now() + Duration::from_secs(60);
    writer.commit().expect("a commit");
    while writer.is_learning() {
        assert!(Instant::now() < until, "waited for a training");
        std::thread::yield_now();
        writer.commit().expect("a commit");
    }
}

/// A data point whose payload has a shape; `from` and `n` make it differ from others.
fn telemetry(from: i64, n: i64) -> Point {
    let (snr, on) = (n * 37 % 400, n % 3 == 0);
    let payload = format!(
        r#"{{"header":{{"id":"{:08x}","event_time":{{"long":{}}}}},"snr_db":{}.{},"online":{on},"note":"n{n} of {from}"}}"#,
        n * 7919,
        from + n,
        snr / 10,
        snr % 10,
    );
    Point {
        payload: payload.into_bytes(),
        ..point(format!("modem-{}", n % 5).as_bytes(), from + n, from + n)
    }
}

fn stream(from: i64, count: i64) -> Vec<Point> {
    (0..count).map(|n| telemetry(from, n)).collect()
}

/// A shard that has learned and stored payloads by it; what is in it, and its generation files.
fn learned(dir: &Path) -> (ShardWriter, ShardReader, Vec<Point>) {
    let (mut writer, reader) = coded(dir);
    let mut points = stream(0, SAMPLES.into());
    write(&mut writer, &points);
    learn(&mut writer);
    let more = stream(1000, 30);
    write(&mut writer, &more);
    points.extend(more);
    (writer, reader, points)
}

fn generations(dir: &Path) -> Vec<PathBuf> {
    let folder = dir.join("codec");
    if folder.is_dir() {
        files(&folder).into_iter().map(|name| folder.join(name)).collect()
    } else {
        Vec::new()
    }
}

/// Codec number and coding of each record, in the order they were written.
fn codings(dir: &Path) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    let _ = inspect::dump(dir, true, &mut out);
    let lines = String::from_utf8(out).expect("text");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let coding = |line: Value| {
        (line["codec"].as_u64().expect("a number"), line["coding"].as_str().expect("a word").to_owned())
    };
    lines.filter(|line| line["what"] == "record").map(coding).collect()
}

/// Reads every point in every way.
fn read_all(reader: &ShardReader, points: &[Point]) -> Result<(), ReadError> {
    for entity in 0..5 {
        let entity = format!("modem-{entity}").into_bytes();
        let mut own: Vec<_> = points.iter().filter(|point| point.entity == entity).cloned().collect();
        own.reverse();
        if own.is_empty() {
            continue;
        }
        assert_eq!(history(reader, &entity, 1, &Default::default())?, own);
        let pinned = reader.pin();
        let version = pinned.latest(&entity, 1)?.expect("a version");
        let mut payload = b"before".to_vec();
        version.payload_into(&mut payload)?;
        assert_eq!(payload, [b"before", own[0].payload.as_slice()].concat());
        assert_eq!(owned(&entity, 1, &version)?, own[0]);
    }
    Ok(())
}

#[test]
fn payloads_are_stored_by_shape_once_their_view_is_learned_and_come_back() {
    let dir = temporary();
    let (mut writer, reader, mut points) = learned(dir.path());
    read_all(&reader, &points).expect("whole");
    let stored = codings(dir.path());
    assert!(stored[..8].iter().all(|coding| *coding == (0, "raw".to_owned())), "{stored:?}");
    assert!(stored[8..].iter().all(|coding| *coding == (1, "shape".to_owned())), "{stored:?}");
    // The second generation knows more payloads.
    for round in 2..20 {
        let more = stream(round * 1000, 30);
        write(&mut writer, &more);
        learn(&mut writer);
        points.extend(more);
    }
    read_all(&reader, &points).expect("whole");
    assert_eq!(generations(dir.path()).len(), 2);
    writer.close().expect("a close");
    // The first payload after an opening is stored by what is known.
    let (mut writer, reader) = coded(dir.path());
    points.extend(stream(50_000, 1));
    write(&mut writer, &points[points.len() - 1..]);
    read_all(&reader, &points).expect("whole");
    assert_eq!(codings(dir.path()).last().expect("a record"), &(2, "shape".to_owned()));
}

#[test]
fn payloads_of_any_kind_come_back_whatever_was_learned() {
    let dir = temporary();
    let (mut writer, reader) = coded(dir.path());
    let noise = |n: u64| (0..300).map(|i| (n * 7919 + i * i * 31 % 251) as u8).collect::<Vec<u8>>();
    for n in 0..1200 {
        let payload = match n % 6 {
            0 => telemetry(0, n).payload,
            1 => format!("free text of customer {n}, again and again and again {n}").into_bytes(),
            2 => noise(n as u64),
            3 => br#"{"broken":"#.to_vec(),
            4 => Vec::new(),
            _ => format!(r#"[{n},{{"a":{n}}}]"#).into_bytes(),
        };
        let one = Point { payload, ..point(b"any", n, n) };
        write(&mut writer, std::slice::from_ref(&one));
        learn(&mut writer);
        assert_eq!(latest(&reader, b"any", 1).expect("whole"), Some(one));
    }
    assert!(codings(dir.path()).iter().any(|(_, coding)| coding == "zstd"));
}

#[test]
fn what_encoding_found_out_is_true_and_put_takes_nothing_for_what_it_is_not() {
    let dir = temporary();
    let (mut writer, reader, _) = learned(dir.path());
    let paths =
        ["header/event_time", "snr_db", "missing"].map(|path| path.split('/').map(str::to_owned).collect());
    writer.bind(1, &FieldPlan::new(paths.to_vec(), true), 0..paths.len());
    let one = telemetry(5000, 1);
    let fit = writer.encode(1, &one.payload);
    assert!(fit.is_valid());
    assert_eq!(
        [0, 1, 2].map(|path| fit.field(path)),
        [Some(&b"{\"long\":5001}"[..]), Some(&b"3.7"[..]), None]
    );
    // Another payload of the same length is put; then one that was encoded for another view.
    let other = Point { payload: telemetry(5000, 2).payload, ..one.clone() };
    assert_eq!(other.payload.len(), one.payload.len());
    write(&mut writer, std::slice::from_ref(&other));
    assert_eq!(latest(&reader, &other.entity, 1).expect("whole"), Some(other));
    let next = Point { view: 700, offset: 6000, ..one };
    assert!(writer.encode(1, &next.payload).is_valid());
    write(&mut writer, std::slice::from_ref(&next));
    assert_eq!(latest(&reader, &next.entity, 700).expect("whole"), Some(next));
    for broken in [&b"{\"header\":1"[..], b"", b"17"] {
        let fit = writer.encode(1, broken);
        assert!(!fit.is_valid() && fit.field(0).is_none());
    }
}

#[test]
fn fields_are_read_without_the_payload_and_payloads_without_shape_say_so() {
    let dir = temporary();
    let (_writer, reader, points) = learned(dir.path());
    let paths = ["snr_db", "online", "header/event_time", "missing"];
    let plan =
        FieldPlan::new(paths.iter().map(|path| path.split('/').map(str::to_owned).collect()).collect(), true);
    let pinned = reader.pin();
    let newest = points.last().expect("a point");
    let version = pinned.latest(&newest.entity, 1).expect("whole").expect("a version");
    let fields = version.fields(&plan).expect("whole").expect("a shape");
    let mut out = Vec::new();
    let mut field = |path| fields.get(path, &mut out).map(|text| String::from_utf8_lossy(text).into_owned());
    let payload: Value = serde_json::from_slice(&newest.payload).expect("JSON");
    assert_eq!(field(0), Some(payload["snr_db"].to_string()));
    assert_eq!(field(1), Some(payload["online"].to_string()));
    assert_eq!(field(2), Some(payload["header"]["event_time"].to_string()));
    assert_eq!(field(3), None);
    let oldest = points[0].event_time_ms;
    let version = pinned.as_of(&points[0].entity, 1, oldest, None).expect("whole").expect("a version");
    assert!(version.fields(&plan).expect("whole").is_none());
}

#[test]
fn a_payload_that_comes_again_is_a_duplicate_whatever_it_is_stored_by() {
    let dir = temporary();
    let (mut writer, _, _) = learned(dir.path());
    let again = |payload: &[u8], offset| Point { payload: payload.to_vec(), offset, ..point(b"twice", 7, 0) };
    let shaped = telemetry(0, 3).payload;
    let text = "a long text that has no shape at all ".repeat(9).into_bytes();
    let mut offset = 10_000;
    let mut put = |writer: &mut ShardWriter, payload: &[u8]| {
        offset += 1;
        write(writer, &[again(payload, offset)])[0]
    };
    assert_eq!(put(&mut writer, &shaped), Outcome::Current);
    assert_eq!(put(&mut writer, &shaped), Outcome::Duplicate);
    assert_eq!(put(&mut writer, &text), Outcome::Current);
    assert_eq!(put(&mut writer, &text), Outcome::Duplicate);
    assert_eq!(put(&mut writer, &shaped), Outcome::Current);
    for round in 20..40 {
        write(&mut writer, &stream(round * 1000, 30));
        learn(&mut writer);
    }
    assert_eq!(generations(dir.path()).len(), 2);
    let mut put = |payload: &[u8], offset| write(&mut writer, &[again(payload, offset)])[0];
    assert_eq!(put(&shaped, 100_001), Outcome::Duplicate);
    assert_eq!(put(&text, 100_002), Outcome::Current);
}

#[test]
fn bad_58_a_missing_generation_costs_the_records_that_need_it_and_nothing_else() {
    let dir = temporary();
    let (writer, _, mut points) = learned(dir.path());
    writer.close().expect("a close");
    let file = generations(dir.path())[0].clone();
    let kept = fs::read(&file).expect("a file");
    for damaged in [None, Some(&kept[..kept.len() - 9]), Some(&b""[..])] {
        match damaged {
            None => fs::remove_file(&file).expect("a removal"),
            Some(bytes) => fs::write(&file, bytes).expect("a file"),
        }
        let (mut writer, reader) = coded(dir.path());
        let pinned = reader.pin();
        let as_of = |ms| pinned.as_of(b"modem-1", 1, ms, None).expect("whole").expect("a version");
        let error = as_of(1026).payload().expect_err("what it was stored by is gone");
        assert!(
            error.to_string().contains(&*file.to_string_lossy()) && error.to_string().contains("codec"),
            "{error}"
        );
        as_of(6).payload().expect("from before its view was learned");
        // The writer goes on, over data points it cannot compare with, and learns again under another number.
        let from = points.last().expect("a point").offset + 1;
        let more = stream(from, 30);
        write(&mut writer, &more[..15]);
        learn(&mut writer);
        write(&mut writer, &more[15..]);
        assert_eq!(latest(&reader, &more[29].entity, 1).expect("whole").as_ref(), Some(&more[29]));
        let codec = codings(dir.path()).last().expect("a record").0;
        assert!(codec > 1, "number {codec} is given once");
        writer.close().expect("a close");
        points.extend(more);
    }
    fs::write(&file, kept).expect("a file");
    read_all(&coded(dir.path()).1, &points).expect("all is back");
}

#[test]
fn bad_58_numbers_are_not_given_again_when_all_files_are_gone() {
    let dir = temporary();
    let (writer, _, _) = learned(dir.path());
    drop(writer);
    let old = generations(dir.path());
    fs::remove_dir_all(dir.path().join("codec")).expect("a removal");
    let (mut writer, reader) = coded(dir.path());
    write(&mut writer, &stream(5000, SAMPLES.into()));
    learn(&mut writer);
    let new = generations(dir.path());
    assert!(new.len() == 1 && !old.contains(&new[0]), "{new:?}");
    let pinned = reader.pin();
    let old = pinned.as_of(b"modem-1", 1, 1020, None).expect("whole").expect("a version");
    old.payload().expect_err("nothing else is given for it");
}

#[test]
fn bad_58_a_generation_of_another_shard_is_not_taken_for_its_own() {
    let (dir, other) = (temporary(), temporary());
    learned(dir.path()).0.close().expect("a close");
    learned(other.path()).0.close().expect("a close");
    fs::copy(&generations(other.path())[0], &generations(dir.path())[0]).expect("a copy");
    latest(&coded(dir.path()).1, b"modem-1", 1).expect_err("it was another shard's");
    let (mut out, path) = (Vec::new(), generations(other.path())[0].clone());
    inspect::dump(&path, true, &mut out).expect("whole");
    let text = String::from_utf8(out).expect("text");
    assert!(text.contains(r#""what":"codec""#) && text.contains("snr_db"), "{text}");
}

#[test]
fn p03_every_flipped_byte_of_a_generation_gives_right_bytes_or_data_loss() {
    let root = temporary();
    let dir = root.path().join("shard");
    let (writer, _, points) = learned(&dir);
    writer.close().expect("a close");
    let file = generations(&dir)[0].clone();
    let whole = fs::read(&file).expect("a file");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&file, bytes).expect("a file");
        let (_writer, reader) = coded(&dir);
        assert!(read_all(&reader, &points).is_err(), "byte {at} has no checksum over it");
    }
}

#[test]
fn a_writer_that_leaves_while_its_view_is_learned_leaves_nothing_half_done() {
    let dir = temporary();
    let mut points = Vec::new();
    for round in 0..12 {
        let (mut writer, reader) = coded(dir.path());
        read_all(&reader, &points).unwrap_or_else(|error| panic!("{error}"));
        let more = stream(round * 1000, 40);
        write(&mut writer, &more);
        points.extend(more);
        drop(writer);
        let copied = temporary();
        copy(dir.path(), copied.path());
        read_all(&coded(copied.path()).1, &points).expect("whole");
    }
}
