//! What is held in memory and what is not, and what becomes of a process whose files go away while they are mapped.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forebay_storage::{
    HistoryRange, Options, ReadError, ShardReader, ShardWriter, SyncGroup, SyncPolicy, WriteError,
};

use crate::store::{
    Point, history, identity, latest, no_sync, open_at, options, owned, point, segments, temporary, write,
};

/// A shard of many small segments, whose window is the newest `resident_bytes`.
fn windowed(dir: &Path, resident_bytes: u64) -> (ShardWriter, ShardReader) {
    crate::store::open_patiently(dir, &identity(), &Options { resident_bytes, ..options() }, &no_sync())
        .expect("a shard")
}

fn entity(n: i64) -> Vec<u8> {
    format!("entity {n}").into_bytes()
}

/// One of many keys, about 1 KB.
fn kilobyte(n: i64) -> Point {
    let payload = format!("{n:08}").repeat(120).into_bytes();
    Point { payload, ..point(&entity(n), n, n) }
}

#[test]
fn old_records_are_cold_to_a_read_that_may_not_wait_and_there_for_one_that_may() {
    let dir = temporary();
    let (mut writer, reader) = windowed(dir.path(), 128 << 10);
    let points: Vec<_> = (0..600).map(kilobyte).collect();
    points.chunks(20).for_each(|batch| drop(write(&mut writer, batch)));
    writer.sync_now().expect("a sync");
    let hot_bytes = reader.stats().hot_bytes;
    assert!((1 << 10..=128 << 10).contains(&hot_bytes), "{hot_bytes} bytes are hot");
    assert!(matches!(reader.pin().latest(&entity(0), 1), Err(ReadError::Cold)));
    assert!(reader.pin().latest(&entity(599), 1).is_ok_and(|version| version.is_some()));
    let mut cold = 0;
    for point in &points {
        let (pin, waiting) = (reader.pin(), reader.pin_blocking());
        let found = waiting.latest(&point.entity, 1).expect("whole").expect("there");
        assert_eq!(owned(&point.entity, 1, &found).expect("whole"), *point);
        match pin.latest(&point.entity, 1) {
            Err(ReadError::Cold) => cold += 1,
            found => assert_eq!(found.expect("whole").expect("there").offset(), point.offset),
        }
    }
    assert!(cold > 400, "{cold} of 600 are cold");
    assert_eq!(reader.stats().cold_reads, cold);
    // The newest version is hot, those before it are not.
    write(&mut writer, &[point(&entity(0), 1000, 1000)]);
    assert_eq!(latest(&reader, &entity(0), 1).expect("hot").expect("there").offset, 1000);
    let pin = reader.pin();
    let seen: Vec<_> = pin.history(&entity(0), 1, &HistoryRange::default()).collect();
    assert!(matches!(seen[..], [Ok(_), Err(ReadError::Cold)]), "{seen:?}");
    assert_eq!(reader.pin_blocking().history(&entity(0), 1, &HistoryRange::default()).count(), 2);
    // With more memory all of it is hot.
    reader.set_resident_bytes(u64::MAX);
    assert_eq!(history(&reader, &entity(0), 1, &HistoryRange::default()).expect("hot").len(), 2);
}

#[test]
fn preloading_goes_over_the_newest_bytes_up_to_the_budget() {
    let dir = temporary();
    let (mut writer, reader) = windowed(dir.path(), 256 << 10);
    (0..600).for_each(|n| drop(write(&mut writer, &[kilobyte(n)])));
    writer.sync_now().expect("a sync");
    let mut steps = Vec::new();
    let report = reader.preload(u64::MAX, |bytes| steps.push(bytes));
    assert_eq!((report.bytes, report.wanted), (reader.stats().hot_bytes, reader.stats().hot_bytes));
    assert!(steps.is_sorted() && steps.last() == Some(&report.bytes));
    let report = reader.preload(100_000, |_| ());
    assert_eq!((report.bytes, report.wanted), (100_000, 100_000));
}

/// Reads a key again and again: right bytes, or data loss.
fn read_until(stop: &AtomicBool, reader: &ShardReader, points: &[Point]) -> (u64, u64) {
    let (mut right, mut lost) = (0, 0);
    while !stop.load(Ordering::Acquire) {
        for point in points {
            let pin = reader.pin_blocking();
            let found = pin.latest(&point.entity, 1).and_then(|found| {
                let found = found.map(|found| owned(&point.entity, 1, &found)).transpose()?;
                pin.check().map(|()| found.expect("its key is there"))
            });
            match found {
                Ok(found) => {
                    assert_eq!(found, *point);
                    right += 1;
                }
                Err(ReadError::Damaged { .. }) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    (right, lost)
}

#[test]
fn p06_a_file_cut_short_under_a_reader_harms_its_shard_only() {
    let root = temporary();
    let dirs = ["cut", "other"].map(|name| root.path().join(name));
    let [(mut cut, cut_reader), (mut other, other_reader)] = dirs.each_ref().map(|dir| open_at(dir));
    let points: Vec<_> = (0..200).map(kilobyte).collect();
    for batch in points.chunks(20) {
        write(&mut cut, batch);
        write(&mut other, batch);
    }
    let (stop, read) = (AtomicBool::new(false), AtomicU64::new(0));
    let (harmed, whole) = std::thread::scope(|scope| {
        let reads = |reader| {
            let (stop, read, points) = (&stop, &read, &points);
            move || {
                read.fetch_add(1, Ordering::AcqRel);
                read_until(stop, reader, points)
            }
        };
        let harmed: Vec<_> = (0..3).map(|_| scope.spawn(reads(&cut_reader))).collect();
        let whole: Vec<_> = (0..2).map(|_| scope.spawn(reads(&other_reader))).collect();
        while read.load(Ordering::Acquire) < 5 {
            std::thread::yield_now();
        }
        for file in segments(&dirs[0]) {
            fs::File::options().write(true).open(file).and_then(|file| file.set_len(0)).expect("cut short");
        }
        while cut_reader.poisoned().is_none() {
            std::thread::yield_now();
        }
        // The other shard goes on, also after the first has stopped.
        write(&mut other, &[point(b"afterwards", 1, 1000)]);
        stop.store(true, Ordering::Release);
        let sum = |threads: Vec<std::thread::ScopedJoinHandle<'_, (u64, u64)>>| {
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        };
        (sum(harmed), sum(whole))
    });
    assert!(harmed.1 > 0 && whole.0 > 0 && whole.1 == 0, "{harmed:?} {whole:?}");
    let why = cut_reader.poisoned().expect("it stopped");
    assert!(why.contains("cut") && why.contains(".seg: the file cannot be read"), "{why}");
    assert!(matches!(cut.put(&point(b"x", 1, 1000).put()), Err(WriteError::Poisoned(_))));
    assert!(matches!(cut.commit(), Err(WriteError::Poisoned(_))));
    assert_eq!(other_reader.poisoned(), None);
    assert!(latest(&other_reader, b"afterwards", 1).expect("whole").is_some());
    let error = latest(&cut_reader, &entity(7), 1).expect_err("its file is gone");
    assert!(error.to_string().contains("the file cannot be read"), "{error}");
}

const LIMIT: &str = "FOREBAY_TEST_RESIDENT_BYTES";
const DATA: i64 = 160 << 20;
const WINDOW: u64 = 16 << 20;
/// What is not the window and not the index: the batch and what a sync interval adds to the window.
const SLACK: u64 = 16 << 20;

/// In a process of its own, whose memory is nobody else's. With a window the bound holds; without one it does not, which
/// shows that it is one.
#[test]
fn p07_resident_memory_stays_under_the_limit() {
    if let Ok(limit) = std::env::var(LIMIT) {
        return fill_and_read(limit.parse().expect("a number"));
    }
    let run = |limit: u64| {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "memory::p07_resident_memory_stays_under_the_limit", "--nocapture"]);
        let output = child.env(LIMIT, limit.to_string()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find_map(|line| line.split_once("beyond the index: ")).expect("a figure");
        line.1.parse::<u64>().expect("a number")
    };
    let (bounded, unbounded) = (run(WINDOW), run(u64::MAX));
    assert!(bounded <= WINDOW + SLACK, "{bounded} bytes beyond the index with a window of {WINDOW}");
    assert!(unbounded > 2 * (WINDOW + SLACK), "{unbounded} bytes without a window");
}

/// Writes and reads many times the window, and prints the most memory that was resident.
fn fill_and_read(resident_bytes: u64) {
    let dir = tempfile::tempdir().expect("a directory on a disk");
    let options = Options { segment_bytes: 8 << 20, resident_bytes, ..options() };
    let group = SyncGroup::spawn("sync", SyncPolicy { interval_ms: 5, bytes: 1 << 20 }).expect("a thread");
    let (mut writer, reader) =
        crate::store::open_patiently(dir.path(), &identity(), &options, &group).expect("a shard");
    let before = resident();
    let (mut most, mut random) = (0, 1_u64);
    let batch = 500;
    for first in (0..DATA / 1100).step_by(batch) {
        write(&mut writer, &(first..first + batch as i64).map(kilobyte).collect::<Vec<_>>());
        for _ in 0..batch {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wanted = kilobyte((random >> 33) as i64 % (first + batch as i64));
            let found = match latest(&reader, &wanted.entity, 1) {
                Err(ReadError::Cold) => {
                    let pin = reader.pin_blocking();
                    let found = pin.latest(&wanted.entity, 1).expect("whole").expect("there");
                    owned(&wanted.entity, 1, &found)
                }
                found => found.map(|found| found.expect("there")),
            };
            assert_eq!(found.expect("whole"), wanted);
        }
        most = most.max((resident() - before.min(resident())).saturating_sub(reader.stats().index_bytes));
    }
    assert_eq!(reader.stats().keys as i64, DATA / 1100 / batch as i64 * batch as i64 + batch as i64);
    println!("beyond the index: {most}");
}

/// Bytes of memory this process has resident.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
