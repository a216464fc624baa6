//! Bad records by key, size, event time, header and partition: each is put aside with its reason, or accepted where it
//! only looks odd, and the records behind it go on.

use forebay_tests::{Bed, Record, Status, build_binary, event_now, eventually, request, v1};

use crate::shared::{bed, entity};

fn at(ts: i64) -> String {
    format!(r#"{{"ts":{ts}}}"#)
}

#[tokio::test]
async fn bad_01_null_key() {
    let bed = bed().await;
    bed.refused(Record::new("points", b"", at(event_now())).keyless().on(0), "null_key").await;
}

#[tokio::test]
async fn bad_02_empty_key() {
    let bed = bed().await;
    bed.refused(Record::new("points", b"", at(event_now())).on(1), "empty_key").await;
}

#[tokio::test]
async fn bad_03_key_too_long() {
    let bed = bed().await;
    for length in [256, 64 << 10] {
        bed.refused(Record::new("points", &vec![b'k'; length], at(event_now())), "key_too_long").await;
    }
    let longest = [entity("longest"), vec![b'k'; 255]].concat()[..255].to_vec();
    bed.put(Record::new("points", &longest, at(event_now()))).await;
    assert_eq!(bed.get("points", &longest).await.status, Status::Present);
}

#[tokio::test]
async fn bad_04_key_that_is_no_text_is_an_entity_like_any_other() {
    let bed = bed().await;
    let key = [&[0xff, 0xfe, 0x00][..], &entity("k")].concat();
    bed.put(Record::new("points", &key, at(event_now()))).await;
    assert_eq!(bed.get("points", &key).await.status, Status::Present);
}

#[tokio::test]
async fn bad_05_null_value_is_a_tombstone() {
    let bed = bed().await;
    let (key, ts) = (entity("null"), event_now());
    bed.send(Record::new("points", &key, at(ts - 1000))).await;
    let place = bed.put(Record::tombstone("points", &key).at(ts)).await;
    let row = bed.get("points", &key).await;
    assert_eq!((row.status, row.event_time_ms, row.json), (Status::Deleted, ts, Vec::new()));
    assert_eq!((row.place, row.expiry_ms), (Some(place), ts + 7 * 86_400_000));
    bed.put(Record::new("points", &key, at(ts - 1))).await;
    assert_eq!(
        bed.get("points", &key).await.status,
        Status::Deleted,
        "an older value does not bring it back"
    );
    bed.put(Record::new("points", &key, at(ts))).await;
    assert_eq!(bed.get("points", &key).await.status, Status::Deleted, "a tombstone wins a tie");
    bed.put(Record::new("points", &key, at(ts + 1))).await;
    assert_eq!(bed.get("points", &key).await.status, Status::Present, "a newer value does");
}

#[tokio::test]
async fn bad_05_a_tombstone_has_its_event_time_in_a_header() {
    let bed = bed().await;
    let (key, ts) = (entity("null"), event_now());
    bed.send(Record::new("points", &key, at(ts - 1000))).await;
    let stone = Record::tombstone("points", &key);
    bed.put(stone.clone().header("forebay-event-time", (ts - 2000).to_string())).await;
    assert_eq!(
        bed.get("points", &key).await.status,
        Status::Present,
        "an older tombstone deletes nothing newer"
    );
    bed.refused(stone.header("forebay-event-time", "yesterday"), "bad_header").await;
}

#[tokio::test]
async fn bad_06_empty_value() {
    let bed = bed().await;
    bed.refused(Record::new("points", &entity("empty"), ""), "not_json").await;
}

#[tokio::test]
async fn bad_07_value_over_the_limit() {
    let bed = bed().await;
    let payload = |size: usize| {
        let bare = format!(r#"{{"head":{{"ts":{}}},"x":""}}"#, event_now());
        bare.replace(r#""x":"""#, &format!(r#""x":"{}""#, "x".repeat(size - bare.len())))
    };
    let key = entity("large");
    bed.letter(Record::new("avro", &key, payload(65_537)), "too_large").await;
    let whole = payload(65_536);
    bed.put(Record::new("avro", &key, whole.clone())).await;
    assert_eq!(bed.get("avro", &key).await.json, whole.into_bytes(), "exactly the limit is accepted");
}

#[tokio::test]
async fn bad_08_value_of_15_kb_is_ordinary() {
    let bed = bed().await;
    let key = entity("big");
    let noise: String = (0..15_000).map(|_| rand::random_range('a'..='z')).collect();
    let payload = format!(r#"{{"ts":{},"s":"{noise}"}}"#, event_now());
    bed.put(Record::new("points", &key, payload.clone())).await;
    assert_eq!(bed.get("points", &key).await.json, payload.into_bytes());
}

#[tokio::test]
async fn bad_16_event_time_missing() {
    let bed = bed().await;
    for payload in ["{}", r#"{"ts":null}"#, r#"{"t":1700000000000}"#] {
        bed.refused(Record::new("points", b"e", payload), "no_event_time").await;
    }
    bed.letter(Record::new("header", b"e", "{}"), "no_event_time").await;
    bed.letter(Record::new("avro", b"e", r#"{"head":null}"#), "no_event_time").await;
}

#[tokio::test]
async fn bad_16_event_time_wrong() {
    let bed = bed().await;
    let now = event_now();
    let seconds = (now / 1000).to_string();
    let fraction = format!("{now}.5");
    let text = format!("\"{now}\"");
    let times =
        [text.as_str(), "-1", &seconds, &fraction, "1.7e12", "253402300799000", "9e99", "true", "{}", "[]"];
    for time in times {
        let letter = bed.letter(Record::new("points", b"e", format!(r#"{{"ts":{time}}}"#)), "bad_event_time");
        letter.await;
    }
    bed.refused(Record::new("points", b"e", at(946_684_799_999)), "bad_event_time").await;
    bed.letter(Record::new("header", b"e", "{}").header("x-time", "noon"), "bad_header").await;
    bed.letter(Record::new("seconds", b"e", format!(r#"{{"at":{now}}}"#)), "bad_event_time").await;
}

#[tokio::test]
async fn bad_16_event_time_from_each_source_is_understood() {
    let bed = bed().await;
    let (key, now) = (entity("times"), event_now());
    bed.send(Record::new("seconds", &key, format!(r#"{{"at":{}}}"#, now / 1000))).await;
    bed.send(Record::new("header", &key, "{}").header("x-time", "1").header("x-time", now.to_string())).await;
    bed.put(Record::new("stamp", &key, "{}").at(now - 5)).await;
    bed.settled().await;
    assert_eq!(bed.get("seconds", &key).await.event_time_ms, now / 1000 * 1000);
    assert_eq!(bed.get("header", &key).await.event_time_ms, now, "of repeated headers the last counts");
    let row = bed.get("stamp", &key).await;
    assert_eq!((row.event_time_ms, row.expiry_ms), (now - 5, now - 5 + 3_600_000));
}

#[tokio::test]
async fn bad_17_future_beyond_the_bound() {
    let bed = bed().await;
    let (key, now) = (entity("future"), event_now());
    bed.refused(Record::new("points", &key, at(now + 600_000)), "future").await;
    assert_eq!(bed.get("points", &key).await.status, Status::NotFound);
    bed.put(Record::new("points", &key, at(now + 60_000))).await;
    assert_eq!(bed.get("points", &key).await.status, Status::Present, "a little ahead is fine");
}

#[tokio::test]
async fn bad_18_older_than_its_ttl() {
    let bed = bed().await;
    let key = entity("old");
    let before = bed.counters("main").await.expired;
    bed.put(Record::new("points", &key, at(event_now() - 8 * 86_400_000))).await;
    assert_eq!(bed.get("points", &key).await.status, Status::NotFound);
    assert!(bed.counters("main").await.expired > before, "it is counted");
}

#[tokio::test]
async fn bad_18_own_ttl_shortens_or_lengthens_up_to_the_views_maximum() {
    let bed = bed().await;
    let (key, now) = (entity("ttl"), event_now());
    for (ttl, lives) in [("1800000", 1_800_000), ("5400000", 5_400_000), ("99999999999", 7_200_000)] {
        bed.put(Record::new("stamp", &key, "{}").at(now).header("forebay-ttl-ms", ttl)).await;
        assert_eq!(bed.get("stamp", &key).await.expiry_ms, now + lives);
    }
    for ttl in ["0", "-5", "1h", "", "1.5"] {
        bed.letter(Record::new("stamp", &key, "{}").header("forebay-ttl-ms", ttl), "bad_header").await;
    }
}

#[tokio::test]
async fn bad_19_equal_event_time_the_later_position_wins() {
    let bed = bed().await;
    let (key, ts) = (entity("equal"), event_now());
    bed.send(Record::new("points", &key, format!(r#"{{"ts":{ts},"i":1}}"#))).await;
    let later = bed.put(Record::new("points", &key, format!(r#"{{"ts":{ts},"i":2}}"#))).await;
    assert_eq!(bed.get("points", &key).await.place, Some(later));
}

#[tokio::test]
async fn bad_19_equal_event_time_the_source_with_priority_wins() {
    let bed = bed().await;
    let (key, ts) = (entity("source"), event_now());
    let high = bed.put(Record::new("high", &key, at(ts))).await;
    bed.put(Record::new("low", &key, at(ts))).await;
    assert_eq!(bed.get("sources", &key).await.place, Some(high), "whatever came last");
    let newer = bed.put(Record::new("low", &key, at(ts + 1))).await;
    assert_eq!(bed.get("sources", &key).await.place, Some(newer), "event time comes first");
}

#[tokio::test]
async fn bad_20_out_of_order() {
    let bed = bed().await;
    let (key, ts) = (entity("order"), event_now());
    let before = bed.counters("main").await.late;
    let newest = bed.put(Record::new("points", &key, at(ts))).await;
    bed.put(Record::new("points", &key, at(ts - 60_000))).await;
    assert_eq!(bed.get("points", &key).await.place, Some(newest));
    let asked = v1::GetHistoryRequest {
        entity: key.into(),
        view: "points".into(),
        ..v1::GetHistoryRequest::default()
    };
    let times: Vec<i64> = bed.history(asked).await.iter().map(|row| row.event_time_ms).collect();
    assert_eq!(times, [ts, ts - 60_000], "the late one is in the history");
    assert!(bed.counters("main").await.late > before, "it is counted");
}

#[tokio::test]
async fn bad_21_duplicate_delivery() {
    let bed = bed().await;
    let (key, ts) = (entity("twice"), event_now());
    let before = bed.counters("main").await.duplicate;
    bed.put(Record::new("points", &key, at(ts))).await;
    let second = bed.put(Record::new("points", &key, at(ts))).await;
    let row = bed.get("points", &key).await;
    assert_eq!((row.place, row.json), (Some(second), at(ts).into_bytes()));
    assert!(bed.counters("main").await.duplicate > before, "it is counted");
}

#[tokio::test]
async fn bad_22_unknown_view() {
    let bed = bed().await;
    let record = |topic| Record::new(topic, &entity("view"), at(event_now()));
    bed.refused(record("points").header("forebay-view", "pionts"), "unknown_view").await;
    bed.refused(record("points").header("forebay-view", "left"), "unknown_view").await;
    bed.letter(record("pair"), "unknown_view").await;
}

#[tokio::test]
async fn bad_22_the_header_names_one_of_a_topics_views() {
    let bed = bed().await;
    let key = entity("pair");
    let left = Record::new("pair", &key, at(event_now())).header("forebay-view", "left");
    bed.put(left.header("another", "header")).await;
    assert_eq!(bed.get("left", &key).await.status, Status::Present);
    assert_eq!(bed.get("right", &key).await.status, Status::NotFound);
}

#[tokio::test]
async fn bad_25_huge_headers() {
    let bed = bed().await;
    let key = entity("headers");
    let mut record = Record::new("points", &key, at(event_now())).header("huge", vec![b'h'; 500_000]);
    for i in 0..1000 {
        record = record.header(&format!("header-{i}"), "x");
    }
    bed.put(record.clone()).await;
    assert_eq!(bed.get("points", &key).await.status, Status::Present);
    bed.refused(Record { value: Some(b"no".to_vec()), ..record }, "not_json").await;
}

#[tokio::test]
async fn bad_28_wrong_partition_is_counted() {
    let bed = bed().await;
    let before = bed.counters("main").await;
    let key = bed.entity_on(0);
    bed.put(Record::new("points", &key, at(event_now())).on(1)).await;
    eventually("it is counted", || async {
        let now = bed.counters("main").await;
        anyhow::ensure!(now.wrong_partition > before.wrong_partition, "{now:?}");
        anyhow::ensure!(now.applied > before.applied, "besides its outcome: {now:?}");
        Ok(())
    })
    .await;
    let metric = bed.server.metric("forebay_wrong_partition").await;
    assert!(metric.is_some_and(|count| count >= 1.0), "{metric:?}");
}

#[tokio::test]
async fn bad_28_wrong_partition_is_refused_where_it_must_be_right() {
    let bed = bed().await;
    let key = bed.entity_on(0);
    bed.letter(Record::new("strict", &key, at(event_now())).on(1), "wrong_partition").await;
    bed.put(Record::new("strict", &key, at(event_now())).on(0)).await;
    let row = bed.rows(request("strict", &[&key])).await.remove(0);
    assert_eq!(row.status, Status::Present);
}

/// With hashes made of the first four bytes of an entity only: of the true ones nobody knows two that are alike.
#[tokio::test]
async fn an_entity_that_the_index_takes_for_another_is_put_aside_and_the_lane_goes_on() {
    let binary =
        tokio::task::spawn_blocking(|| build_binary("forebay-planted", "forebay-server/planted-bugs"));
    let bed = Bed::new("collision").binary(binary.await.expect("built")).env("FOREBAY_PLANT", "share_hashes");
    let bed = bed.partitions(1).start().await;
    let ts = event_now();
    bed.put(Record::new("points", b"same-1", at(ts))).await;
    bed.letter(Record::new("points", b"same-2", at(ts)), "entity_collision").await;
    bed.put(Record::new("points", b"other", at(ts))).await;
    let found = [&b"same-1"[..], b"same-2", b"other"];
    let mut statuses = Vec::new();
    for entity in found {
        statuses.push(bed.get("points", entity).await.status);
    }
    assert_eq!(statuses, [Status::Present, Status::NotFound, Status::Present]);
}
