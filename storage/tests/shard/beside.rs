//! Records put beside another: at its position, in its frame, with it after a crash or not at all.

use forebay_storage::{HistoryRange, Kind, Outcome, TopicIndex, WriteError};

use crate::store::{Point, applied, history, latest, open_at, point, temporary};

/// A record of another view at the position of `point`.
fn beside(of: &Point, view: u16, payload: &str) -> Point {
    Point { view, payload: payload.as_bytes().to_vec(), ..of.clone() }
}

#[test]
fn several_records_lie_beside_a_put_and_none_of_them_advances_the_position() {
    let dir = temporary();
    let (mut writer, reader) = open_at(dir.path());
    let value = point(b"modem-1", 1000, 41);
    let (one, other) = (beside(&value, 700, "{\"state\":1}"), beside(&value, 31, "{\"state\":2}"));
    assert_eq!(writer.put(&value.put()).expect("a put"), Outcome::Current);
    assert_eq!(writer.put_beside(&one.put()).expect("beside it"), Outcome::Current);
    assert_eq!(writer.put_beside(&other.put()).expect("beside it"), Outcome::Current);
    assert_eq!(writer.position(TopicIndex(0)), Some(41));
    assert_eq!(latest(&reader, b"modem-1", 700).expect("whole"), None, "readers see whole frames");
    writer.commit().expect("a commit");
    for (view, expected) in [(1, &value), (700, &one), (31, &other)] {
        assert_eq!(latest(&reader, b"modem-1", view).expect("whole").as_ref(), Some(expected));
    }
    assert_eq!(applied(&reader, 0), Some(41));
}

#[test]
fn what_lies_beside_a_put_that_was_not_committed_is_gone_with_it() {
    let dir = temporary();
    let (mut writer, _) = open_at(dir.path());
    let value = point(b"e", 1000, 0);
    writer.put(&value.put()).expect("a put");
    writer.put_beside(&beside(&value, 700, "{\"state\":1}").put()).expect("beside it");
    writer.close().expect("closed");
    let (mut writer, _) = open_at(dir.path());
    let next = point(b"e", 2000, 1);
    writer.put(&next.put()).expect("a put");
    writer.put_beside(&beside(&next, 700, "{\"state\":2}").put()).expect("beside it");
    drop(writer);
    let (mut writer, reader) = open_at(dir.path());
    assert_eq!(
        history(&reader, b"e", 700, &HistoryRange::default()).expect("whole"),
        [beside(&value, 700, "{\"state\":1}")]
    );
    // Read again, it comes to the same.
    assert_eq!(writer.put(&value.put()).expect("a put"), Outcome::Replayed);
    assert_eq!(writer.put(&next.put()).expect("a put"), Outcome::Current);
    writer.put_beside(&beside(&next, 700, "{\"state\":2}").put()).expect("beside it");
    writer.commit().expect("a commit");
    assert_eq!(history(&reader, b"e", 700, &HistoryRange::default()).expect("whole").len(), 2);
}

#[test]
fn a_record_lies_beside_nothing_but_the_last_put_of_this_frame() {
    let dir = temporary();
    let (mut writer, _) = open_at(dir.path());
    let value = point(b"e", 1000, 5);
    let refused = |result| matches!(result, Err(WriteError::Invalid(_)));
    assert!(refused(writer.put_beside(&beside(&value, 700, "{}").put())), "nothing was put");
    writer.put(&value.put()).expect("a put");
    let elsewhere = Point { offset: 4, ..beside(&value, 700, "{}") };
    assert!(refused(writer.put_beside(&elsewhere.put())), "another position");
    writer.commit().expect("a commit");
    assert!(refused(writer.put_beside(&beside(&value, 700, "{}").put())), "its frame is written");
}

#[test]
fn a_put_says_what_it_replaced() {
    let dir = temporary();
    let (mut writer, _) = open_at(dir.path());
    // A view whose versions are all kept, and one whose older versions are not looked at.
    for (view, offset) in [(1, 0), (31, 10)] {
        let put = |writer: &mut forebay_storage::ShardWriter, point: &Point| {
            writer.put(&Point { view, ..point.clone() }.put()).expect("a put");
            let replaced = writer.replaced().expect("readable");
            replaced.map(|replaced| (replaced.kind, replaced.expiry_ms, replaced.offset - offset))
        };
        assert_eq!(put(&mut writer, &point(b"e", 1000, offset)), None);
        let value = |expiry_ms, nth| Some((Kind::Value, expiry_ms, nth));
        assert_eq!(put(&mut writer, &point(b"e", 2000, offset + 1)), value(1_001_000, 0));
        writer.commit().expect("a commit");
        assert_eq!(put(&mut writer, &point(b"e", 9000, offset + 2)), value(1_002_000, 1));
        assert_eq!(put(&mut writer, &point(b"e", 9500, offset + 3).tombstone()), value(1_009_000, 2));
        let tombstone = put(&mut writer, &point(b"e", 9900, offset + 4));
        assert_eq!(tombstone.map(|(kind, _, nth)| (kind, nth)), Some((Kind::Tombstone, 3)));
        writer.commit().expect("a commit");
    }
}

#[test]
fn the_writer_reads_what_it_put_before_and_after_the_commit() {
    let dir = temporary();
    let (mut writer, _) = open_at(dir.path());
    let read = |writer: &forebay_storage::ShardWriter| {
        let mut payload = b"> ".to_vec();
        let current = writer.current_payload(b"e", 700, &mut payload).expect("readable");
        (current.map(|current| (current.kind, current.offset)), String::from_utf8(payload).expect("text"))
    };
    assert_eq!(read(&writer), (None, "> ".into()));
    assert!(!writer.may_have(b"e", [1, 700].into_iter()));
    for (nth, commit) in [(0, false), (1, true), (2, false)] {
        let value = point(b"e", 1000 * (nth + 1), nth);
        writer.put(&value.put()).expect("a put");
        let state = format!("{{\"state\":{nth}}}");
        writer.put_beside(&beside(&value, 700, &state).put()).expect("beside it");
        assert_eq!(read(&writer), (Some((Kind::Value, nth)), format!("> {state}")));
        if commit {
            writer.commit().expect("a commit");
            assert_eq!(read(&writer), (Some((Kind::Value, nth)), format!("> {state}")));
        }
    }
    let may_have = |view: u16| writer.may_have(b"e", [view].into_iter());
    assert!(may_have(1) && may_have(700) && !may_have(31), "what is committed and what is not");
    // What a put of another key leaves in the batch does not come between.
    writer.commit().expect("a commit");
    let other = point(b"f", 9000, 3);
    writer.put(&other.put()).expect("a put");
    assert_eq!(read(&writer).0, Some((Kind::Value, 2)));
    writer.put_beside(&beside(&other, 700, "").tombstone().put()).expect("beside it");
    assert_eq!(read(&writer).0, Some((Kind::Value, 2)), "another entity's");
}
