//! Finding diagnoses again: of an entity, and of a model with what turned out to be true.

use forebay_tests::{event_now, v1};
use futures::future::join_all;
use tonic::Code;

use crate::diagnoses::{Calls, bed, create, outcome, prediction};

#[tokio::test]
async fn the_diagnoses_of_an_entity_are_listed_newest_first_in_pages_and_by_time() {
    let bed = bed().await;
    let (calls, entity, ts) = (Calls(&bed), b"listed".as_slice(), event_now() - 100_000);
    // Three of each moment, written out of order.
    let moments: Vec<(String, i64)> =
        (0..30).map(|i| (format!("l-{i}"), ts + i64::from(i % 10) * 1000)).collect();
    join_all(moments.iter().map(|(id, at)| calls.created(create(id, entity, Some(*at))))).await;
    calls.created(create("not-listed", b"another", Some(ts))).await;
    let request = v1::ListDiagnosesRequest { entity: entity.to_vec().into(), ..Default::default() };
    for limit in [0, 1, 2, 7, 30] {
        let entries = calls.list(v1::ListDiagnosesRequest { limit, ..request.clone() }).await;
        assert!(entries.is_sorted_by(|a, b| a.as_of_ms >= b.as_of_ms), "newest first");
        let mut listed: Vec<_> =
            entries.into_iter().map(|entry| (entry.diagnosis_id, entry.as_of_ms)).collect();
        let mut expected = moments.clone();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected, "pages of {limit}");
    }
    let some = v1::ListDiagnosesRequest {
        from_ms: Some(ts + 2000),
        to_ms: Some(ts + 4000),
        full: true,
        ..request.clone()
    };
    let entries = calls.list(some).await;
    assert_eq!(entries.len(), 6);
    for entry in entries {
        assert!((ts + 2000..ts + 4000).contains(&entry.as_of_ms) && entry.feature_service == "some@2");
        let snapshot = entry.diagnosis.expect("full").snapshot.expect("there");
        assert_eq!((snapshot.diagnosis_id, snapshot.as_of_ms), (entry.diagnosis_id, entry.as_of_ms));
    }
    let many = v1::ListDiagnosesRequest { limit: 1001, ..request.clone() };
    let refused = bed.client.diagnoses.clone().list_diagnoses(many).await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let foreign = v1::ListDiagnosesRequest { page_token: "nonsense".into(), ..request };
    let refused = bed.client.diagnoses.clone().list_diagnoses(foreign).await.expect_err("no token");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn evaluation_joins_prediction_outcome_and_snapshot_oldest_first() {
    let bed = bed().await;
    let (calls, ts, count) = (Calls(&bed), event_now() - 1_000_000, 200);
    let asked_at = |i: i64| ts + i / 4 * 1000;
    let one = async |i: i64| {
        let (id, model) = (format!("v-{i}"), format!("judge@{}", 1 + i % 2));
        calls.created(create(&id, format!("entity-{i}").as_bytes(), Some(ts))).await;
        let said = v1::Prediction { predicted_at_ms: asked_at(i), ..prediction(&id, &model) };
        calls.predict(said).await.expect("kept");
        if i % 3 == 0 {
            calls.outcome(outcome(&id, "confirmed", None)).await.expect("kept");
        }
    };
    join_all((0..count).map(one)).await;
    let request = v1::EvaluateRequest { model: "judge@1".into(), ..Default::default() };
    let all = calls.evaluate(request.clone()).await.expect("all");
    let mut ids: Vec<_> = all.iter().map(|diagnosis| diagnosis.diagnosis_id.clone()).collect();
    let said =
        |diagnosis: &v1::Diagnosis| diagnosis.prediction.as_ref().expect("a prediction").predicted_at_ms;
    assert!(all.is_sorted_by(|a, b| said(a) <= said(b)), "oldest first");
    let mut expected: Vec<_> = (0..count).filter(|i| i % 2 == 0).map(|i| format!("v-{i}")).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    for diagnosis in &all {
        let snapshot = diagnosis.snapshot.as_ref().expect("a snapshot");
        assert_eq!(snapshot.diagnosis_id, diagnosis.diagnosis_id);
        let number: i64 = diagnosis.diagnosis_id[2..].parse().expect("a number");
        assert_eq!(diagnosis.outcome.is_some(), number % 3 == 0);
    }
    let known = v1::EvaluateRequest { only_with_outcome: true, ..request.clone() };
    assert!(calls.evaluate(known).await.expect("some").iter().all(|diagnosis| diagnosis.outcome.is_some()));
    let some = v1::EvaluateRequest { from_ms: Some(ts + 5000), to_ms: Some(ts + 9000), ..request };
    let some = calls.evaluate(some).await.expect("some");
    assert_eq!(some.len(), 8);
    assert!(some.iter().all(|diagnosis| (ts + 5000..ts + 9000).contains(&said(diagnosis))));
}
