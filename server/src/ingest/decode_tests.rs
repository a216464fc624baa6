//! Every answer `decode` has, from records written out in full. Tests only.

use super::*;
use crate::definitions::{Definitions, parse};

const DEFINITIONS: &str = r#"
[[lane]]
name = "main"
max_value = "1KiB"
[[lane.topic]]
name = "points"
[[lane.topic]]
name = "mixed"
[[lane]]
name = "strict"
strict_partition = true
[[lane.topic]]
name = "strict"

[[view]]
id = 1
name = "path"
lane = "main"
entity = "customer"
topics = ["points", "mixed"]
event_time = { path = "at.ts" }
ttl = "1h"
max_ttl = "2h"
[[view.field]]
name = "d"
type = "double"

[[view]]
id = 2
name = "header"
lane = "main"
entity = "customer"
topics = ["mixed"]
event_time = { header = "event-time" }
[[view.field]]
name = "d"
type = "double"

[[view]]
id = 3
name = "avro"
lane = "main"
entity = "customer"
topics = ["mixed"]
event_time = { path = "ts", unit = "s" }
avro_json = true
[[view.field]]
name = "d"
type = "double"

[[view]]
id = 4
name = "kafka"
lane = "strict"
entity = "customer"
topics = ["strict"]
[[view.field]]
name = "d"
type = "double"
"#;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

type Headers<'r> = &'r [(&'r [u8], Option<&'r [u8]>)];

struct Bench {
    definitions: Definitions,
    slots: Slots,
}

impl Bench {
    fn new() -> Self {
        Bench { definitions: parse(DEFINITIONS).unwrap(), slots: Slots::new() }
    }

    /// Decides a record of `topic` that arrives when the partition's clock shows `NOW`.
    fn decide<'r>(&mut self, topic: &str, record: &Record<'r>) -> Decision<'r> {
        let lanes = self.definitions.lanes.iter();
        let lane = lanes.clone().find(|lane| lane.topics.iter().any(|t| t.name == topic)).unwrap();
        let feeds = |view: &&Arc<View>| view.topics.iter().any(|name| name == topic);
        let views: Vec<_> = self.definitions.views.iter().filter(feeds).cloned().collect();
        let rules = Rules { lane, views: &views, partitions: 8, ingest_time_ms: NOW };
        decode(record, &rules, &mut self.slots, |_, _| Known::Nothing)
    }

    fn dead(&mut self, topic: &str, record: &Record<'_>) -> Reason {
        match self.decide(topic, record) {
            Decision::Dead(reason, detail) => {
                assert!(!detail.is_empty());
                reason
            }
            other => panic!("{other:?}"),
        }
    }
}

fn record(payload: &[u8]) -> Record<'_> {
    Record { key: Some(b"e"), payload: Some(payload), headers: &[], timestamp_ms: NOW - 7, partition: 0 }
}

fn tombstone<'r>(headers: Headers<'r>) -> Record<'r> {
    Record { key: Some(b"e"), payload: None, headers, timestamp_ms: NOW - 7, partition: 0 }
}

fn put(decision: Decision<'_>) -> DataPoint<'_> {
    match decision {
        Decision::Put(point) => point,
        other => panic!("{other:?}"),
    }
}

/// A header that names a view; never freed.
fn named(view: &'static [u8]) -> Headers<'static> {
    vec![(VIEW_HEADER, Some(view))].leak()
}

/// A payload of view `path` with this event time.
fn at(ts: i64) -> Vec<u8> {
    format!(r#"{{"at":{{"ts":{ts}}},"d":1}}"#).into_bytes()
}

#[test]
fn a_data_point_is_put_with_its_times() {
    let payload = at(NOW - 5);
    let point = put(Bench::new().decide("points", &record(&payload)));
    let expected = DataPoint {
        view: 1,
        entity: b"e",
        kind: Kind::Value,
        event_time_ms: NOW - 5,
        expiry_ms: NOW - 5 + HOUR,
        payload: &payload,
        write_once: false,
    };
    assert_eq!(point, expected);
}

#[test]
fn bad_01_to_03_keys_that_are_no_entity_ids() {
    let (payload, long, huge) = (at(NOW), vec![b'k'; 256], vec![b'k'; 64 << 10]);
    let with = |key| Record { key, ..record(&payload) };
    let mut bench = Bench::new();
    assert_eq!(bench.dead("points", &with(None)), Reason::NullKey);
    assert_eq!(bench.dead("points", &with(Some(b""))), Reason::EmptyKey);
    assert_eq!(bench.dead("points", &with(Some(&long))), Reason::KeyTooLong);
    assert_eq!(bench.dead("points", &with(Some(&huge))), Reason::KeyTooLong);
    put(bench.decide("points", &with(Some(&long[..255]))));
}

#[test]
fn bad_04_a_key_that_is_not_utf8_is_as_good_as_any() {
    let payload = at(NOW);
    let point = put(Bench::new().decide("points", &Record { key: Some(b"\xff\x00"), ..record(&payload) }));
    assert_eq!(point.entity, b"\xff\x00");
}

#[test]
fn bad_05_a_null_payload_is_a_tombstone_of_its_kafka_time_for_the_longest_ttl() {
    let point = put(Bench::new().decide("points", &tombstone(&[])));
    assert_eq!(
        (point.kind, point.event_time_ms, point.expiry_ms),
        (Kind::Tombstone, NOW - 7, NOW - 7 + 2 * HOUR)
    );
}

#[test]
fn a_tombstone_may_carry_its_event_time() {
    let headers: Headers<'_> = &[(EVENT_TIME_HEADER, Some(b"1699999999000"))];
    assert_eq!(put(Bench::new().decide("points", &tombstone(headers))).event_time_ms, 1_699_999_999_000);
}

#[test]
fn a_tombstone_with_a_wrong_event_time_header_is_dead() {
    let mut bench = Bench::new();
    for value in [&b"soon"[..], b"", b"1.5", b"\xff"] {
        assert_eq!(bench.dead("points", &tombstone(&[(EVENT_TIME_HEADER, Some(value))])), Reason::BadHeader);
    }
    let seconds: Headers<'_> = &[(EVENT_TIME_HEADER, Some(b"1700000000"))];
    assert_eq!(bench.dead("points", &tombstone(seconds)), Reason::BadEventTime);
}

#[test]
fn bad_06_an_empty_payload_is_not_json() {
    assert_eq!(Bench::new().dead("points", &record(b"")), Reason::NotJson);
}

#[test]
fn bad_07_a_payload_over_the_limit_is_too_large_whatever_it_is() {
    let mut bench = Bench::new();
    assert_eq!(bench.dead("points", &record(&vec![b'x'; 1025])), Reason::TooLarge);
    assert_eq!(bench.dead("points", &record(&vec![b'x'; 1024])), Reason::NotJson);
}

#[test]
fn bad_09_to_10_what_is_not_json() {
    let mut bench = Bench::new();
    for payload in [
        &b"hello"[..],
        b"{\"at\":",
        b"{} x",
        b"{'a':1}",
        b"{\"a\":NaN}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
    ] {
        assert_eq!(bench.dead("points", &record(payload)), Reason::NotJson, "{payload:?}");
    }
}

#[test]
fn bad_11_json_that_is_no_object() {
    let mut bench = Bench::new();
    for payload in [&b"1"[..], b"[]", b"null", b"\"x\""] {
        assert_eq!(bench.dead("points", &record(payload)), Reason::NotObject, "{payload:?}");
    }
}

#[test]
fn bad_12_nesting_without_end() {
    let payload = [vec![b'['; 500], vec![b']'; 500]].concat();
    let payload = [b"{\"a\":", &payload[..], b"}"].concat();
    assert_eq!(Bench::new().dead("points", &record(&payload)), Reason::TooDeep);
}

#[test]
fn bad_13_of_duplicate_names_the_last_counts() {
    let payload = format!(r#"{{"at":{{"ts":1}},"at":{{"ts":{}}}}}"#, NOW - 1);
    assert_eq!(put(Bench::new().decide("points", &record(payload.as_bytes()))).event_time_ms, NOW - 1);
}

#[test]
fn bad_16_event_times_that_are_none() {
    let mut bench = Bench::new();
    for payload in ["{}", r#"{"at":1}"#, r#"{"at":{"ts":null}}"#] {
        assert_eq!(bench.dead("points", &record(payload.as_bytes())), Reason::NoEventTime, "{payload}");
    }
    let wrong = [
        "\"2023\"",
        "-1",
        "1700000000",
        "253402300799000",
        "1.5",
        "1e12",
        "true",
        "{}",
        "99999999999999999999",
    ];
    for ts in wrong {
        let payload = format!(r#"{{"at":{{"ts":{ts}}}}}"#);
        assert_eq!(bench.dead("points", &record(payload.as_bytes())), Reason::BadEventTime, "{payload}");
    }
}

#[test]
fn bad_17_an_event_time_beyond_the_bound_is_future_and_at_it_is_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.dead("points", &record(&at(NOW + 300_001))), Reason::Future);
    put(bench.decide("points", &record(&at(NOW + 300_000))));
}

#[test]
fn bad_18_a_record_past_its_ttl_on_arrival_is_expired_to_the_millisecond() {
    let mut bench = Bench::new();
    assert_eq!(bench.decide("points", &record(&at(NOW - HOUR))), Decision::Expired);
    put(bench.decide("points", &record(&at(NOW - HOUR + 1))));
}

#[test]
fn bad_22_views_that_are_not_named_or_not_fed() {
    let payload = at(NOW);
    let with = |headers| Record { headers, ..record(&payload) };
    let mut bench = Bench::new();
    assert_eq!(bench.dead("mixed", &with(&[])), Reason::UnknownView);
    assert_eq!(bench.dead("mixed", &with(named(b"kafka"))), Reason::UnknownView);
    assert_eq!(bench.dead("points", &with(named(b"header"))), Reason::UnknownView);
    assert_eq!(bench.dead("points", &with(named(b""))), Reason::UnknownView);
    assert_eq!(put(bench.decide("mixed", &with(named(b"path")))).view, 1);
    assert_eq!(put(bench.decide("points", &with(&[(VIEW_HEADER, None)]))).view, 1);
}

#[test]
fn bad_23_an_avro_event_time_is_unwrapped_and_another_branch_is_not_one() {
    let headers: Headers<'_> = &[(VIEW_HEADER, Some(b"avro"))];
    let mut bench = Bench::new();
    let mut decide =
        |payload: &str| match bench.decide("mixed", &Record { headers, ..record(payload.as_bytes()) }) {
            Decision::Put(point) => Ok(point.event_time_ms),
            Decision::Dead(reason, _) => Err(reason),
            Decision::Expired => panic!("{payload}"),
        };
    assert_eq!(decide(r#"{"ts":{"long":1699999999}}"#), Ok(1_699_999_999_000));
    assert_eq!(decide(r#"{"ts":1699999999}"#), Ok(1_699_999_999_000));
    assert_eq!(decide(r#"{"ts":{"string":"1699999999"}}"#), Err(Reason::BadEventTime));
    assert_eq!(decide(r#"{"ts":{"decimal":1699999999}}"#), Err(Reason::BadEventTime));
}

#[test]
fn an_event_time_header_must_be_there_and_a_number() {
    let view = (VIEW_HEADER, Some(&b"header"[..]));
    let mut bench = Bench::new();
    let with = |headers| Record { headers, ..record(b"{}") };
    assert_eq!(bench.dead("mixed", &with(named(b"header"))), Reason::NoEventTime);
    let noon: Headers<'_> = &[view, (b"event-time", Some(b"noon"))];
    assert_eq!(bench.dead("mixed", &with(noon)), Reason::BadHeader);
    let twice: Headers<'_> = &[view, (b"event-time", Some(b"1")), (b"event-time", Some(b"1699999999999"))];
    assert_eq!(put(bench.decide("mixed", &with(twice))).event_time_ms, NOW - 1);
}

#[test]
fn a_record_may_carry_its_own_ttl_up_to_the_longest() {
    let payload = at(NOW);
    let mut bench = Bench::new();
    let mut expiry = |value: &'static [u8]| {
        let headers: Headers<'_> = &[(TTL_HEADER, Some(value))];
        put(bench.decide("points", &Record { headers, ..record(&payload) })).expiry_ms - NOW
    };
    assert_eq!(expiry(b"1"), 1);
    assert_eq!(expiry(b"9223372036854775807"), 2 * HOUR);
}

#[test]
fn a_ttl_header_that_is_no_positive_number_is_dead_on_values_and_tombstones() {
    let payload = at(NOW);
    let mut bench = Bench::new();
    for value in [&b"0"[..], b"-5", b"1h", b"", b"9223372036854775808"] {
        let headers: Headers<'_> = &[(TTL_HEADER, Some(value))];
        assert_eq!(bench.dead("points", &Record { headers, ..record(&payload) }), Reason::BadHeader);
        assert_eq!(bench.dead("points", &tombstone(headers)), Reason::BadHeader);
    }
}

#[test]
fn bad_25_thousands_of_foreign_headers_do_not_matter() {
    let payload = at(NOW);
    let huge = vec![b'x'; 4096];
    let headers: Vec<_> = (0..5000).map(|_| (&b"trace"[..], Some(&huge[..]))).collect();
    put(Bench::new().decide("points", &Record { headers: &headers, ..record(&payload) }));
}

#[test]
fn bad_28_a_strict_lane_refuses_a_record_on_another_partition() {
    let mut bench = Bench::new();
    let decided: Vec<_> = (0..8)
        .map(|partition| match bench.decide("strict", &Record { partition, ..record(b"{}") }) {
            Decision::Put(_) => true,
            Decision::Dead(Reason::WrongPartition, _) => false,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(decided.iter().filter(|home| **home).count(), 1);
    let home = decided.iter().position(|home| *home).unwrap() as u32;
    assert_eq!(home, forebay_client::Partitioner::Murmur2.partition(b"e", 8));
}

#[test]
fn a_lane_that_is_not_strict_takes_a_record_from_any_partition() {
    let payload = at(NOW);
    let mut bench = Bench::new();
    for partition in 0..8 {
        put(bench.decide("points", &Record { partition, ..record(&payload) }));
    }
}

#[test]
fn what_storage_refuses_is_a_dead_letter_only_if_it_would_be_refused_each_time() {
    let collision = WriteError::Collision { entity: (*b"a").into(), stored: (*b"b").into() };
    assert_eq!(Reason::of(&collision), Some(Reason::EntityCollision));
    for waits_or_stops in [
        WriteError::OverBudget { used: 2, hard: 1 },
        WriteError::NoSpace { path: "000002.seg".into() },
        WriteError::Poisoned("a sync failed".into()),
    ] {
        assert_eq!(Reason::of(&waits_or_stops), None, "{waits_or_stops}");
    }
}
