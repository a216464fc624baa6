//! P18: poison among good records. None of it blocks its partition and none of it vanishes.

use forebay_tests::{Bed, Place, Record, event_now};

/// One of each kind of bad record and its reason.
fn poison(now: i64) -> Vec<(Record, &'static str)> {
    let record = |payload: &str| Record::new("points", b"bad", payload.replace("{ts}", &now.to_string()));
    let fine = r#"{"ts":{ts}}"#;
    vec![
        (record(fine).keyless().on(0), "null_key"),
        (Record::new("points", b"", "{}").on(1), "empty_key"),
        (Record::new("points", &[b'k'; 300], "{}"), "key_too_long"),
        (record(fine).header("forebay-view", "later"), "unknown_view"),
        (record(&format!(r#"{{"ts":{{ts}},"x":"{}"}}"#, "x".repeat(1 << 20))), "too_large"),
        (record(""), "not_json"),
        (record("<xml/>"), "not_json"),
        (record(r#"{"ts":{ts}"#), "not_json"),
        (Record::new("points", b"bad", vec![0xff, 0x00, 0xfe]), "not_json"),
        (record(&"[".repeat(100)), "not_json"),
        (record(&format!("{}{}", r#"{"a":"#.repeat(500), "1".to_owned() + &"}".repeat(500))), "too_deep"),
        (record("[1]"), "not_object"),
        (record("{}"), "no_event_time"),
        (record(r#"{"ts":"soon"}"#), "bad_event_time"),
        (record(r#"{"ts":99999999999999}"#), "bad_event_time"),
        (record(&format!(r#"{{"ts":{}}}"#, now + 3_600_000)), "future"),
        (record(fine).header("forebay-ttl-ms", "soon"), "bad_header"),
        (Record::tombstone("points", b"bad").header("forebay-event-time", "soon"), "bad_header"),
    ]
}

#[tokio::test]
async fn p18_poison_messages_neither_block_nor_vanish() {
    let mut bed = Bed::new("p18").start().await;
    let now = event_now();
    let (mut sent, mut good) = (Vec::new(), Vec::new());
    for round in 0..5 {
        for (i, (record, reason)) in poison(now).into_iter().enumerate() {
            sent.push((record, Some(reason)));
            let key = format!("good{i}").into_bytes();
            sent.push((Record::new("points", &key, format!(r#"{{"ts":{},"i":{i}}}"#, now + round)), None));
        }
    }
    let places = bed.send_all(sent.iter().map(|(record, _)| record.clone())).await;
    bed.applied(&places).await;
    let model = bed.model().await;
    let check = async |bed: &Bed, model: &forebay_tests::Model| {
        assert_eq!(bed.differences(model).await, Vec::<String>::new(), "every good one is readable");
        bed.dead_letters_agree(model).await;
    };
    check(&bed, &model).await;
    for ((record, reason), place) in sent.iter().zip(&places) {
        match reason {
            Some(reason) => good_letter(&bed, record, place, reason, &model),
            None => good.push(place.clone()),
        }
    }
    let letters = bed.kafka.dead_letters(&bed.topic("dlq")).await;
    for ((record, reason), place) in sent.iter().zip(&places).filter(|((_, reason), _)| reason.is_some()) {
        let letter = &letters[place];
        assert_eq!(letter.header("forebay-dlq-reason").as_deref(), *reason);
        assert!(letter.key == record.key && letter.value == record.value, "original bytes of {place:?}");
    }
    let counters = bed.counters("main").await;
    assert_eq!(counters.dead_lettered as usize, sent.len() - good.len());
    let total =
        counters.applied + counters.late + counters.duplicate + counters.dead_lettered + counters.expired;
    assert_eq!(total as usize, sent.len(), "each counts once: {counters:?}");
    // Nothing is lost or doubled in the store by a crash; letters may come twice, never not at all.
    bed.server.kill9();
    bed.restart().await;
    check(&bed, &model).await;
}

fn good_letter(bed: &Bed, record: &Record, place: &Place, reason: &str, model: &forebay_tests::Model) {
    let expected = model.refused.get(place);
    let agrees = matches!(expected, Some(forebay_tests::Why::Dead(why)) if *why == reason);
    assert!(agrees, "{}: the model of {record:?} says {expected:?}, not {reason}", bed.namespace);
}
