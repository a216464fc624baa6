//! What a shard makes of triggers, frame by frame and file by file. Tests only: a real store, filled by hand.

use std::ffi::CString;

use forebay_storage::{Options, ShardIdentity, SyncGroup, SyncPolicy, TopicLog};
use serde_json::Value;

use super::*;
use crate::definitions::{Definitions, parse};
use crate::ingest::route::policies;
use crate::ingest::shard::Source;
use crate::lane::{Counters, ShardHandle, ShardState, TopicProgress};
use crate::shard_files::{Directories, open};

const DEFINITIONS: &str = r#"
[[lane]]
name = "main"
[[lane.topic]]
name = "points"
[[view]]
id = 1
name = "signal"
lane = "main"
entity = "customer"
topics = ["points"]
ttl = "10s"
max_ttl = "20s"
history = "HISTORY"
[[view.field]]
name = "snr"
type = "double"
[[trigger]]
name = "low"
id = 100
version = 1
view = "signal"
rules = [{ state = "RED", when = "snr < 30" }]
[[trigger]]
name = "text"
id = 101
version = 1
view = "signal"
first_sight = "edge"
otherwise = "FINE"
rules = [{ state = "ODD", when = "double(snr) - 1.0 < 10.0" }]
"#;

struct Bed {
    definitions: Definitions,
    dir: tempfile::TempDir,
    shard: Option<Shard>,
    counters: Counters,
}

/// A data point: snr or a tombstone, event time (and Kafka timestamp), time to live, ms.
type Point = (Option<f64>, i64, i64);

impl Bed {
    fn new(history: &str) -> Bed {
        let definitions = parse(&DEFINITIONS.replace("HISTORY", history)).expect("definitions");
        let dir = tempfile::tempdir().expect("a directory");
        let mut bed = Bed { definitions, dir, shard: None, counters: Counters::default() };
        bed.open();
        bed
    }

    fn open(&mut self) {
        self.shard = None;
        let identity = ShardIdentity {
            lane: "main".into(),
            partition: 3,
            partitions: 8,
            topics: vec![TopicLog { name: "points".into(), topic_id: [1; 16], priority: 0 }],
            views: policies(&self.definitions, &self.definitions.lanes[0]),
        };
        let sync = SyncGroup::spawn("test-sync", SyncPolicy::default()).expect("a thread");
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let files = Directories { dir: self.dir.path().join("3"), identity, options, sync: &sync };
        let writer = open(&files).expect("opens");
        let readers = Some(writer.readers().clone());
        let handle =
            ShardHandle::new(3, readers, vec![TopicProgress::new("points".into())], ShardState::Ready);
        let c_name = CString::new("points").expect("no NUL");
        let source = Source {
            name: "points".into(),
            c_name,
            ready_at: 0,
            committed: 0,
            told_from: 0,
            stored_to: 0,
            reread: 0,
        };
        self.shard = Some(Shard::new(Arc::new(handle), vec![source], writer));
    }

    /// Puts and judges as ingest does; what is told is in `ready` once it is committed.
    fn take(&mut self, points: &[Point]) {
        let shard = self.shard.as_mut().expect("open");
        let view = self.definitions.views[0].clone();
        for (snr, at_ms, ttl_ms) in points {
            let (offset, now_ms) = (shard.next_offset(0), shard.ingest_time_ms(0, *at_ms));
            let payload = snr.map(|snr| format!("{{\"snr\":{snr}}}").into_bytes()).unwrap_or_default();
            let mut slots = Slots::new();
            let point = DataPoint {
                view: 1,
                entity: b"e",
                kind: if snr.is_some() { Kind::Value } else { Kind::Tombstone },
                event_time_ms: *at_ms,
                expiry_ms: at_ms + ttl_ms,
                payload: &payload,
                write_once: false,
            };
            if snr.is_some() {
                shard.encode(&view, &self.definitions.triggers, &payload);
                view.plan.scan(&payload, &mut slots).expect("JSON");
            }
            let outcome = shard.put(0, offset, now_ms, &point).expect("put");
            let at = At { topic: 0, offset, now_ms };
            shard.judge(at, &point, outcome, &self.definitions.triggers, &slots).expect("judged");
        }
    }

    fn commit(&mut self) -> Vec<String> {
        let shard = self.shard.as_mut().expect("open");
        shard.commit(&self.counters).expect("committed");
        shard.evaluations.ready.drain(..).map(|edge| shown(&edge)).collect()
    }

    fn told(&mut self, points: &[Point]) -> Vec<String> {
        self.take(points);
        self.commit()
    }
}

fn shown(edge: &EdgeMessage) -> String {
    let value: Value = serde_json::from_slice(&edge.json).expect("JSON");
    let text = |name: &str| value[name].as_str().expect("text").to_owned();
    assert_eq!((text("edge_id"), edge.key.as_slice()), (edge.id.clone(), b"e".as_slice()));
    assert_eq!(
        value["position"],
        serde_json::json!({"topic": "points", "partition": 3, "offset": edge.offset})
    );
    format!("{} {}>{}@{}", text("trigger"), text("from"), text("to"), edge.offset)
}

const TTL: i64 = 10_000;

#[test]
fn states_are_held_within_a_frame_across_frames_and_through_an_opening() {
    for history in ["latest", "full"] {
        let mut bed = Bed::new(history);
        let first = bed.told(&[(Some(50.0), 1000, TTL), (Some(20.0), 1001, TTL), (Some(5.0), 1002, TTL)]);
        assert_eq!(first, ["text UNKNOWN>FINE@0", "low GREEN>RED@1", "text FINE>ODD@2"]);
        assert_eq!(bed.told(&[(Some(6.0), 1003, TTL)]), [""; 0]);
        bed.open();
        assert_eq!(bed.told(&[(Some(40.0), 1004, TTL)]), ["low RED>GREEN@4", "text ODD>FINE@4"]);
    }
}

#[test]
fn only_the_current_version_changes_a_state() {
    let mut bed = Bed::new("full");
    bed.told(&[(Some(50.0), 5000, TTL)]);
    assert_eq!(bed.told(&[(Some(1.0), 4000, TTL)]), [""; 0], "late");
    assert_eq!(bed.told(&[(Some(50.0), 5000, TTL)]), [""; 0], "a duplicate");
    assert_eq!(bed.told(&[(Some(20.0), 5000, TTL)]), ["low GREEN>RED@3"], "a correction");
}

#[test]
fn a_frame_that_is_lost_takes_its_states_with_it_and_brings_them_again() {
    let mut bed = Bed::new("latest");
    bed.told(&[(Some(50.0), 1000, TTL)]);
    bed.take(&[(Some(20.0), 1001, TTL)]);
    // A crash before the commit.
    bed.open();
    assert_eq!(bed.told(&[(Some(20.0), 1001, TTL)]), ["low GREEN>RED@1"]);
}

#[test]
fn edges_are_taken_up_again_from_the_states_that_are_stored() {
    for history in ["latest", "full"] {
        let mut bed = Bed::new(history);
        let points = [(Some(50.0), 1000, TTL), (Some(20.0), 1001, TTL), (Some(50.0), 1002, TTL)];
        let told = bed.told(&points);
        bed.open();
        let shard = bed.shard.as_mut().expect("open");
        for (offset, (_, at_ms, ttl_ms)) in (0..).zip(points) {
            let (at, payload) = (At { topic: 0, offset, now_ms: at_ms }, b"");
            let point = DataPoint {
                view: 1,
                entity: b"e",
                kind: Kind::Value,
                event_time_ms: at_ms,
                expiry_ms: at_ms + ttl_ms,
                payload,
                write_once: false,
            };
            shard.repeat(at, &point, &bed.definitions.triggers).expect("read");
        }
        let again: Vec<_> = shard.evaluations.ready.iter().map(shown).collect();
        assert_eq!(again, told, "{history}");
    }
}

#[test]
fn edges_that_were_told_before_the_files_were_lost_are_not_told_again() {
    let mut bed = Bed::new("latest");
    bed.shard.as_mut().expect("open").topics[0].told_from = 2;
    let told = bed.told(&[(Some(50.0), 1000, TTL), (Some(20.0), 1001, TTL), (Some(50.0), 1002, TTL)]);
    assert_eq!(told, ["low RED>GREEN@2"]);
}

#[test]
fn p13_a_state_is_unknown_from_the_millisecond_its_value_expires() {
    for history in ["latest", "full"] {
        for (at_ms, expected) in [(10_999, 1), (11_000, 0)] {
            let mut bed = Bed::new(history);
            bed.told(&[(Some(50.0), 1000, TTL)]);
            let low = |told: Vec<String>| told.iter().filter(|edge| edge.starts_with("low")).count();
            assert_eq!(low(bed.told(&[(Some(20.0), at_ms, TTL)])), expected, "{at_ms}");
        }
    }
}

#[test]
fn a_state_lives_as_long_as_the_newest_value_however_rarely_it_is_written() {
    for history in ["latest", "full"] {
        let mut bed = Bed::new(history);
        bed.told(&[(Some(20.0), 1000, TTL)]);
        // Each comes while the one before lives; none changes the state.
        for at_ms in [4000, 9000, 18_999, 28_998, 30_000, 39_000] {
            assert_eq!(bed.told(&[(Some(21.0), at_ms, TTL)]), [""; 0], "{at_ms}");
        }
        assert_eq!(bed.told(&[(Some(50.0), 48_999, TTL)]), ["low RED>GREEN@7"], "{history}");
        // A value that lives for less than the one that the state was written beside ends it.
        assert_eq!(bed.told(&[(Some(50.0), 49_000, 1000)]), [""; 0]);
        let late = bed.told(&[(Some(20.0), 50_500, TTL)]);
        assert!(late.iter().all(|edge| !edge.starts_with("low")), "{late:?}");
    }
}

#[test]
fn a_tombstone_makes_every_state_unknown() {
    let mut bed = Bed::new("latest");
    bed.told(&[(Some(20.0), 1000, TTL)]);
    assert_eq!(bed.told(&[(None, 1001, TTL)]), [""; 0]);
    assert_eq!(bed.told(&[(Some(50.0), 1002, TTL)]), ["text UNKNOWN>FINE@2"]);
}

impl Bed {
    /// How many states of a trigger are stored, by its id.
    fn stored(&self, trigger: u16) -> usize {
        let readers = self.shard.as_ref().expect("open").writer.readers();
        let pinned = readers.of(trigger).pin_blocking();
        let mut versions = pinned.history(b"e", trigger, &HistoryRange::default());
        versions.try_fold(0, |count, version| version.map(|_| count + 1)).expect("readable")
    }
}

#[test]
fn the_state_that_no_rule_gives_is_not_stored_until_another_was() {
    for history in ["latest", "full"] {
        let mut bed = Bed::new(history);
        bed.told(&[(Some(50.0), 1000, TTL), (Some(51.0), 1001, TTL)]);
        assert_eq!(bed.told(&[(Some(52.0), 1002, TTL)]), [""; 0]);
        assert_eq!((bed.stored(100), bed.stored(101)), (0, 1), "an edge is stored");
        assert_eq!(bed.told(&[(Some(20.0), 1003, TTL)]), ["low GREEN>RED@3"], "{history}");
        assert_eq!(bed.told(&[(Some(50.0), 1004, TTL)]), ["low RED>GREEN@4"], "{history}");
        assert!(bed.stored(100) > 0);
    }
}

#[test]
fn a_trigger_that_comes_later_sees_an_entity_for_the_first_time() {
    for (history, reopened) in [("latest", true), ("latest", false), ("full", true), ("full", false)] {
        let mut bed = Bed::new(history);
        let low = bed.definitions.triggers.remove(0);
        bed.shard = None;
        std::fs::remove_dir_all(bed.dir.path().join("3")).expect("removed");
        bed.open();
        bed.told(&[(Some(50.0), 1000, TTL)]);
        bed.definitions.triggers.insert(0, low);
        if reopened {
            bed.open();
            bed.open();
        } else {
            let views = policies(&bed.definitions, &bed.definitions.lanes[0]);
            bed.shard.as_mut().expect("open").adopt_views(&views).expect("adopted");
        }
        assert_eq!(bed.told(&[(Some(20.0), 1001, TTL)]), [""; 0], "{history}, {reopened}");
        assert_eq!(bed.told(&[(Some(50.0), 1002, TTL)]), ["low RED>GREEN@2"]);
        // What it judged once it knows: also after an opening.
        let mut bed = Bed::new(history);
        bed.told(&[(Some(50.0), 1000, TTL)]);
        bed.open();
        assert_eq!(bed.told(&[(Some(20.0), 1001, TTL)]), ["low GREEN>RED@1"]);
    }
}
