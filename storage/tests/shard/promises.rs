//! The promises of the engine, each by its number.

use std::fs;

use forebay_storage::{HistoryRange, OpenError, Outcome, ReadError, ShardReader};

use crate::model::Model;
use crate::store::{
    Point, VIEWS, applied, assert_agrees, copy, files_below, history, latest, open_at, options, point,
    segments, try_open, write,
};

/// A few hundred data points with everything in them that has a place of its own in the files.
fn stream(count: i64) -> Vec<Point> {
    let one = |n: i64| {
        let late = if n % 5 == 0 { 37 } else { 0 };
        let entity = format!("entity {}", n % 7);
        let value = Point {
            view: VIEWS[(n % 2) as usize],
            topic: (n % 3) as u16,
            ingest_time_ms: n * 10,
            payload: format!("{{\"n\":{n},\"noise\":{}}}", n * 7919 % 1_000_003)
                .repeat(1 + n as usize % 9)
                .into_bytes(),
            ..point(entity.as_bytes(), n * 10 - late, n)
        };
        if n % 11 == 10 { value.tombstone() } else { value }
    };
    (0..count).map(one).collect()
}

/// A power loss may leave the log cut off anywhere. What opens again is exactly the commits before the cut.
#[test]
fn p02_random_truncation_recovers_an_exact_prefix() {
    let root = crate::store::temporary();
    let (mut writer, reader) = open_at(&root.path().join("whole"));
    let mut models = vec![Model::default()];
    for batch in stream(400).chunks(9) {
        let mut model = models.last().expect("one").clone();
        let outcomes = write(&mut writer, batch);
        let expected: Vec<Outcome> = batch.iter().map(|point| model.put(point.clone())).collect();
        assert_eq!(outcomes, expected);
        models.push(model);
    }
    assert_agrees(&reader, models.last().expect("one"));
    // The files are copied once no other thread is making one.
    drop(writer);
    let mut random = 7_u64;
    let mut seen = std::collections::BTreeSet::new();
    for case in 0..150 {
        let dir = root.path().join(format!("cut {case}"));
        copy(&root.path().join("whole"), &dir);
        let newest = segments(&dir).pop().expect("a segment");
        let length = fs::metadata(&newest).expect("a file").len();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = 128 + (random >> 33) % (length - 128);
        let file = fs::OpenOptions::new().write(true).open(&newest).expect("a file");
        file.set_len(at).expect("a truncation");
        let (mut writer, reader) = open_at(&dir);
        let position = |topic| applied(&reader, topic);
        let same =
            |model: &Model| (0..3).all(|topic| model.positions.get(&topic).copied() == position(topic));
        let commits = models.iter().position(same).expect("a prefix");
        assert_agrees(&reader, &models[commits]);
        // And it goes on from there.
        seen.insert(commits);
        write(&mut writer, &[point(b"afterwards", 5000, 5000)]);
        writer.close().expect("a close");
        assert!(latest(&open_at(&dir).1, b"afterwards", 1).expect("whole").is_some());
        fs::remove_dir_all(&dir).expect("a removal");
    }
    assert!(seen.len() > 3, "cuts at many places: {seen:?}");
}

fn read_all(reader: &ShardReader, model: &Model) -> Result<(), ReadError> {
    for ((entity, view), versions) in &model.versions {
        let expected = model.history(entity, *view, &HistoryRange::default());
        let got = history(reader, entity, *view, &HistoryRange::default())?;
        assert_eq!(got.len(), versions.len());
        assert!(got.iter().zip(expected).all(|(got, expected)| *got == expected.point));
        assert_eq!(latest(reader, entity, *view)?.as_ref(), got.first());
    }
    Ok(())
}

/// Whichever byte rots, the shard is refused, or a read is: nothing else than what was put is ever given.
#[test]
fn p03_every_flipped_byte_gives_right_bytes_or_data_loss() {
    let root = crate::store::temporary();
    let dir = root.path().join("shard");
    let (mut writer, _) = open_at(&dir);
    let mut model = Model::default();
    // Two segments: one that is sealed, one that is not.
    let large = Point { payload: vec![b'z'; 62_000], ..point(b"large", 1, 0) };
    for batch in [vec![large], stream(30)[1..].to_vec()] {
        write(&mut writer, &batch);
        batch.into_iter().for_each(|point| {
            model.put(point);
        });
    }
    writer.close().expect("a close");
    assert_eq!(segments(&dir).len(), 2);
    let (mut refused, mut lost, mut harmless) = (0, 0, 0);
    for name in files_below(&dir) {
        let whole = fs::read(dir.join(&name)).expect("a file");
        for at in (0..whole.len()).filter(|at| interesting(&whole, *at)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(dir.join(&name), bytes).expect("a file");
            // With its own copy of the other files, so that nothing a run changes is seen by the next.
            let copied = root.path().join("copy");
            copy(&dir, &copied);
            match try_open(&copied) {
                Err(OpenError::Corrupt { .. } | OpenError::NewerFormat { .. }) => refused += 1,
                Err(error) => panic!("{name} byte {at}: {error}"),
                Ok((_writer, reader)) if name.starts_with("index") => {
                    // No loss: it is noticed, and the segments say the same.
                    read_all(&reader, &model).expect("whole");
                    assert_eq!(reader.open_report().ignored.len(), 1, "{name} byte {at}");
                }
                Ok((_writer, reader)) => match read_all(&reader, &model) {
                    Ok(()) => harmless += 1,
                    Err(_) => lost += 1,
                },
            }
            fs::remove_dir_all(&copied).expect("a removal");
        }
        fs::write(dir.join(&name), whole).expect("a file");
    }
    assert!(refused > 1000 && lost > 100, "{refused} refused, {lost} lost, {harmless} harmless");
}

/// All written bytes, except most of the long payload and of the free space.
fn interesting(bytes: &[u8], at: usize) -> bool {
    let (from, to) = (at.saturating_sub(64), (at + 64).min(bytes.len()));
    let plain = bytes[from..to].iter().all(|byte| *byte == bytes[at]);
    !plain || at.is_multiple_of(4099)
}

/// A stream read again from any place changes nothing.
#[test]
fn p08_replay_of_any_suffix_changes_nothing() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    let stream = stream(300);
    for batch in stream.chunks(13) {
        write(&mut writer, batch);
    }
    let (digest, stats) = (reader.digest(), reader.stats());
    for from in (0..stream.len()).step_by(17) {
        let outcomes = write(&mut writer, &stream[from..]);
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Replayed));
        assert_eq!((reader.digest(), reader.stats()), (digest, stats));
    }
    drop(writer);
    let (mut writer, reader) = open_at(dir.path());
    assert_eq!(reader.digest(), digest);
    write(&mut writer, &stream);
    assert_eq!(reader.digest(), digest);
}

/// Other batches, other segments, other restarts: the same state.
#[test]
fn p09_shards_that_took_the_same_records_have_the_same_digest() {
    let root = crate::store::temporary();
    let stream = stream(300);
    let digest = |name: &str, batch: usize, reopen: bool| {
        let dir = root.path().join(name);
        let mut store = open_at(&dir);
        for points in stream.chunks(batch) {
            write(&mut store.0, points);
            if reopen {
                drop(store);
                store = open_at(&dir);
            }
        }
        store.1.digest()
    };
    let one = digest("one", 1, false);
    assert_eq!(one, digest("two", 50, true));
    assert_eq!(one, digest("three", 300, false));
    assert_eq!(options().segment_bytes, 65_536);
}
