//! Documents and the messages they are of, there and back. Tests only.

use bytes::Bytes;
use forebay_proto::v1::{
    Cause, OffsetVector, Outcome, Position, Prediction, PredictionStatus, Snapshot, SnapshotFeature,
    SnapshotValue, Status, TopicOffsets,
};
use proptest::prelude::*;

use super::entry::{OfEntity, diagnosis_of_model, model_key, of_model};
use super::text::is_storable;
use super::{outcome, prediction, snapshot};

fn payload() -> impl Strategy<Value = Bytes> {
    let plain = (any::<i64>(), ".{0,20}").prop_map(|(number, text)| {
        Bytes::from(format!("{{\"n\": {number},\"t\":{}}}", serde_json::Value::from(text)))
    });
    let fixed = [
        "{}",
        " {\"spaces\":\t1}\n",
        "{\"a\":1e400,\"a\":-0,\"b\":1.50}",
        "{\"lone\":\"\\ud800\"}",
        "{\"line\":\n[1,\r\n2]}",
    ];
    let deep = (120..=128usize)
        .prop_map(|depth| Bytes::from(format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))));
    prop_oneof![4 => plain, 2 => prop::sample::select(fixed.to_vec()).prop_map(Bytes::from), 1 => deep]
}

fn feature() -> impl Strategy<Value = SnapshotFeature> {
    let json = prop_oneof!["[0-9]{1,9}".prop_map(Bytes::from), payload(), Just(Bytes::from("\"x\\n\""))];
    (".{0,10}", 0..3, json).prop_map(|(name, status, json)| match status {
        0 => {
            SnapshotFeature { name, status: Status::Present.into(), json: json.trim_ascii().to_vec().into() }
        }
        1 => SnapshotFeature { name, status: Status::Null.into(), json: "null".into() },
        _ => SnapshotFeature { name, status: Status::Invalid.into(), json: Bytes::new() },
    })
}

fn value() -> impl Strategy<Value = SnapshotValue> {
    let features = prop::collection::vec(feature(), 0..4);
    (".{1,10}", any::<bool>(), any::<[i64; 4]>(), any::<u32>(), payload(), features).prop_map(
        |(view, present, [event_time_ms, ingest_time_ms, expiry_ms, offset], partition, json, features)| {
            let missing = SnapshotValue { view, status: Status::NotFound.into(), ..Default::default() };
            let position = Some(Position { topic: "points".into(), partition, offset });
            match present {
                false => missing,
                true => SnapshotValue {
                    status: Status::Present.into(),
                    event_time_ms,
                    ingest_time_ms,
                    expiry_ms,
                    position,
                    json,
                    features,
                    ..missing
                },
            }
        },
    )
}

fn cause() -> impl Strategy<Value = Option<Cause>> {
    prop::option::of((".{0,8}", any::<u32>()).prop_map(|(text, trigger_version)| Cause {
        edge_id: text.clone(),
        trigger: text.clone(),
        trigger_version,
        from_state: "GREEN".into(),
        to_state: text,
    }))
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let entity = prop::collection::vec(any::<u8>(), 1..40);
    let values = prop::collection::vec(value(), 0..4);
    (".{1,20}", entity, any::<i64>(), any::<Option<i64>>(), values, cause()).prop_map(
        |(diagnosis_id, entity, as_of_ms, known_at_ms, values, cause)| {
            let topics = ["a", "b"].map(|topic| TopicOffsets {
                topic: topic.into(),
                partitions: vec![0, 7],
                offsets: vec![5, i64::MAX],
            });
            Snapshot {
                diagnosis_id,
                entity: entity.into(),
                feature_service: "experience@2".into(),
                as_of_ms,
                known_at_ms,
                read_at: Some(OffsetVector { topics: topics.into() }),
                values,
                cause,
                document: Bytes::new(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_snapshot_comes_back_from_its_document_byte_for_byte(snapshot in snapshots()) {
        let document = Bytes::from(snapshot::document(&snapshot));
        prop_assert!(is_storable(&document), "ingest takes it");
        let back = snapshot::parse(document.clone()).expect("its own document");
        prop_assert_eq!(&back.document, &document);
        prop_assert_eq!(snapshot::document(&back), document.to_vec(), "and the document from it");
        prop_assert_eq!(Snapshot { document: Bytes::new(), ..back }, snapshot);
    }

    #[test]
    fn a_prediction_comes_back_from_its_document(
        diagnosis_id in ".{1,20}", entity in prop::collection::vec(any::<u8>(), 1..40),
        numbers in any::<(i64, i64, u32, u32)>(), error in ".{0,20}", cause in cause(), status in 1..6i32,
    ) {
        let outputs_json = Bytes::from(if error.is_empty() { "" } else { "{\"score\": 0.930}" });
        let (predicted_at_ms, as_of_ms, latency_ms, attempts) = numbers;
        let prediction = Prediction {
            diagnosis_id, entity: entity.into(), model: "m@1".into(), model_version: "v".into(),
            predicted_at_ms, latency_ms, status, error, outputs_json, cause, attempts, as_of_ms,
        };
        let document = prediction::document(&prediction).expect("storable");
        prop_assert_eq!(prediction::parse(&document).expect("its own document"), prediction);
    }

    #[test]
    fn documents_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(snapshot::parse(bytes.clone().into()));
        drop(prediction::parse(&bytes));
        drop(outcome::parse(&bytes));
        drop(OfEntity::parse(&bytes));
    }
}

#[test]
fn a_snapshot_document_has_its_keys_in_one_order_and_payloads_as_they_came() {
    let value = SnapshotValue {
        view: "modem".into(),
        status: Status::Present.into(),
        event_time_ms: 1,
        ingest_time_ms: 2,
        expiry_ms: 3,
        position: Some(Position { topic: "t".into(), partition: 4, offset: 5 }),
        json: "{\"snr\": 31.50}".into(),
        features: vec![SnapshotFeature {
            name: "snr".into(),
            status: Status::Present.into(),
            json: "31.5".into(),
        }],
    };
    let snapshot = Snapshot {
        diagnosis_id: "d".into(),
        entity: Bytes::from_static(&[0xff]),
        feature_service: "s@1".into(),
        as_of_ms: 9,
        known_at_ms: Some(8),
        values: vec![value],
        ..Snapshot::default()
    };
    let text = String::from_utf8(snapshot::document(&snapshot)).expect("text");
    assert_eq!(
        text,
        "{\"diagnosis_id\":\"d\",\"entity_base64\":\"/w==\",\"feature_service\":\"s@1\",\"as_of_ms\":9,\
         \"known_at_ms\":8,\"read_at\":[],\"values\":[{\"view\":\"modem\",\"status\":\"PRESENT\",\"version\":\
         {\"event_time_ms\":1,\"ingest_time_ms\":2,\"expiry_ms\":3,\"position\":{\"topic\":\"t\",\"partition\":4,\
         \"offset\":5}},\"features\":[{\"name\":\"snr\",\"status\":\"PRESENT\",\"value\":31.5}],\
         \"json\":{\"snr\": 31.50}}]}"
    );
}

#[test]
fn outcomes_keep_their_detail_and_refuse_what_is_no_object() {
    let outcome = Outcome {
        diagnosis_id: "d".into(),
        label: "confirmed".into(),
        detail_json: "{\"by\": [1,2]}".into(),
        source: "technician".into(),
        event_time_ms: None,
    };
    let back = outcome::parse(&outcome::document(&outcome, 7).expect("storable")).expect("its own document");
    assert_eq!(back, Outcome { event_time_ms: Some(7), ..outcome.clone() });
    for bad in ["[1]", "7", "{", "{} {}"] {
        let error =
            outcome::document(&Outcome { detail_json: bad.into(), ..outcome.clone() }, 7).unwrap_err();
        assert!(error.to_string().contains("detail_json"), "{bad}: {error}");
    }
    let deep = format!("{}1{}", "{\"a\":".repeat(128), "}".repeat(128));
    let error = outcome::document(&Outcome { detail_json: deep.into(), ..outcome }, 7).unwrap_err();
    assert!(error.to_string().contains("128"), "{error}");
}

#[test]
fn index_entries_come_back_and_a_model_is_spread_over_its_keys() {
    let entry = OfEntity {
        diagnosis_id: "d-\"1\"".into(),
        feature_service: "s@1".into(),
        cause: None,
        erased: false,
    };
    assert_eq!(OfEntity::parse(&entry.document()).expect("its own"), entry);
    let erased = OfEntity::erased("d");
    assert_eq!(OfEntity::parse(&erased.document()).expect("its own"), erased);
    assert_eq!(diagnosis_of_model(&of_model("d\n")).expect("its own"), "d\n");
    let partition_of = |key: &[u8]| crate::definitions::Partitioner::Murmur2.partition(key, 64);
    let keys: std::collections::HashSet<_> = (0..64).map(|at| model_key("m@1", at, partition_of)).collect();
    assert_eq!(keys.len(), 64);
    assert!(keys.iter().all(|key| key.starts_with("m@1#")));
    assert_eq!(partition_of(model_key("m@1", 63, partition_of).as_bytes()), 63);
    assert_eq!(PredictionStatus::NotAsked.as_str_name(), "NOT_ASKED");
}
