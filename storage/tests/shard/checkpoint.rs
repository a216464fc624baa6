//! Copies of a shard that were made while it was written to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_storage::{
    CheckpointError, Options, ShardReader, ShardWriter, SyncGroup, SyncPolicy, WriteError,
};

use crate::store::{
    Point, VIEWS, applied, durable, identity, latest, open_at, options, point, segments, temporary, try_open,
    write,
};

/// All views, late ones and tombstones, about 300 bytes each.
fn stream(from: i64, to: i64) -> Vec<Point> {
    let one = |n: i64| {
        let late = if n % 7 == 0 { 500 } else { 0 };
        let value = Point {
            view: VIEWS[n as usize % VIEWS.len()],
            ingest_time_ms: n * 10,
            payload: format!("{{\"n\":{n},\"noise\":{}}}", n * 7919 % 1_000_003).repeat(8).into_bytes(),
            ..point(format!("entity {}", n * 31 % 97).as_bytes(), n * 10 - late, n)
        };
        if n % 23 == 22 { value.tombstone() } else { value }
    };
    (from..to).map(one).collect()
}

/// A shard that syncs by itself, often.
fn syncing(dir: &Path) -> (ShardWriter, ShardReader) {
    let group =
        SyncGroup::spawn("test sync", SyncPolicy { interval_ms: 1, bytes: 32 << 10 }).expect("a thread");
    crate::store::open_patiently(dir, &identity(), &options(), &group).expect("a shard")
}

fn digest_of_first(dir: &Path, count: i64) -> u128 {
    let (mut writer, reader) = open_at(dir);
    stream(0, count).chunks(50).for_each(|batch| drop(write(&mut writer, batch)));
    reader.digest()
}

#[test]
fn p20_a_checkpoint_equals_replay_from_zero() {
    let root = temporary();
    let (mut writer, reader) = syncing(&root.path().join("shard"));
    let (stop, total) = (AtomicBool::new(false), 40_000);
    let copies: Vec<_> = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for first in (0..total).step_by(40) {
                if !stop.load(Ordering::Acquire) {
                    write(&mut writer, &stream(first, first + 40));
                }
            }
        });
        let mut copies = Vec::new();
        while !writing.is_finished() && copies.len() < 40 {
            let before = durable(&reader, 0);
            let next = copies.len() as i64 * 500;
            if !writing.is_finished() && before.is_none_or(|last| last < next) {
                std::thread::yield_now();
                continue;
            }
            let to = root.path().join(format!("copy {}", copies.len()));
            let report = reader.checkpoint(&to).expect("a copy");
            assert!(report.positions[0].map(|last| last.0) >= before);
            copies.push((to, report));
        }
        stop.store(true, Ordering::Release);
        copies
    });
    assert!(copies.iter().any(|(_, report)| report.linked > 2), "{copies:?}");
    for (at, (to, report)) in copies.iter().enumerate().step_by(4) {
        let count = report.positions[0].map_or(0, |last| last.0 + 1);
        let (mut copy, copied) = try_open(to).expect("a shard of its own");
        assert_eq!(applied(&copied, 0).map_or(0, |last| last + 1), count);
        let replayed = digest_of_first(&root.path().join(format!("replayed {at}")), count);
        assert_eq!(copied.digest(), replayed, "the first {count}");
        // It goes on as the original does.
        write(&mut copy, &stream(count, count + 400));
        let further = digest_of_first(&root.path().join(format!("further {at}")), count + 400);
        assert_eq!(copied.digest(), further);
    }
    // The original knows nothing of all this.
    let count = applied(&reader, 0).expect("some") + 1;
    let digest = reader.digest();
    writer.close().expect("a close");
    drop(reader);
    let reader = open_at(&root.path().join("shard")).1;
    assert_eq!((applied(&reader, 0), reader.digest()), (Some(count - 1), digest));
    assert_eq!(digest, digest_of_first(&root.path().join("all"), count));
}

#[test]
fn a_checkpoint_of_a_shard_that_expires_segments_meanwhile_is_whole() {
    let root = temporary();
    let (mut writer, reader) = syncing(&root.path().join("shard"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (0..30_000).step_by(50) {
                let points = stream(first, first + 50).into_iter();
                let short = points.map(|point| Point { expiry_ms: point.ingest_time_ms + 3000, ..point });
                write(&mut writer, &short.collect::<Vec<_>>());
                writer.expire(first * 10).expect("an expiry");
            }
            done.store(true, Ordering::Release);
        });
        let mut copies = 0;
        while !done.load(Ordering::Acquire) {
            let to = root.path().join(format!("copy {copies}"));
            let report = reader.checkpoint(&to).expect("a copy");
            let (_writer, copied) = try_open(&to).unwrap_or_else(|error| panic!("{error}"));
            let last = report.positions[0].map(|last| last.0);
            assert_eq!(applied(&copied, 0), last);
            if let Some(last) = last.filter(|last| *last >= 50) {
                let newest = stream(last, last + 1).remove(0);
                assert!(latest(&copied, &newest.entity, newest.view).expect("whole").is_some());
            }
            fs::remove_dir_all(&to).expect("a removal");
            copies += 1;
        }
        assert!(copies > 0);
    });
}

#[test]
fn sealed_segments_are_shared_with_the_original_and_the_last_one_is_not() {
    let root = temporary();
    let dir = root.path().join("shard");
    let (mut writer, reader) = open_at(&dir);
    stream(0, 1500).chunks(30).for_each(|batch| drop(write(&mut writer, batch)));
    writer.close().expect("a close");
    let to = root.path().join("copy");
    let report = reader.checkpoint(&to).expect("a copy");
    let inode = |path: &Path| fs::metadata(path).expect("a file").ino();
    let pairs: Vec<_> = segments(&to).into_iter().zip(segments(&dir)).collect();
    let shared = pairs.iter().filter(|(copy, original)| inode(copy) == inode(original)).count();
    assert!(shared > 2 && shared == pairs.len() - 1, "{shared} of {}", pairs.len());
    assert_eq!((report.linked, report.copied), (shared as u64, 1));
    let (last, _) = pairs.last().expect("some");
    assert!(fs::metadata(last).expect("a file").len() == report.copied_bytes);
    assert!(matches!(reader.checkpoint(&to), Err(CheckpointError::NotEmpty { .. })));
    // Nothing of the original is needed once the copy is there.
    fs::remove_dir_all(&dir).expect("a removal");
    assert_eq!(open_at(&to).1.digest(), digest_of_first(&root.path().join("replayed"), 1500));
}

#[test]
fn a_checkpoint_of_a_shard_without_durable_frames_is_an_empty_shard() {
    let root = temporary();
    let (mut writer, reader) = open_at(&root.path().join("shard"));
    write(&mut writer, &stream(0, 10));
    let to = root.path().join("copy");
    assert_eq!(reader.checkpoint(&to).expect("a copy").positions, [None, None, None]);
    let (_writer, copied) = open_at(&to);
    assert_eq!((applied(&copied, 0), copied.stats().keys), (None, 0));
}

/// Somebody restores a copy in the place of a shard whose writer is still there.
#[test]
fn p20_a_stale_writer_is_fenced() {
    let root = temporary();
    let (dir, aside, copy) = (root.path().join("shard"), root.path().join("aside"), root.path().join("copy"));
    let (mut stale, reader) = open_at(&dir);
    write(&mut stale, &stream(0, 100));
    stale.sync_now().expect("a sync");
    reader.checkpoint(&copy).expect("a copy");
    fs::rename(&dir, &aside).expect("aside");
    fs::rename(&copy, &dir).expect("restored");
    let (mut restored, reader) = open_at(&dir);
    // It fills segments until it would have to say so in the MANIFEST of the directory.
    let refused = (0..200).find_map(|n| {
        let points = stream(100 + n * 40, 140 + n * 40);
        let put = points.iter().try_for_each(|point| stale.put(&point.put()).map(drop));
        put.and_then(|()| stale.commit()).err()
    });
    let Some(WriteError::Poisoned(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("another directory is in its place"), "{why}");
    assert!(stale.close().is_err());
    write(&mut restored, &stream(100, 300));
    restored.close().expect("a close");
    drop(reader);
    let reader =
        crate::store::open_patiently(&dir, &identity(), &Options::default(), &crate::store::no_sync())
            .expect("a shard")
            .1;
    assert_eq!(reader.digest(), digest_of_first(&root.path().join("replayed"), 300));
}
