//! `forebay execute` against a real broker, a real server and real model servers: an edge becomes a diagnosis, once, whatever
//! happens to the executor.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use forebay_tests::v1::{self, Diagnosis, PredictionStatus};
use forebay_tests::{Bed, POINTS, Place, Program, Record, event_now, eventually};
use serde_json::json;
use tonic::Code;

/// A trigger whose edges tests produce by hand: it never changes state by itself.
const TRIGGER: &str = r#"
[[trigger]]
name = "low"
id = 90
version = 1
view = "points"
edges_topic = "{ns}.edges"
rules = [{ state = "RED", when = "d < -1000000.0" }]
"#;

/// Where an executor's topics are; the server's lanes know nothing of them.
pub const CONFIG: &str =
    "[execute]\nrequests_topic = \"{ns}.requests\"\ndead_letter_topic = \"{ns}.execute-dlq\"\n";

/// A model of that trigger, over `points.d` and `points.i`, with more of its keys.
pub fn model(name: &str, endpoint: &str, more: &str) -> String {
    format!(
        "[[model]]\nname = \"{name}\"\nversion = 1\nendpoint = \"{endpoint}\"\nfeature_service = \"all@1\"\n\
         triggers = [\"low\"]\nbackoff = \"10ms\"\n{more}\n\
         inputs = [{{ tensor = \"x\", datatype = \"FP64\", features = [\"points.d\", \"points.i\"] }}]\n\
         outputs = [{{ tensor = \"score\", datatype = \"FP64\" }}, {{ tensor = \"label\", datatype = \"BYTES\" }}]\n"
    )
}

/// A bed with diagnoses, the trigger, these models (or other definitions) and the executor's topics.
pub async fn bed(name: &str, models: &str) -> Bed {
    let definitions =
        format!("[diagnoses]\ntopic_prefix = \"{{ns}}\"\nttl = \"30d\"\n{POINTS}{TRIGGER}{models}");
    let (config, kafka, namespace, definitions) = Bed::new(name).definitions(&definitions).prepare().await;
    let text =
        std::fs::read_to_string(config.file()).expect("readable") + &CONFIG.replace("{ns}", &namespace);
    std::fs::write(config.file(), text).expect("written");
    let topics = ["edges", "requests", "execute-dlq"].map(|name| format!("{namespace}.{name}"));
    kafka.create_topics(&topics.each_ref().map(String::as_str), 2).await;
    let server = config.start().await;
    server.wait_ready().await;
    let client = server.connect().await;
    Bed { kafka, namespace, definitions, server, client, partitions: 2 }
}

/// A data point, and the edge that it caused; the edge is not sent yet.
pub async fn edge(bed: &Bed, id: &str, entity: &[u8], d: f64) -> Record {
    let ts = event_now();
    let place = bed.send(Record::new("points", entity, format!(r#"{{"ts":{ts},"d":{d},"i":10}}"#))).await;
    told(id, entity, ts, &place)
}

/// An edge as a trigger tells it.
fn told(id: &str, entity: &[u8], ts: i64, place: &Place) -> Record {
    let edge = json!({
        "edge_id": id, "trigger": "low", "trigger_version": 1, "view": "points",
        "entity": String::from_utf8_lossy(entity), "from": "GREEN", "to": "RED",
        "event_time_ms": ts, "ingest_time_ms": ts + 60_000, "since_ms": ts, "lane": "main",
        "position": {"topic": place.topic, "partition": place.partition, "offset": place.offset},
    });
    Record::new("edges", entity, edge.to_string()).header("forebay-edge-id", id)
}

/// What is kept under an id.
pub async fn diagnosis(bed: &Bed, id: &str) -> Result<Diagnosis, tonic::Status> {
    let request = v1::GetDiagnosisRequest { diagnosis_id: id.into(), wait_for: None };
    bed.client.diagnoses.clone().get_diagnosis(request).await.map(tonic::Response::into_inner)
}

/// The diagnosis of this id, once it has a prediction.
pub async fn predicted(bed: &Bed, id: &str) -> Diagnosis {
    eventually(&format!("{id} has a prediction"), || async {
        let found = diagnosis(bed, id).await?;
        ensure!(found.prediction.is_some(), "no prediction yet");
        Ok(found)
    })
    .await
}

/// What the toy model makes of its inputs.
fn score(elements: &[f64]) -> f64 {
    let mean = elements.iter().sum::<f64>() / elements.len() as f64;
    1.0 / (1.0 + ((mean - 30.0) / 5.0).exp())
}

/// That two numbers are the same, but for the last digit that reading JSON may change.
pub fn assert_same(found: &serde_json::Value, expected: f64) {
    let found = found.as_f64().expect("a number");
    assert!((found - expected).abs() <= expected.abs() * 1e-15, "{found} is not {expected}");
}

/// Predictions of a model by diagnosis id, with how often each is listed.
pub async fn predictions(bed: &Bed, model: &str) -> anyhow::Result<BTreeMap<String, Vec<v1::Prediction>>> {
    let request = v1::EvaluateRequest { model: model.into(), ..Default::default() };
    let mut stream = bed.client.diagnoses.clone().evaluate(request).await?.into_inner();
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    while let Some(diagnosis) = stream.message().await? {
        all.entry(diagnosis.diagnosis_id).or_default().extend(diagnosis.prediction);
    }
    Ok(all)
}

#[tokio::test]
async fn an_edge_becomes_a_diagnosis() {
    let toy = Program::toy_model(&["--input", "x:FP64:2"]).await;
    let bed = bed("execute", &model("judge", &toy.endpoint(), "")).await;
    let mut executor = Program::executor(&bed.server, &[]).await;
    let record = edge(&bed, "e1", b"c-1", 12.5).await;
    bed.send(record).await;
    let found = predicted(&bed, "e1").await;
    let (snapshot, prediction) =
        (found.snapshot.expect("a snapshot"), found.prediction.expect("a prediction"));
    assert_eq!(snapshot.feature_service, "all@1");
    assert_eq!((prediction.status(), prediction.error.as_str()), (PredictionStatus::Ok, ""));
    let outputs: serde_json::Value = serde_json::from_slice(&prediction.outputs_json).expect("JSON");
    assert_same(&outputs["score"], score(&[12.5, 10.0]));
    assert_eq!(outputs["label"], "bad");
    assert_eq!((prediction.model.as_str(), prediction.attempts), ("judge@1", 1));
    let cause = prediction.cause.expect("the edge");
    assert_eq!(
        (cause.edge_id.as_str(), cause.trigger.as_str(), cause.to_state.as_str()),
        ("e1", "low", "RED")
    );
    assert_eq!(snapshot.cause, Some(cause));
    let ok = "forebay_execute_predictions_total{model=\"judge@1\",status=\"OK\"}";
    assert_eq!(executor.metric(ok).await.expect("a count"), 1.0);
    assert_eq!(executor.http_get("/readyz").await.expect("an answer").0, 200);
    assert_eq!(executor.terminate().await, 0);
    let group = format!("{}.execute.judge.1", bed.namespace);
    let committed: i64 = bed.kafka.committed(&group, &bed.topic("edges")).await.into_iter().sum();
    assert_eq!(committed, 0, "the edge's offset is committed, the other partition has none");
}

#[tokio::test]
async fn each_edge_is_judged_once_though_the_executor_is_killed() {
    let toy = Program::toy_model(&["--delay-ms", "5", "--fail-rate", "0.1"]).await;
    let limits = "attempts = 10\nmax_in_flight = 4\ncircuit = { failures = 0 }";
    let bed = bed("execute_kill", &model("judge", &toy.endpoint(), limits)).await;
    let mut wanted = BTreeMap::new();
    let mut edges = Vec::new();
    for i in 0..300 {
        let (id, entity) = (format!("e{i:03}"), format!("c-{i}"));
        edges.push(edge(&bed, &id, entity.as_bytes(), f64::from(i)).await);
        wanted.insert(id, score(&[f64::from(i), 10.0]));
    }
    let mut executor = Program::executor(&bed.server, &[]).await;
    for part in edges.chunks(50) {
        // Each edge twice, as a trigger that could not know whether it told it.
        bed.send_all(part.iter().chain(part).cloned()).await;
        let aim = rand::random_range(1.0..40.0);
        eventually("some are judged", || async {
            let done = executor.metric("forebay_execute_snapshots_total{model=\"judge@1\"}").await?;
            ensure!(done >= aim, "{done}");
            Ok(())
        })
        .await;
        executor.kill9();
        executor = Program::executor(&bed.server, &[]).await;
    }
    let found = eventually("every edge is judged", || async {
        let found = predictions(&bed, "judge@1").await?;
        ensure!(found.len() == wanted.len(), "{} of {}", found.len(), wanted.len());
        Ok(found)
    })
    .await;
    for (id, score) in &wanted {
        let [prediction] = &found[id][..] else { panic!("{id} is listed {} times", found[id].len()) };
        assert_eq!(prediction.status(), PredictionStatus::Ok, "{prediction:?}");
        let outputs: serde_json::Value = serde_json::from_slice(&prediction.outputs_json).expect("JSON");
        assert_same(&outputs["score"], *score);
        let kept = diagnosis(&bed, id).await.expect("kept");
        assert_eq!(kept.prediction.as_ref(), Some(prediction));
        assert!(kept.snapshot.is_some());
    }
    assert_eq!(bed.kafka.read_topic(&bed.topic("execute-dlq")).await.len(), 0);
}

#[tokio::test]
async fn a_diagnosis_can_be_asked_for() {
    let toy = Program::toy_model(&[]).await;
    let bed = bed("execute_ask", &model("judge", &toy.endpoint(), "")).await;
    let _executor = Program::executor(&bed.server, &[]).await;
    let ts = event_now();
    bed.put(Record::new("points", b"c-1", format!(r#"{{"ts":{ts},"d":50,"i":40}}"#))).await;
    let ask = |request: serde_json::Value| Record::new("requests", b"", request.to_string()).keyless();
    let asked = [
        json!({"diagnosis_id": "by-model", "entity": "c-1", "model": "judge"}),
        json!({"diagnosis_id": "before", "entity": "c-1", "model": "judge@1", "as_of_ms": ts - 1}),
        json!({"diagnosis_id": "frozen", "entity": "c-1", "feature_service": "some"}),
    ];
    bed.send_all(asked.into_iter().map(ask)).await;
    let prediction = predicted(&bed, "by-model").await.prediction.expect("a prediction");
    let outputs: serde_json::Value = serde_json::from_slice(&prediction.outputs_json).expect("JSON");
    assert_same(&outputs["score"], score(&[50.0, 40.0]));
    assert_eq!(outputs["label"], "good");
    assert_eq!(prediction.cause, None);
    let before = predicted(&bed, "before").await.prediction.expect("a prediction");
    assert_eq!((before.status(), before.attempts), (PredictionStatus::NotAsked, 0));
    assert!(before.error.starts_with("points.d has no value: "), "{before:?}");
    let frozen = eventually("the snapshot is there", || async { Ok(diagnosis(&bed, "frozen").await?) }).await;
    assert_eq!(frozen.snapshot.expect("a snapshot").feature_service, "some@2");
    assert_eq!(frozen.prediction, None);
}

#[tokio::test]
async fn bad_edges_and_requests_are_put_aside_and_hold_up_nobody() {
    let toy = Program::toy_model(&[]).await;
    let bed = bed("execute_bad", &model("judge", &toy.endpoint(), "")).await;
    let executor = Program::executor(&bed.server, &[]).await;
    let bad = [
        ("edges", "nope".to_owned(), "bad_edge"),
        ("edges", json!({"edge_id": "x", "trigger": "low"}).to_string(), "bad_edge"),
        ("requests", json!({"diagnosis_id": "", "model": "judge"}).to_string(), "bad_request"),
        ("requests", json!({"diagnosis_id": "d", "model": "jugde"}).to_string(), "unknown_model"),
        (
            "requests",
            json!({"diagnosis_id": "d", "feature_service": "al"}).to_string(),
            "unknown_feature_service",
        ),
    ];
    let records = bad.iter().map(|(topic, payload, _)| Record::new(topic, b"c-1", payload.as_bytes()));
    bed.send_all(records).await;
    let record = edge(&bed, "good", b"c-1", 12.5).await;
    bed.send(record).await;
    predicted(&bed, "good").await;
    let letters = eventually("the letters are there", || async {
        let letters = bed.kafka.read_topic(&bed.topic("execute-dlq")).await;
        ensure!(letters.len() >= bad.len(), "{}", letters.len());
        Ok(letters)
    })
    .await;
    let told: BTreeSet<_> = letters
        .iter()
        .map(|letter| {
            let text = String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default()).into_owned();
            assert!(letter.header("forebay-dlq-detail").is_some_and(|detail| !detail.is_empty()));
            (text, letter.header("forebay-dlq-reason").expect("a reason"))
        })
        .collect();
    let wanted: BTreeSet<_> =
        bad.iter().map(|(_, payload, reason)| (payload.clone(), (*reason).to_owned())).collect();
    assert_eq!(told, wanted);
    assert_eq!(letters.len(), bad.len(), "each once");
    assert_eq!(
        executor.metric("forebay_execute_dead_letters_total{model=\"keeper\"}").await.expect("a count"),
        5.0
    );
    let none = diagnosis(&bed, "d").await.expect_err("nothing came of them");
    assert_eq!(none.code(), Code::NotFound);
}

/// A trigger that tells edges by itself.
const DROP: &str = r#"
[[trigger]]
name = "drop"
id = 91
version = 1
view = "points"
edges_topic = "{ns}.edges"
rules = [{ state = "RED", when = "d < 10" }]
"#;

#[tokio::test]
async fn p12_a_diagnosis_sees_the_features_of_its_edge_and_nothing_later() {
    let toy = Program::toy_model(&[]).await;
    let judge = model("judge", &toy.endpoint(), "states = [\"RED\"]").replace("\"low\"", "\"drop\"");
    let bed = bed("execute_trigger", &format!("{DROP}{judge}")).await;
    let (ts, entities) = (event_now() - 10_000, 40);
    let point = |entity: i64, at: i64, d: i64| {
        Record::new(
            "points",
            format!("c-{entity}").as_bytes(),
            format!(r#"{{"ts":{},"d":{d},"i":{entity}}}"#, ts + at),
        )
    };
    // Good, bad, and good again before anybody judges.
    for (at, d) in [(0, 50), (1_000, 5), (2_000, 60)] {
        bed.send_all((0..entities).map(|entity| point(entity, at, d))).await;
    }
    bed.settled().await;
    let _executor = Program::executor(&bed.server, &[]).await;
    let found = eventually("every fall is judged", || async {
        let found = predictions(&bed, "judge@1").await?;
        ensure!(found.len() == entities as usize, "{}", found.len());
        Ok(found)
    })
    .await;
    for (id, predictions) in found {
        let [prediction] = &predictions[..] else { panic!("{id} is listed {} times", predictions.len()) };
        let cause = prediction.cause.clone().expect("an edge");
        assert_eq!(
            (cause.edge_id, cause.from_state.as_str(), cause.to_state.as_str()),
            (id.clone(), "GREEN", "RED")
        );
        let entity: i64 =
            std::str::from_utf8(&prediction.entity[2..]).expect("text").parse().expect("a number");
        let outputs: serde_json::Value = serde_json::from_slice(&prediction.outputs_json).expect("JSON");
        assert_same(&outputs["score"], score(&[5.0, entity as f64]));
        let snapshot = diagnosis(&bed, &id).await.expect("kept").snapshot.expect("a snapshot");
        let seen = &snapshot.values[0];
        assert_eq!((snapshot.as_of_ms, seen.event_time_ms), (ts + 1_000, ts + 1_000));
        assert_eq!(Some(seen.json.as_ref()), point(entity, 1_000, 5).value.as_deref());
    }
}
