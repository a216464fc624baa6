//! What one data point, a few of them, and one commit do.

use forebay_storage::{
    HistoryRange, Kind, OpenError, Outcome, ShardReader, TopicIndex, ViewPolicy, WriteError,
};

use crate::model::Model;
use crate::store::{
    Point, VIEWS, applied, durable, expire, history, latest, open_at, options, point, segments, write,
};

#[test]
fn writers_and_readers_may_move_between_threads() {
    fn moves<T: Send + 'static>() {}
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    moves::<forebay_storage::ShardWriter>();
    is_shared::<ShardReader>();
    is_shared::<forebay_storage::SyncGroup>();
}

#[test]
fn a_value_is_read_back_after_its_commit_and_not_before() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    let value = point(b"modem-1", 1000, 41);
    assert_eq!(writer.put(&value.put()).expect("a put"), Outcome::Current);
    assert_eq!(latest(&reader, b"modem-1", 1).expect("whole"), None);
    assert_eq!((applied(&reader, 0), writer.position(TopicIndex(0))), (None, Some(41)));
    writer.commit().expect("a commit");
    assert_eq!(latest(&reader, b"modem-1", 1).expect("whole"), Some(value));
    assert_eq!(latest(&reader, b"modem-1", 2).expect("whole"), None);
    assert_eq!(latest(&reader, b"modem-2", 1).expect("whole"), None);
    assert_eq!((applied(&reader, 0), durable(&reader, 0)), (Some(41), None));
    writer.sync_now().expect("a sync");
    assert_eq!(durable(&reader, 0), Some(41));
}

#[test]
fn a_view_id_never_comes_to_name_another_view() {
    let dir = crate::store::temporary();
    let (mut writer, _) = open_at(dir.path());
    let views = |id: u16, view: &str| [(id, ViewPolicy::full(view, 1_000_000))].into();
    writer.adopt_views(&views(9, "new")).expect("a free id");
    let refused = writer.adopt_views(&views(9, "other")).expect_err("the id is taken");
    assert!(matches!(refused, OpenError::ViewChanged { id: 9, .. }), "{refused}");
    writer.close().expect("closed");
    // It is remembered in the files, not in the process.
    let (mut writer, _) = open_at(dir.path());
    writer.adopt_views(&views(9, "other")).expect_err("the id is still taken");
    writer.adopt_views(&views(9, "new")).expect("the same view");
}

#[test]
fn a_shard_knows_which_topics_it_had_before() {
    let dir = crate::store::temporary();
    let (writer, _) = open_at(dir.path());
    assert!(!writer.knew(TopicIndex(0)));
    writer.close().expect("closed");
    let (writer, _) = open_at(dir.path());
    assert!(writer.knew(TopicIndex(0)));
    assert_eq!(writer.position(TopicIndex(0)), None);
}

#[test]
fn the_order_of_versions_decides_and_says_what_each_put_was() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    let mut again = point(b"e", 100, 1);
    again.payload = point(b"e", 100, 0).payload;
    let lower_topic = Point { topic: 1, ..point(b"e", 100, 9) };
    let outcomes = write(
        &mut writer,
        &[
            point(b"e", 100, 0),
            again,
            point(b"e", 99, 2),
            point(b"e", 100, 3),
            lower_topic,
            point(b"e", 100, 4).tombstone(),
            point(b"e", 100, 5),
            point(b"e", 101, 5),
        ],
    );
    use Outcome::{Current, Duplicate, Late, Replayed};
    assert_eq!(outcomes, [Current, Duplicate, Late, Current, Late, Current, Late, Replayed]);
    let current = latest(&reader, b"e", 1).expect("whole").expect("a version");
    assert_eq!(current, point(b"e", 100, 4).tombstone());
    let all = history(&reader, b"e", 1, &HistoryRange::default()).expect("whole");
    assert_eq!(all.iter().map(|version| version.offset).collect::<Vec<_>>(), [4, 5, 3, 1, 0, 9, 2]);
}

#[test]
fn a_writer_sees_the_current_version_before_and_after_its_commit() {
    let dir = crate::store::temporary();
    let (mut writer, _reader) = open_at(dir.path());
    let seen = |writer: &forebay_storage::ShardWriter, view| {
        let found = writer.current(b"e", view).expect("whole");
        found.map(|version| (version.kind == Kind::Value, version.event_time_ms, version.expiry_ms))
    };
    for view in VIEWS {
        let of = |event_ms, offset| Point { view, ..point(b"e", event_ms, offset) };
        let offset = writer.position(TopicIndex(0)).map_or(0, |last| last + 1);
        assert_eq!(seen(&writer, view), None);
        writer.put(&of(100, offset).put()).expect("a put");
        assert_eq!(seen(&writer, view), Some((true, 100, 1_000_100)), "in the batch");
        writer.put(&of(99, offset + 1).put()).expect("a late put");
        assert_eq!(seen(&writer, view), Some((true, 100, 1_000_100)), "a late one is not current");
        writer.commit().expect("a commit");
        assert_eq!(seen(&writer, view), Some((true, 100, 1_000_100)), "committed");
        writer.put(&of(40_000_000, offset + 2).tombstone().put()).expect("a put that need not look");
        assert_eq!(seen(&writer, view), Some((false, 40_000_000, 41_000_000)), "over a committed one");
        writer.commit().expect("a commit");
        assert_eq!(seen(&writer, view), Some((false, 40_000_000, 41_000_000)));
    }
    assert_eq!(writer.current(b"other", 1).expect("whole"), None);
}

#[test]
fn mistakes_of_the_caller_change_nothing() {
    let dir = crate::store::temporary();
    let (mut writer, _reader) = open_at(dir.path());
    let refused = |writer: &mut forebay_storage::ShardWriter, point: Point| {
        matches!(writer.put(&point.put()), Err(WriteError::Invalid(_)))
    };
    assert!(refused(&mut writer, point(b"", 1, 1)));
    assert!(refused(&mut writer, point(&[b'x'; 256], 1, 1)));
    assert!(refused(&mut writer, point(b"e", 1, -1)));
    let tombstone = Point { payload: b"x".to_vec(), ..point(b"e", 1, 1).tombstone() };
    assert!(refused(&mut writer, tombstone));
    let unknown = Point { topic: 3, ..point(b"e", 1, 1) };
    assert!(matches!(writer.put(&unknown.put()), Err(WriteError::UnknownTopic(TopicIndex(3)))));
    assert!(matches!(writer.skip(TopicIndex(3), 1, 1), Err(WriteError::UnknownTopic(_))));
    assert_eq!((writer.pending_bytes(), writer.position(TopicIndex(0))), (0, None));
    writer.commit().expect("nothing to do");
    assert_eq!(segments(dir.path()).len(), 0);
}

#[test]
fn positions_advance_without_records_and_survive() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    writer.skip(TopicIndex(1), 7, 500).expect("a skip");
    writer.skip(TopicIndex(1), 6, 600).expect("nothing to do");
    writer.commit().expect("a commit");
    assert_eq!((applied(&reader, 1), writer.ingest_time_ms(TopicIndex(1))), (Some(7), 500));
    drop(writer);
    let (writer, reader) = open_at(dir.path());
    assert_eq!((applied(&reader, 1), durable(&reader, 1)), (Some(7), Some(7)));
    assert_eq!((writer.ingest_time_ms(TopicIndex(1)), applied(&reader, 0)), (500, None));
}

#[test]
fn a_payload_larger_than_a_segment_gets_a_segment_of_its_own() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    let large = Point { payload: vec![b'x'; 1 << 20], ..point(b"e", 1000, 1) };
    write(&mut writer, &[point(b"e", 999, 0)]);
    write(&mut writer, std::slice::from_ref(&large));
    write(&mut writer, &[point(b"f", 1001, 2)]);
    assert_eq!(latest(&reader, b"e", 1).expect("whole"), Some(large));
    writer.close().expect("a close");
    let (_writer, reader) = open_at(dir.path());
    assert_eq!(reader.stats().keys, 2);
    assert_eq!(history(&reader, b"e", 1, &HistoryRange::default()).expect("whole").len(), 2);
}

#[test]
fn expiry_unlinks_whole_segments_by_both_clocks_and_forgets_their_keys() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    for n in 0..400_i64 {
        let value = Point {
            payload: vec![b'v'; 1000],
            expiry_ms: n * 1000 + 50_000,
            ..point(format!("e{}", n % 200).as_bytes(), n * 1000, n)
        };
        write(&mut writer, &[value]);
    }
    let before = reader.stats();
    assert!(before.segments > 5);
    assert_eq!(expire(&mut writer, i64::MAX).segments, 0, "nothing is synced");
    writer.sync_now().expect("a sync");
    assert_eq!(expire(&mut writer, 0).segments, 0, "the clock is behind");
    let pinned = reader.pin();
    let held = pinned.latest(b"e199", 1).expect("whole").expect("a version");
    let report = expire(&mut writer, i64::MAX);
    // Versions up to 399 - 50 - 1 s of lateness are gone, as far as whole segments go.
    assert!(report.segments >= 4 && report.bytes == report.segments * (64 << 10), "{report:?}");
    assert!(report.keys > 0 && reader.stats().keys == 200 - report.keys);
    assert_eq!(held.payload().expect("held in place").len(), 1000);
    assert_eq!(reader.stats().segments, before.segments - report.segments);
    let digest = reader.digest();
    assert_eq!(latest(&reader, b"e0", 1).expect("whole"), None);
    drop(pinned);
    drop(writer);
    assert_eq!(segments(dir.path()).len() as u64, reader.stats().segments);
    let (mut writer, reader) = open_at(dir.path());
    assert_eq!((reader.digest(), reader.stats().keys), (digest, 200 - report.keys));
    // A key that was forgotten begins anew; chains end where the segments do.
    write(&mut writer, &[point(b"e0", 399_000, 400), point(b"e199", 400_000, 401)]);
    assert_eq!(history(&reader, b"e0", 1, &HistoryRange::default()).expect("whole").len(), 1);
    assert_eq!(history(&reader, b"e199", 1, &HistoryRange::default()).expect("whole").len(), 2);
}

#[test]
fn as_of_takes_few_hops_through_two_thousand_versions() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    for n in 0..2016 {
        write(&mut writer, &[point(b"e", n * 300, n)]);
    }
    let pinned = reader.pin();
    let started = std::time::Instant::now();
    for n in 0..2016 {
        let found = pinned.as_of(b"e", 1, n * 300 + 299, None).expect("whole").expect("a version");
        assert_eq!(found.offset(), n);
    }
    // 2,016 walks of a thousand hops each would take far longer than this.
    assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
}

#[test]
fn many_threads_read_whole_commits_while_one_writes() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    let Some(applied) = applied(&reader, 0) else { continue };
                    let pinned = reader.pin();
                    let read =
                        |entity: &[u8]| pinned.latest(entity, 1).expect("whole").expect("applied").offset();
                    let (left, right) = (read(b"left"), read(b"right"));
                    assert!(left >= applied - 1 && right >= applied, "{left} {right} at {applied}");
                }
            });
        }
        for n in 0..5000 {
            write(&mut writer, &[point(b"left", n * 2, n * 2), point(b"right", n * 2 + 1, n * 2 + 1)]);
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    });
}

#[test]
fn what_has_not_expired_is_never_missed() {
    let dir = crate::store::temporary();
    let (mut model, mut random, lateness_ms) = (Model::default(), 9_u64, options().allowed_lateness_ms);
    let (mut writer, mut reader) = open_at(dir.path());
    let mut removed = 0;
    for n in 0..6000_i64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (clock, dice) = (n * 10, (random >> 33) as i64);
        let late = if dice % 4 == 0 { dice / 4 % 500 } else { 0 };
        let entity = format!("e{}", dice / 8 % (if n % 2 == 0 { 20 } else { 2000 }));
        let value = Point {
            ingest_time_ms: clock,
            expiry_ms: clock - late + 3000,
            payload: vec![b'v'; 400],
            ..point(entity.as_bytes(), clock - late, n)
        };
        let value = if dice % 32 == 5 { value.tombstone() } else { value };
        assert_eq!(writer.put(&value.put()).expect("a put"), model.put(value));
        if n % 7 == 0 {
            writer.commit().expect("a commit");
        }
        if n % 300 == 299 {
            writer.commit().expect("a commit");
            writer.sync_now().expect("a sync");
            removed += expire(&mut writer, clock).segments;
            if n % 900 == 899 {
                drop(writer);
                (writer, reader) = open_at(dir.path());
            }
            assert_unexpired(&reader, &model, clock - lateness_ms);
        }
    }
    assert!(removed > 20, "{removed} segments removed");
}

/// All versions that had not expired at a time are there, and those that are left besides are in their places.
fn assert_unexpired(reader: &ShardReader, model: &Model, now_ms: i64) {
    for (entity, view) in model.versions.keys() {
        let got = history(reader, entity, *view, &HistoryRange::default()).expect("whole");
        let all = model.history(entity, *view, &HistoryRange::default());
        let mut left = all.iter().filter(|version| got.contains(&version.point));
        assert!(got.iter().all(|version| left.next().is_some_and(|left| left.point == *version)));
        let unexpired = all.iter().filter(|version| version.point.expiry_ms > now_ms);
        assert!(unexpired.zip(&got).all(|(version, got)| version.point == *got));
        let current = all.first().filter(|version| version.point.expiry_ms > now_ms);
        if let Some(current) = current {
            assert_eq!(latest(reader, entity, *view).expect("whole").as_ref(), Some(&current.point));
        }
        assert!(got.len() >= all.iter().filter(|version| version.point.expiry_ms > now_ms).count());
    }
}

#[test]
fn many_threads_read_while_segments_come_and_go() {
    let dir = crate::store::temporary();
    let (mut writer, reader) = open_at(dir.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2_u8 {
            let (reader, done) = (reader.clone(), &done);
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    let pinned = reader.pin();
                    for n in 0..40 {
                        let entity = format!("e{n}");
                        for version in pinned.history(entity.as_bytes(), 1, &HistoryRange::default()).take(9)
                        {
                            let payload = version.expect("whole").payload().expect("whole");
                            assert!(payload.iter().all(|byte| *byte == b'v'), "thread {thread}");
                        }
                        let read = pinned.as_of(entity.as_bytes(), 1, n * 1000, None);
                        assert!(
                            read.expect("whole").is_none_or(|version| version.event_time_ms() <= n * 1000)
                        );
                    }
                }
            });
        }
        let mut removed = 0;
        for n in 0..8000 {
            let value = Point {
                payload: vec![b'v'; 500],
                expiry_ms: n * 10 + 5000,
                ..point(format!("e{}", n * 7 % 40).as_bytes(), n * 10, n)
            };
            write(&mut writer, &[value]);
            if n % 100 == 0 {
                writer.sync_now().expect("a sync");
                removed += expire(&mut writer, n * 10).segments;
            }
        }
        assert!(removed > 20, "{removed}");
        done.store(true, std::sync::atomic::Ordering::Release);
    });
}
