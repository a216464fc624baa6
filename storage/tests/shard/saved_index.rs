//! Index checkpoints: what is opened with one is what was there without; damaged ones and those ahead of the log are
//! noticed and ignored.

use std::fs;
use std::path::{Path, PathBuf};

use forebay_storage::{Options, ShardReader, ShardWriter};

use crate::model::Model;
use crate::store::{
    Point, VIEWS, assert_agrees, copy, files, identity, latest, no_sync, open_at, options, point, segments,
    write,
};

fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.join("index");
    files(&dir).into_iter().map(|name| dir.join(name)).collect()
}

/// Values of some entities in all views, some of them late.
fn values(from: i64, to: i64) -> impl Iterator<Item = Point> {
    (from..to).map(|n| {
        let late = if n % 9 == 0 { 90_000 } else { 0 };
        let entity = format!("entity {}", n * 7 % 61);
        Point { view: VIEWS[(n % 3) as usize], ..point(entity.as_bytes(), n * 1000 - late, n) }
    })
}

fn write_all(writer: &mut ShardWriter, model: &mut Model, values: impl Iterator<Item = Point>) {
    let values: Vec<_> = values.collect();
    for values in values.chunks(10) {
        write(writer, values);
        for value in values {
            model.put(value.clone());
        }
    }
}

#[test]
fn an_opening_with_a_checkpoint_reads_no_entries_of_segments_it_covers() {
    let dir = crate::store::temporary();
    let mut model = Model::default();
    let (mut writer, _) = open_at(dir.path());
    write_all(&mut writer, &mut model, values(0, 2000));
    writer.close().expect("a close");
    assert!(segments(dir.path()).len() > 3);
    // Entries of the first segment's footer become something else: they end 128 + 3 * 24 bytes before the file.
    let first = segments(dir.path())[0].clone();
    let mut bytes = fs::read(&first).expect("a segment");
    let entries = bytes.len() - 128 - 3 * 24;
    bytes[entries - 3200..entries].fill(7);
    fs::write(&first, bytes).expect("a segment");
    let (mut writer, reader) = open_at(dir.path());
    let report = reader.open_report();
    assert!(
        report.checkpoint_sequence == 200 && report.replayed == 0 && report.ignored.is_empty(),
        "{report:?}"
    );
    assert_agrees(&reader, &model);
    // What comes after the checkpoint is read on top of it: at most the segment it ends in, and those after.
    write_all(&mut writer, &mut model, values(2000, 2100));
    drop(writer);
    let (_writer, reader) = open_at(dir.path());
    let replayed = reader.open_report().replayed;
    assert!((100..1000).contains(&replayed), "{replayed}");
    assert_agrees(&reader, &model);
}

#[test]
fn two_checkpoints_stay_and_the_older_one_does_if_the_newer_is_damaged() {
    let dir = crate::store::temporary();
    let mut model = Model::default();
    for round in 0..5 {
        let (mut writer, _) = open_at(dir.path());
        write_all(&mut writer, &mut model, values(round * 300, round * 300 + 300));
        writer.close().expect("a close");
    }
    let names = |dir: &Path| files(&dir.join("index"));
    assert_eq!(names(dir.path()), ["000004", "000005"]);
    // Nothing new, no new checkpoint.
    open_at(dir.path()).0.close().expect("a close");
    assert_eq!(names(dir.path()), ["000004", "000005"]);
    fs::write(dir.path().join("index/000005"), "a checkpoint?").expect("a file");
    let (_writer, reader) = open_at(dir.path());
    let report = reader.open_report();
    assert!(report.checkpoint_sequence == 120 && report.ignored.len() == 1, "{report:?}");
    assert!(report.ignored[0].contains("index/000005: shorter than"), "{report:?}");
    assert_agrees(&reader, &model);
    assert_eq!(names(dir.path()), ["000004"]);
}

#[test]
fn bad_57_a_damaged_checkpoint_is_ignored_and_named() {
    let dir = crate::store::temporary();
    let mut model = Model::default();
    let (mut writer, _) = open_at(dir.path());
    write_all(&mut writer, &mut model, values(0, 500));
    writer.close().expect("a close");
    let path = checkpoints(dir.path())[0].clone();
    let whole = fs::read(&path).expect("a checkpoint");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let damaged = [
        vec![],
        whole[..whole.len() - 1].to_vec(),
        vec![0; whole.len()],
        flipped,
        [&whole[..], b"x"].concat(),
    ];
    for bytes in damaged {
        fs::write(&path, bytes).expect("a file");
        let (writer, reader) = open_at(dir.path());
        let report = reader.open_report();
        assert!(report.checkpoint_sequence == 0 && report.replayed == 500, "{report:?}");
        assert!(report.ignored.len() == 1 && report.ignored[0].contains("index/000001: "), "{report:?}");
        assert_agrees(&reader, &model);
        drop(writer);
        assert!(!path.exists(), "it is in nobody's way again");
    }
    // A whole one of another shard is another shard's.
    let other = crate::store::temporary();
    let (mut writer, _) = open_at(other.path());
    write(&mut writer, &[point(b"another's", 1, 1)]);
    writer.close().expect("a close");
    fs::copy(&checkpoints(other.path())[0], &path).expect("a copy");
    let (_writer, reader) = open_at(dir.path());
    assert!(reader.open_report().ignored[0].contains("another shard"));
    assert_agrees(&reader, &model);
}

#[test]
fn bad_57_a_checkpoint_ahead_of_the_log_is_ignored_for_good() {
    let root = crate::store::temporary();
    let (dir, old) = (root.path().join("shard"), root.path().join("old"));
    let (mut writer, _) = open_at(&dir);
    let mut model = Model::default();
    write_all(&mut writer, &mut model, values(0, 300));
    writer.close().expect("a close");
    copy(&dir, &old);
    let (mut writer, _) = open_at(&dir);
    write_all(&mut writer, &mut Model::default(), values(300, 600));
    writer.close().expect("a close");
    // The files of before, with the checkpoint of after.
    fs::remove_dir_all(old.join("index")).expect("a removal");
    copy(&dir.join("index"), &old.join("index"));
    fs::remove_file(old.join("index/000001")).expect("a removal");
    let (mut writer, reader) = open_at(&old);
    let report = reader.open_report();
    assert!(report.checkpoint_sequence == 0, "{report:?}");
    assert!(
        report.ignored[0].ends_with("index/000002: it has frames up to 60, the log up to 30"),
        "{report:?}"
    );
    assert_agrees(&reader, &model);
    // Once the log is as long with other frames, the checkpoint must not be taken for one of it.
    write_all(&mut writer, &mut model, values(700, 1000));
    drop(writer);
    assert_agrees(&open_at(&old).1, &model);
}

#[test]
fn a_checkpoint_is_shown_and_damage_of_it_named() {
    let dir = crate::store::temporary();
    let (mut writer, _) = open_at(dir.path());
    write_all(&mut writer, &mut Model::default(), values(0, 100));
    writer.close().expect("a close");
    let path = &checkpoints(dir.path())[0];
    let shown = |path: &Path| {
        let mut out = Vec::new();
        let result = forebay_storage::inspect::dump(path, true, &mut out);
        result.map(|()| String::from_utf8(out).expect("text")).map_err(|error| error.to_string())
    };
    for path in [path, dir.path()] {
        let text = shown(path).expect("whole");
        assert!(
            text.contains(r#""what":"index","number":1"#) && text.contains(r#""sequence":10,"ends_at":10"#)
        );
    }
    let mut bytes = fs::read(path).expect("a checkpoint");
    bytes[300] ^= 1;
    fs::write(path, bytes).expect("a checkpoint");
    assert!(shown(path).expect_err("damage").contains("a checksum does not fit"));
}

fn open_saving(dir: &Path) -> (ShardWriter, ShardReader) {
    let options = Options { checkpoint_bytes: 20_000, ..options() };
    crate::store::open_patiently(dir, &identity(), &options, &no_sync())
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_index_saved_while_it_grows_and_changes_is_right_after_any_end() {
    let dir = crate::store::temporary();
    let (mut model, mut saved) = (Model::default(), 0);
    for round in 0..8 {
        let (mut writer, reader) = open_saving(dir.path());
        assert_agrees(&reader, &model);
        saved += u32::from(reader.open_report().checkpoint_sequence > 0);
        for n in round * 1500..round * 1500 + 1500 {
            let entity = format!("{}", n * 31 % (200 + n));
            let value = Point { view: VIEWS[(n % 3) as usize], ..point(entity.as_bytes(), n * 20_000, n) };
            write(&mut writer, std::slice::from_ref(&value));
            model.put(value);
        }
        if round % 2 == 0 {
            writer.close().expect("a close");
        }
    }
    assert!(saved >= 4, "{saved} openings had a checkpoint");
    assert!(latest(&open_saving(dir.path()).1, b"0", VIEWS[0]).expect("whole").is_some());
}
