//! Diagnoses end to end: a snapshot, what a model said of it, what turned out to be true, and finding them again.

use forebay_tests::v1::{self, PredictionStatus, Snapshot};
use forebay_tests::{Bed, POINTS, Record, Status, event_now};
use tokio::sync::OnceCell;
use tonic::Code;

/// [`POINTS`] with diagnoses.
pub fn definitions() -> String {
    format!("[diagnoses]\ntopic_prefix = \"{{ns}}\"\nttl = \"30d\"\n{POINTS}")
}

/// One server for the tests here; each has entities and diagnoses of its own.
pub async fn bed() -> Bed {
    static BED: OnceCell<Bed> = OnceCell::const_new();
    let start = || Bed::new("diagnoses").definitions(&definitions()).start();
    BED.get_or_init(start).await.look().await
}

/// A request for the features `some@2` of an entity.
pub fn create(id: &str, entity: &[u8], as_of_ms: Option<i64>) -> v1::CreateSnapshotRequest {
    v1::CreateSnapshotRequest {
        diagnosis_id: id.into(),
        entity: entity.to_vec().into(),
        feature_service: "some@2".into(),
        as_of_ms,
        ..Default::default()
    }
}

/// A good prediction of a diagnosis, made now.
pub fn prediction(id: &str, model: &str) -> v1::Prediction {
    v1::Prediction {
        diagnosis_id: id.into(),
        model: model.into(),
        model_version: "7".into(),
        predicted_at_ms: event_now(),
        latency_ms: 12,
        status: PredictionStatus::Ok.into(),
        outputs_json: r#"{"score": 0.930}"#.into(),
        attempts: 1,
        ..Default::default()
    }
}

/// An outcome of a diagnosis.
pub fn outcome(id: &str, label: &str, event_time_ms: Option<i64>) -> v1::Outcome {
    let (diagnosis_id, label) = (id.to_owned(), label.to_owned());
    v1::Outcome { diagnosis_id, label, event_time_ms, ..Default::default() }
}

/// The calls, each on a bed's server.
pub struct Calls<'b>(pub &'b Bed);

type Answer<T> = Result<T, tonic::Status>;

impl Calls<'_> {
    fn to(&self) -> v1::diagnoses_client::DiagnosesClient<tonic::transport::Channel> {
        self.0.client.diagnoses.clone()
    }

    pub async fn create(&self, request: v1::CreateSnapshotRequest) -> Answer<v1::CreateSnapshotResponse> {
        self.to().create_snapshot(request).await.map(tonic::Response::into_inner)
    }

    /// A snapshot that must be new.
    pub async fn created(&self, request: v1::CreateSnapshotRequest) -> Snapshot {
        let answer = self.create(request).await.expect("created");
        assert!(!answer.existed);
        answer.snapshot.expect("a snapshot")
    }

    pub async fn snapshot(&self, id: &str) -> Answer<Snapshot> {
        let request = v1::GetSnapshotRequest { diagnosis_id: id.into(), wait_for: None };
        self.to().get_snapshot(request).await.map(tonic::Response::into_inner)
    }

    pub async fn predict(&self, said: v1::Prediction) -> Answer<v1::RecordPredictionResponse> {
        let request = v1::RecordPredictionRequest { prediction: Some(said) };
        self.to().record_prediction(request).await.map(tonic::Response::into_inner)
    }

    pub async fn outcome(&self, found: v1::Outcome) -> Answer<v1::RecordOutcomeResponse> {
        let request = v1::RecordOutcomeRequest { outcome: Some(found) };
        self.to().record_outcome(request).await.map(tonic::Response::into_inner)
    }

    pub async fn diagnosis(&self, id: &str) -> Answer<v1::Diagnosis> {
        let request = v1::GetDiagnosisRequest { diagnosis_id: id.into(), wait_for: None };
        self.to().get_diagnosis(request).await.map(tonic::Response::into_inner)
    }

    /// All entries of a list, with pages of this size.
    pub async fn list(&self, mut request: v1::ListDiagnosesRequest) -> Vec<v1::DiagnosisEntry> {
        let mut entries = Vec::new();
        loop {
            let page = self.to().list_diagnoses(request.clone()).await.expect("a page").into_inner();
            assert!(page.entries.len() <= request.limit.max(1) as usize || request.limit == 0);
            entries.extend(page.entries);
            if page.next_page_token.is_empty() {
                return entries;
            }
            request.page_token = page.next_page_token;
        }
    }

    pub async fn ids_of(&self, entity: &[u8]) -> Vec<String> {
        let request = v1::ListDiagnosesRequest { entity: entity.to_vec().into(), ..Default::default() };
        self.list(request).await.into_iter().map(|entry| entry.diagnosis_id).collect()
    }

    pub async fn evaluate(&self, request: v1::EvaluateRequest) -> Answer<Vec<v1::Diagnosis>> {
        let mut stream = self.to().evaluate(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(diagnosis) = stream.message().await? {
            all.push(diagnosis);
        }
        Ok(all)
    }
}

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> (Code, String) {
    let status = answer.expect_err("refused");
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_snapshot_has_the_features_of_its_moment_and_is_read_back() {
    let bed = bed().await;
    let (calls, entity, ts) = (Calls(&bed), bed.entity_on(0), event_now() - 1000);
    let old = format!("{{\"ts\":{ts},\"i\":1,\"s\": \"caf\\u00e9\", \"x\":[1.50]}}");
    let place = bed.put(Record::new("points", &entity, old.clone())).await;
    bed.put(Record::new("points", &entity, format!("{{\"ts\":{},\"i\":2}}", ts + 500))).await;
    let cause = v1::Cause {
        edge_id: "e-1".into(),
        trigger: "red".into(),
        trigger_version: 3,
        from_state: "GREEN".into(),
        to_state: "RED".into(),
    };
    let request = v1::CreateSnapshotRequest { cause: Some(cause), ..create("moment", &entity, Some(ts)) };
    let kept = calls.created(request).await;
    let value = &kept.values[0];
    assert_eq!(
        (value.status(), value.event_time_ms, value.json.as_ref()),
        (Status::Present, ts, old.as_bytes())
    );
    assert_eq!(value.position.as_ref().map(|at| at.offset), Some(place.offset));
    let features: Vec<_> = value.features.iter().map(|f| (f.name.as_str(), f.json.as_ref())).collect();
    assert_eq!(features, [("s", "\"caf\u{e9}\"".as_bytes()), ("i", b"1".as_slice())]);
    let document = String::from_utf8(kept.document.to_vec()).expect("text");
    assert!(document.contains(&old), "the payload is embedded byte for byte: {document}");
    assert_eq!(calls.snapshot("moment").await.expect("there"), kept);
    assert_eq!(calls.ids_of(&entity).await, ["moment"]);
}

#[tokio::test]
async fn an_entity_that_is_no_text_and_has_nothing_has_a_snapshot_too() {
    let bed = bed().await;
    let (calls, entity) = (Calls(&bed), [0xff, 0, 0x80]);
    let kept = calls.created(create("bytes", &entity, None)).await;
    assert_eq!((kept.entity.as_ref(), kept.values[0].status()), (entity.as_slice(), Status::NotFound));
    assert_eq!(kept.values[0].features[0].status(), Status::NotFound);
    assert_eq!(calls.snapshot("bytes").await.expect("there"), kept);
    assert_eq!(calls.ids_of(&entity).await, ["bytes"]);
}

#[tokio::test]
async fn the_same_again_gives_what_was_kept_and_something_else_is_refused_by_name() {
    let bed = bed().await;
    let (calls, entity, ts) = (Calls(&bed), bed.entity_on(1), event_now());
    bed.put(Record::new("points", &entity, format!("{{\"ts\":{ts},\"i\":1}}"))).await;
    let kept = calls.created(create("again", &entity, Some(ts))).await;
    bed.put(Record::new("points", &entity, format!("{{\"ts\":{ts},\"i\":2}}"))).await;
    let open = v1::CreateSnapshotRequest { feature_service: "some".into(), ..create("again", &entity, None) };
    for request in [create("again", &entity, Some(ts)), open] {
        let again = calls.create(request).await.expect("the same");
        assert_eq!((again.existed, again.snapshot), (true, Some(kept.clone())));
    }
    let other = |change: fn(&mut v1::CreateSnapshotRequest)| {
        let mut request = create("again", &entity, Some(ts));
        change(&mut request);
        request
    };
    for (request, named) in [
        (other(|request| request.entity = "other".into()), "entity"),
        (other(|request| request.feature_service = "some@1".into()), "feature_service"),
        (other(|request| request.as_of_ms = Some(request.as_of_ms.unwrap() - 1)), "as_of_ms"),
        (other(|request| request.known_at_ms = Some(5)), "known_at_ms"),
    ] {
        let (code, message) = code(calls.create(request).await);
        assert!(code == Code::AlreadyExists && message.contains(named), "{named}: {message}");
    }
    assert_eq!(calls.ids_of(&entity).await, ["again"], "listed once");
}

#[tokio::test]
async fn bad_49_snapshot_ids_that_are_none_and_one_used_for_something_else() {
    let bed = bed().await;
    let calls = Calls(&bed);
    for id in [String::new(), "x".repeat(1024)] {
        for refused in [
            code(calls.create(create(&id, b"e", None)).await),
            code(calls.snapshot(&id).await),
            code(calls.diagnosis(&id).await),
            code(calls.predict(prediction(&id, "m@1")).await),
            code(calls.outcome(outcome(&id, "right", None)).await),
        ] {
            assert!(
                refused.0 == Code::InvalidArgument && refused.1.contains("1 to 255 bytes"),
                "{refused:?}"
            );
        }
    }
    calls.created(create("reused", b"one", Some(event_now()))).await;
    let refused = code(calls.create(create("reused", b"two", None)).await);
    assert!(refused.0 == Code::AlreadyExists && refused.1.contains("entity"), "{refused:?}");
    assert_eq!(code(calls.snapshot("never").await).0, Code::NotFound);
    let longest = "y".repeat(255);
    calls.created(create(&longest, b"one", None)).await;
    assert_eq!(calls.snapshot(&longest).await.expect("there").diagnosis_id, longest);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_nothing_is_kept() {
    let bed = bed().await;
    let calls = Calls(&bed);
    let (far, now) = (1000 * 86_400_000, event_now());
    for (request, named) in [
        (create("bad", b"", None), "entity"),
        (create("bad", &[b'e'; 256], None), "entity"),
        (create("bad", b"e", Some(-5)), "as_of_ms"),
        (create("bad", b"e", Some(now + far)), "ahead of now"),
        (create("bad", b"e", Some(now - 31 * 86_400_000)), "ago"),
        (
            v1::CreateSnapshotRequest { feature_service: "sume".into(), ..create("bad", b"e", None) },
            "\"some\"",
        ),
        (v1::CreateSnapshotRequest { known_at_ms: Some(-1), ..create("bad", b"e", None) }, "known_at_ms"),
    ] {
        let (code, message) = code(calls.create(request).await);
        assert!(code == Code::InvalidArgument && message.contains(named), "{named}: {message}");
    }
    calls.created(create("bad", b"e", None)).await;
    for (said, named) in [
        (v1::Prediction { model: "m".into(), ..prediction("bad", "m@1") }, "name@version"),
        (v1::Prediction { status: 0, ..prediction("bad", "m@1") }, "status"),
        (v1::Prediction { predicted_at_ms: 5, ..prediction("bad", "m@1") }, "predicted_at_ms"),
        (v1::Prediction { outputs_json: "[1]".into(), ..prediction("bad", "m@1") }, "outputs_json"),
        (v1::Prediction { entity: "f".into(), ..prediction("bad", "m@1") }, "entity"),
    ] {
        let (code, message) = code(calls.predict(said).await);
        assert!(code == Code::InvalidArgument && message.contains(named), "{named}: {message}");
    }
    for (found, named) in [
        (outcome("bad", "", None), "label"),
        (outcome("bad", "x", Some(now + far)), "event_time_ms"),
        (v1::Outcome { detail_json: "nope".into(), ..outcome("bad", "x", None) }, "detail_json"),
    ] {
        let (code, message) = code(calls.outcome(found).await);
        assert!(code == Code::InvalidArgument && message.contains(named), "{named}: {message}");
    }
    assert_eq!(code(calls.predict(prediction("none", "m@1")).await).0, Code::NotFound);
    assert_eq!(code(calls.outcome(outcome("none", "x", None)).await).0, Code::NotFound);
    let diagnosis = calls.diagnosis("bad").await.expect("its snapshot is there");
    assert_eq!((diagnosis.prediction, diagnosis.outcome), (None, None));
}

#[tokio::test]
async fn a_prediction_is_kept_once_and_completed_from_its_snapshot() {
    let bed = bed().await;
    let (calls, ts) = (Calls(&bed), event_now());
    calls.created(create("said", b"said", Some(ts))).await;
    let said = prediction("said", "m@1");
    let first = calls.predict(said.clone()).await.expect("kept");
    let again = calls.predict(said.clone()).await.expect("the same again");
    assert_eq!((first.existed, again.existed), (false, true));
    let other = v1::Prediction { outputs_json: r#"{"score": 0.1}"#.into(), ..said.clone() };
    let (code, message) = code(calls.predict(other).await);
    assert!(code == Code::AlreadyExists && message.contains("0.930") && message.contains("0.1"), "{message}");
    let kept = calls.diagnosis("said").await.expect("there").prediction.expect("kept");
    assert_eq!(kept, v1::Prediction { entity: "said".into(), as_of_ms: ts, ..said });
    let waited = v1::GetDiagnosisRequest { diagnosis_id: "said".into(), wait_for: first.positions };
    bed.client.diagnoses.clone().get_diagnosis(waited).await.expect("its positions are applied");
}

#[tokio::test]
async fn an_outcome_may_be_corrected_and_the_newest_event_time_counts() {
    let bed = bed().await;
    let (calls, ts) = (Calls(&bed), event_now());
    calls.created(create("found", b"found", None)).await;
    for (label, time, counts) in [
        ("first", Some(ts - 10), "first"),
        ("later", Some(ts), "later"),
        ("late", Some(ts - 5), "later"),
        ("corrected", Some(ts), "corrected"),
    ] {
        let found = v1::Outcome { detail_json: r#"{"n": 1}"#.into(), ..outcome("found", label, time) };
        calls.outcome(found).await.expect("kept");
        let kept = calls.diagnosis("found").await.expect("there").outcome.expect("an outcome");
        assert_eq!((kept.label.as_str(), kept.detail_json.as_ref()), (counts, b"{\"n\": 1}".as_slice()));
    }
}

#[tokio::test]
async fn what_is_the_servers_own_is_not_pushed_or_deleted() {
    let bed = bed().await;
    let data_points = vec![v1::DataPoint {
        entity: "d".into(),
        view: "forebay.snapshots".into(),
        json: "{}".into(),
        ..Default::default()
    }];
    let push = v1::PushFeaturesRequest { data_points };
    let refused = bed.client.store.clone().push_features(push).await.expect_err("refused");
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("server's own"),
        "{refused:?}"
    );
    let views = vec!["forebay.predictions".to_owned()];
    let delete = v1::DeleteFeaturesRequest { entities: vec!["d".into()], views, event_time_ms: None };
    let refused = bed.client.store.clone().delete_features(delete).await.expect_err("refused");
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("server's own"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_without_diagnoses_says_what_to_add() {
    let bed = crate::shared::bed().await;
    let calls = Calls(&bed);
    for refused in [
        code(calls.create(create("d", b"e", None)).await),
        code(calls.snapshot("d").await),
        code(calls.evaluate(v1::EvaluateRequest { model: "m@1".into(), ..Default::default() }).await),
    ] {
        assert!(refused.0 == Code::FailedPrecondition && refused.1.contains("[diagnoses]"), "{refused:?}");
    }
}
