//! What a shard does with the second value of a key that is written once. Tests only: a real store, filled by hand.

use std::collections::HashMap;

use forebay_storage::{Options, ShardIdentity, SyncGroup, SyncPolicy, TopicLog};
use proptest::prelude::*;

use super::*;
use crate::lane::TopicProgress;
use crate::shard_files::{Directories, open};

const VIEW: u16 = 65_001;
const TTL: i64 = 100;

struct Bed {
    shard: Shard,
    _dir: tempfile::TempDir,
}

/// A record of the one topic: key, value or tombstone, Kafka timestamp.
#[derive(Debug, Clone)]
struct Step {
    key: u8,
    value: Option<u8>,
    time_ms: i64,
    /// Whether the frame ends after it.
    commit: bool,
}

impl Bed {
    fn new() -> Bed {
        let dir = tempfile::tempdir().expect("a directory");
        let log = TopicLog { name: "once".into(), topic_id: [1; 16], priority: 0 };
        let identity = ShardIdentity {
            lane: "diagnoses".into(),
            partition: 0,
            partitions: 1,
            topics: vec![log],
            views: [(VIEW, ViewPolicy::latest("once", TTL))].into(),
        };
        let sync = SyncGroup::spawn("test-sync", SyncPolicy::default()).expect("a thread");
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let files = Directories { dir: dir.path().join("0"), identity, options, sync: &sync };
        let writer = open(&files).expect("opens");
        let progress = TopicProgress::new("once".into());
        let handle = ShardHandle::new(0, Some(writer.readers().clone()), vec![progress], ShardState::Ready);
        let c_name = CString::new("once").expect("no NUL");
        let source = Source {
            name: "once".into(),
            c_name,
            ready_at: 0,
            committed: 0,
            told_from: 0,
            stored_to: 0,
            reread: i64::MAX,
        };
        Bed { shard: Shard::new(Arc::new(handle), vec![source], writer), _dir: dir }
    }

    /// Takes a record in as ingest does.
    fn take(&mut self, step: &Step, counters: &Counters) {
        let offset = self.shard.next_offset(0);
        let now_ms = self.shard.ingest_time_ms(0, step.time_ms);
        let payload = step.value.map(|value| format!("{{\"v\":{value}}}").into_bytes());
        let point = DataPoint {
            view: VIEW,
            entity: &[step.key],
            kind: if payload.is_some() { Kind::Value } else { Kind::Tombstone },
            event_time_ms: step.time_ms,
            expiry_ms: step.time_ms + TTL,
            payload: payload.as_deref().unwrap_or_default(),
            write_once: true,
        };
        match point.expiry_ms <= now_ms {
            true => self.shard.skip_expired(0, offset, now_ms).expect("skipped"),
            false => drop(self.shard.put(0, offset, now_ms, &point).expect("put")),
        }
        if step.commit {
            self.shard.commit(counters).expect("committed");
        }
    }

    /// The current version of a key: its payload, or nothing for a tombstone.
    fn current(&self, key: u8) -> Option<Option<String>> {
        let pin = self.shard.writer.readers().of(VIEW).pin_blocking();
        let found = pin.latest(&[key], VIEW).expect("whole")?;
        let payload = String::from_utf8(found.payload().expect("whole").into_owned()).expect("UTF-8");
        Some((found.kind() == Kind::Value).then_some(payload))
    }
}

fn value(key: u8, value: u8, time_ms: i64, commit: bool) -> Step {
    Step { key, value: Some(value), time_ms, commit }
}

#[test]
fn the_first_value_of_a_key_stays_within_a_frame_and_after_it() {
    let (mut bed, counters) = (Bed::new(), Counters::default());
    for step in [value(1, 1, 1000, false), value(1, 2, 1001, true), value(1, 3, 1002, true)] {
        bed.take(&step, &counters);
    }
    assert_eq!(bed.current(1), Some(Some("{\"v\":1}".into())));
    assert_eq!(counters.applied.load(Ordering::Relaxed), 1);
    assert_eq!(counters.duplicate.load(Ordering::Relaxed), 2);
    assert_eq!(bed.shard.next_offset(0), 3);
}

#[test]
fn a_tombstone_takes_the_value_away_and_keeps_its_place_until_it_expires() {
    let (mut bed, counters) = (Bed::new(), Counters::default());
    let gone = Step { key: 1, value: None, time_ms: 1010, commit: false };
    for step in [value(1, 1, 1000, true), gone, value(1, 2, 1020, true)] {
        bed.take(&step, &counters);
    }
    assert_eq!(bed.current(1), Some(None));
    bed.take(&value(1, 3, 1110, true), &counters);
    assert_eq!(bed.current(1), Some(Some("{\"v\":3}".into())), "its time is over");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..3u8, prop::option::weighted(0.8, any::<u8>()), 0..40i64, any::<bool>());
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let mut time_ms = 1000;
        let step = |(key, value, later, commit)| {
            time_ms += later;
            Step { key, value, time_ms, commit }
        };
        steps.into_iter().map(step).collect()
    })
}

/// What each key has: the version's value, if it is one, and its expiry.
fn model(steps: &[Step]) -> HashMap<u8, (Option<u8>, i64)> {
    let mut keys: HashMap<u8, (Option<u8>, i64)> = HashMap::new();
    for step in steps {
        let taken = keys.get(&step.key).is_some_and(|(_, expiry_ms)| *expiry_ms > step.time_ms);
        if step.value.is_none() || !taken {
            keys.insert(step.key, (step.value, step.time_ms + TTL));
        }
    }
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_wins_does_not_depend_on_where_frames_end(steps in steps()) {
        let (mut once, mut other, counters) = (Bed::new(), Bed::new(), Counters::default());
        for (number, step) in steps.iter().enumerate() {
            let last = number + 1 == steps.len();
            once.take(&Step { commit: step.commit || last, ..step.clone() }, &counters);
            other.take(&Step { commit: !step.commit || last, ..step.clone() }, &counters);
        }
        for (key, (value, _)) in model(&steps) {
            let expected = Some(value.map(|value| format!("{{\"v\":{value}}}")));
            prop_assert_eq!(&once.current(key), &expected);
            prop_assert_eq!(&other.current(key), &expected);
        }
    }
}
