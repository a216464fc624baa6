//! Tests of what failing system calls do to a shard; they order failures that only this crate can. No code but tests.

use std::time::{Duration, Instant};

use crate::disk::Operation;
use crate::index::Key;
use crate::types::{
    AppliedOffset, DurableOffset, Kind, Options, Outcome, Put, ShardIdentity, SyncPolicy, TopicIndex,
    TopicLog, ViewPolicy,
};
use crate::{ShardReader, ShardWriter, SyncGroup, WriteError, open};

const TOPIC: TopicIndex = TopicIndex(0);

fn shard(dir: &std::path::Path, interval_ms: u64) -> (ShardWriter, ShardReader) {
    let topic = TopicLog { name: "t".to_owned(), topic_id: [1; 16], priority: 0 };
    let identity = ShardIdentity {
        lane: "l".to_owned(),
        partition: 0,
        partitions: 1,
        topics: vec![topic],
        views: [(1, ViewPolicy::full("v", 1_000_000))].into(),
    };
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    let group = SyncGroup::spawn("test", SyncPolicy { interval_ms, bytes: u64::MAX }).expect("a thread");
    open(dir, &identity, &options, &group).expect("a shard")
}

fn put(writer: &mut ShardWriter, offset: i64, payload: &[u8]) -> Result<Outcome, WriteError> {
    writer.put(&Put {
        view: 1,
        entity: b"e",
        kind: Kind::Value,
        event_time_ms: offset,
        ingest_time_ms: offset,
        expiry_ms: i64::MAX,
        topic: TOPIC,
        offset,
        payload,
    })
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::yield_now();
    }
}

fn offset_of(reader: &ShardReader) -> i64 {
    reader.pin().latest(b"e", 1).expect("whole").expect("a version").offset()
}

#[test]
fn the_sync_thread_makes_commits_durable_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, reader) = shard(dir.path(), 1);
    for offset in 0..3 {
        put(&mut writer, offset, b"x").expect("a put");
        writer.commit().expect("a commit");
        wait_for("the sync", || reader.durable(TOPIC) == Some(DurableOffset(offset)));
    }
}

#[test]
fn p04_after_a_failed_sync_the_durable_position_never_advances_and_no_sync_is_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, reader) = shard(dir.path(), 1);
    put(&mut writer, 0, b"x").expect("a put");
    writer.commit().expect("a commit");
    wait_for("the first sync", || reader.durable(TOPIC) == Some(DurableOffset(0)));
    let faults = &reader.shard.faults;
    faults.order(Operation::Sync, true);
    put(&mut writer, 1, b"x").expect("a put");
    writer.commit().expect("a commit");
    wait_for("the failure", || reader.poisoned().is_some());
    // From here on a sync would succeed, falsely.
    faults.order(Operation::Sync, false);
    let tried = faults.syncs();
    assert!(matches!(writer.sync_now(), Err(WriteError::Poisoned(_))));
    assert!(matches!(put(&mut writer, 2, b"x"), Err(WriteError::Poisoned(_))));
    assert!(matches!(writer.commit(), Err(WriteError::Poisoned(_))));
    assert!(matches!(writer.skip(TOPIC, 2, 2), Err(WriteError::Poisoned(_))));
    assert!(matches!(writer.expire(i64::MAX), Err(WriteError::Poisoned(_))));
    assert!(matches!(writer.close(), Err(WriteError::Poisoned(_))));
    assert_eq!((faults.syncs(), reader.durable(TOPIC)), (tried, Some(DurableOffset(0))));
    // Reads go on.
    assert_eq!(offset_of(&reader), 1);
    assert!(reader.poisoned().is_some_and(|why| why.contains("000001.seg") && why.contains("sync failed")));
}

#[test]
fn after_a_failed_write_nothing_is_appended() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, reader) = shard(dir.path(), 1000);
    put(&mut writer, 0, b"x").expect("a put");
    writer.commit().expect("a commit");
    reader.shard.faults.order(Operation::Write, true);
    put(&mut writer, 1, b"x").expect("a put");
    assert!(matches!(writer.commit(), Err(WriteError::Poisoned(_))));
    reader.shard.faults.order(Operation::Write, false);
    assert!(matches!(writer.commit(), Err(WriteError::Poisoned(_))));
    assert_eq!((offset_of(&reader), reader.applied(TOPIC)), (0, Some(AppliedOffset(0))));
    drop(writer);
    let (mut writer, reader) = shard(dir.path(), 1000);
    assert_eq!(reader.applied(TOPIC), Some(AppliedOffset(0)));
    put(&mut writer, 1, b"x").expect("a put");
    writer.commit().expect("a commit");
    assert_eq!(offset_of(&reader), 1);
}

#[test]
fn p05_a_full_disk_keeps_the_batch_and_the_same_commit_succeeds_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, reader) = shard(dir.path(), 1000);
    put(&mut writer, 0, &[b'x'; 50_000]).expect("a put");
    writer.commit().expect("a commit");
    reader.shard.faults.order(Operation::Allocate, true);
    put(&mut writer, 1, &[b'y'; 50_000]).expect("a put");
    for _ in 0..3 {
        let refused = writer.commit();
        assert!(
            matches!(&refused, Err(WriteError::NoSpace { path }) if path.ends_with("000002.seg")),
            "{refused:?}"
        );
    }
    assert_eq!(
        (offset_of(&reader), writer.position(TOPIC), reader.applied(TOPIC)),
        (0, Some(1), Some(AppliedOffset(0)))
    );
    // The batch may even grow while it waits.
    assert_eq!(put(&mut writer, 2, b"z").expect("a put"), Outcome::Current);
    reader.shard.faults.order(Operation::Allocate, false);
    writer.commit().expect("room again");
    assert_eq!((offset_of(&reader), reader.applied(TOPIC)), (2, Some(AppliedOffset(2))));
    drop(writer);
    let (_writer, reader) = shard(dir.path(), 1000);
    assert_eq!(reader.pin().history(b"e", 1, &Default::default()).count(), 3);
}

#[test]
fn an_entity_that_the_index_takes_for_another_is_refused_and_reads_find_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, reader) = shard(dir.path(), 1000);
    put(&mut writer, 0, b"x").expect("a put");
    writer.commit().expect("a commit");
    // As if both had the same hash.
    let (index, guard) = (&reader.shard.index, &crossbeam_epoch::pin());
    let key = |entity| Key::new(reader.shard.entity_hash(entity));
    let slot = index.entity(key(b"e"), guard).expect("there").slot(1);
    index.publish(key(b"other"), index.view(1, guard).expect("known"), slot, guard);
    assert!(reader.pin().latest(b"other", 1).expect("whole").is_none());
    let other = Put {
        view: 1,
        entity: b"other",
        kind: Kind::Value,
        event_time_ms: 1,
        ingest_time_ms: 1,
        expiry_ms: i64::MAX,
        topic: TOPIC,
        offset: 1,
        payload: b"y",
    };
    let refused = writer.put(&other).expect_err("a collision");
    assert_eq!(refused.to_string(), "not storable: the index cannot tell entity other from e");
    assert!(matches!(refused, WriteError::Collision { .. }));
    // Nothing has changed, and the shard goes on.
    assert_eq!(writer.position(TOPIC), Some(0));
    put(&mut writer, 1, b"z").expect("a put");
    writer.commit().expect("a commit");
    assert_eq!(offset_of(&reader), 1);
}
