//! Jobs against a store that is played here and the toy model, both over real gRPC. Tests only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forebay_proto::v1::diagnoses_server::{Diagnoses, DiagnosesServer};
use forebay_proto::v1::*;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::{Request, Response};

use super::counts::Counts;
use super::job::Job;
use super::model::Asked;
use super::store::Store;
use super::tensors::tests::{model, snapshot};
use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::Model;
use crate::demo::model::{Behaviour, score, serve};

/// A store that keeps what it is given, and is away for so many calls.
#[derive(Default)]
struct Played {
    away: AtomicUsize,
    snapshots: Mutex<HashMap<String, Snapshot>>,
    predictions: Mutex<HashMap<String, Prediction>>,
}

type Answer<T> = Result<Response<T>, tonic::Status>;

impl Played {
    fn is_here(&self) -> Result<(), tonic::Status> {
        let away = self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |away| away.checked_sub(1));
        if away.is_ok() { Err(tonic::Status::unavailable("away")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl Diagnoses for Played {
    async fn assemble_snapshot(&self, _: Request<CreateSnapshotRequest>) -> Answer<Snapshot> {
        unreachable!("one server has everything")
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Answer<CreateSnapshotResponse> {
        self.is_here()?;
        let asked = request.into_inner();
        if asked.feature_service != "health@1" {
            return Err(tonic::Status::invalid_argument("no such feature service"));
        }
        let mut all = self.snapshots.lock();
        let existed = all.contains_key(&asked.diagnosis_id);
        let fresh = snapshot(&[("snr", "20.0"), ("errors", "10")]);
        let snapshot = all.entry(asked.diagnosis_id).or_insert(fresh).clone();
        Ok(Response::new(CreateSnapshotResponse { snapshot: Some(snapshot), existed }))
    }

    async fn get_snapshot(&self, _: Request<GetSnapshotRequest>) -> Answer<Snapshot> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn record_prediction(
        &self,
        request: Request<RecordPredictionRequest>,
    ) -> Answer<RecordPredictionResponse> {
        self.is_here()?;
        let prediction = request.into_inner().prediction.unwrap_or_default();
        let mut all = self.predictions.lock();
        match all.get(&prediction.diagnosis_id) {
            Some(kept) if *kept != prediction => Err(tonic::Status::already_exists("another")),
            _ => {
                all.insert(prediction.diagnosis_id.clone(), prediction);
                Ok(Response::new(RecordPredictionResponse::default()))
            }
        }
    }

    async fn record_outcome(&self, _: Request<RecordOutcomeRequest>) -> Answer<RecordOutcomeResponse> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn get_diagnosis(&self, request: Request<GetDiagnosisRequest>) -> Answer<Diagnosis> {
        let diagnosis_id = request.into_inner().diagnosis_id;
        let prediction = self.predictions.lock().get(&diagnosis_id).cloned();
        Ok(Response::new(Diagnosis { diagnosis_id, prediction, ..Diagnosis::default() }))
    }

    async fn list_diagnoses(&self, _: Request<ListDiagnosesRequest>) -> Answer<ListDiagnosesResponse> {
        Err(tonic::Status::unimplemented("not played"))
    }

    type EvaluateStream = BoxStream<'static, Result<Diagnosis, tonic::Status>>;

    async fn evaluate(&self, _: Request<EvaluateRequest>) -> Answer<Self::EvaluateStream> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn erase_entity(&self, _: Request<EraseEntityRequest>) -> Answer<EraseEntityResponse> {
        Err(tonic::Status::unimplemented("not played"))
    }
}

/// A played store, and a model that behaves.
struct Stage {
    played: Arc<Played>,
    store: Store,
    model: Arc<Asked>,
    counts: Counts,
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, address)
}

fn asked(definition: Model) -> Arc<Asked> {
    Arc::new(Asked::new(definition, Clock::system()).expect("an address"))
}

impl Stage {
    async fn set(behaviour: Behaviour, change: impl FnOnce(&mut Model)) -> Stage {
        let (listener, server) = listen().await;
        let played = Arc::new(Played::default());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let service = DiagnosesServer::from_arc(played.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        let (listener, endpoint) = listen().await;
        tokio::spawn(serve(listener, behaviour, std::future::pending()));
        let mut definition = Model { endpoint, ..model() };
        definition.outputs[0].tensor = "score".into();
        change(&mut definition);
        let overrides = [("FOREBAY_EXECUTE_SERVERS".to_owned(), server)];
        let config = Config::parse("forebay.toml", "", std::path::Path::new("."), overrides).expect("right");
        let store = Store::new(&config.execute).expect("an address");
        Stage { played, store, model: asked(definition), counts: Counts::default() }
    }

    async fn run(&self, id: &str) -> Prediction {
        self.job(id).run(&self.store, &self.model, &self.counts).await.expect("a job that can be done");
        self.played.predictions.lock()[id].clone()
    }

    fn job(&self, id: &str) -> Job {
        Job {
            diagnosis_id: id.into(),
            entity: "c-1".into(),
            as_of_ms: 1000,
            known_at_ms: Some(1001),
            wait_for: None,
            cause: None,
        }
    }
}

#[tokio::test]
async fn a_job_leaves_a_snapshot_and_a_prediction() {
    let stage = Stage::set(Behaviour::default(), |_| {}).await;
    let prediction = stage.run("d").await;
    assert_eq!((prediction.status(), prediction.error.as_str()), (PredictionStatus::Ok, ""));
    let outputs: Value = serde_json::from_slice(&prediction.outputs_json).expect("JSON");
    assert_eq!(outputs, serde_json::json!({"score": score(&[20.0, 10.0])}));
    assert_eq!((prediction.model.as_str(), prediction.model_version.as_str()), ("judge@1", "toy"));
    assert_eq!(
        (prediction.attempts, prediction.as_of_ms, prediction.entity.as_ref()),
        (1, 1000, &b"c-1"[..])
    );
    assert!(prediction.predicted_at_ms > 0 && stage.played.snapshots.lock().contains_key("d"));
}

#[tokio::test]
async fn a_job_that_was_done_asks_nobody_again() {
    let stage = Stage::set(Behaviour::default(), |_| {}).await;
    let first = stage.run("d").await;
    assert_eq!(stage.run("d").await, first);
    assert_eq!((stage.counts.attempts(), stage.counts.repetitions()), (1, 1));
}

#[tokio::test]
async fn a_job_that_was_done_but_for_its_prediction_is_finished() {
    let stage = Stage::set(Behaviour::default(), |_| {}).await;
    stage.job("d").freeze(&stage.store, "health@1").await.expect("a snapshot");
    assert_eq!(stage.run("d").await.status(), PredictionStatus::Ok);
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for() {
    let stage = Stage::set(Behaviour::default(), |_| {}).await;
    stage.played.away.store(5, Ordering::Relaxed);
    assert_eq!(stage.run("d").await.status(), PredictionStatus::Ok);
    assert!(stage.store.retries() >= 1);
}

#[tokio::test]
async fn what_the_store_refuses_is_the_jobs_fault() {
    let stage = Stage::set(Behaviour::default(), |model| model.feature_service = "other@1".into()).await;
    let reason = stage.job("d").run(&stage.store, &stage.model, &stage.counts).await.expect_err("refused");
    assert_eq!(reason, "CreateSnapshot: no such feature service");
}

#[tokio::test]
async fn a_model_that_fails_is_asked_again_a_few_times() {
    let behaviour = Behaviour { fail_rate: 0.5, ..Behaviour::default() };
    let stage = Stage::set(behaviour, |_| {}).await;
    let attempts = [stage.run("a").await.attempts, stage.run("b").await.attempts];
    assert_eq!(attempts, [1, 2], "every second request fails");
    let stage = Stage::set(Behaviour { fail_rate: 1.0, ..Behaviour::default() }, |_| {}).await;
    let prediction = stage.run("c").await;
    assert_eq!((prediction.status(), prediction.attempts), (PredictionStatus::Failed, 3));
    assert_eq!(prediction.error, "Internal: the toy was told to fail");
    assert_eq!(prediction.outputs_json.len(), 0);
}

#[tokio::test]
async fn a_model_that_is_slow_times_out() {
    let behaviour = Behaviour { delay: Duration::from_secs(5), ..Behaviour::default() };
    let stage = Stage::set(behaviour, |model| {
        (model.limits.timeout_ms, model.limits.attempts) = (30, 2);
    });
    let prediction = stage.await.run("d").await;
    assert_eq!((prediction.status(), prediction.attempts), (PredictionStatus::TimedOut, 2));
    assert_eq!(prediction.error, "no answer within 30ms");
    assert!(prediction.latency_ms >= 30, "{prediction:?}");
}

#[tokio::test]
async fn a_model_that_answers_nonsense_is_quoted() {
    let stage = Stage::set(Behaviour { nonsense: true, ..Behaviour::default() }, |_| {}).await;
    let prediction = stage.run("d").await;
    assert_eq!((prediction.status(), prediction.attempts), (PredictionStatus::Nonsense, 1));
    assert_eq!(prediction.error, "output \"score\": expected the elements of shape [1, 1], found 3");
}

#[tokio::test]
async fn a_model_that_is_not_there_opens_its_circuit() {
    let stage = Stage::set(Behaviour::default(), |model| {
        model.endpoint = "http://127.0.0.1:1".into();
        model.limits.circuit_failures = 4;
    });
    let stage = stage.await;
    let first = stage.run("a").await;
    assert_eq!((first.status(), first.attempts), (PredictionStatus::Failed, 3));
    assert!(first.error.starts_with("Unavailable: "), "{first:?}");
    let second = stage.run("b").await;
    assert_eq!((second.status(), second.attempts), (PredictionStatus::Failed, 1), "then it opened");
    let third = stage.run("c").await;
    assert_eq!((third.status(), third.attempts), (PredictionStatus::NotAsked, 0));
    assert_eq!(third.error, "its circuit is open: it failed 4 times in a row, and is tried again after 10s");
    assert!(stage.model.is_open());
}

#[tokio::test]
async fn a_model_that_is_another_than_declared_is_not_asked() {
    let inputs = vec![("x".to_owned(), "FP32".to_owned(), 2)];
    let stage = Stage::set(Behaviour { inputs, ..Behaviour::default() }, |_| {}).await;
    let prediction = stage.run("d").await;
    assert_eq!((prediction.status(), prediction.attempts), (PredictionStatus::NotAsked, 0));
    let reason =
        "its server does not fit its definition: input \"x\": declared FP64, and its server has FP32";
    assert_eq!((prediction.error.as_str(), stage.model.misfit().as_deref()), (reason, Some(reason)));
}

#[tokio::test]
async fn a_feature_without_a_value_keeps_the_model_from_being_asked() {
    let stage = Stage::set(Behaviour::default(), |model| {
        model.inputs[0].features.push("signal.other".into());
    });
    let prediction = stage.await.run("d").await;
    assert_eq!((prediction.status(), prediction.attempts), (PredictionStatus::NotAsked, 0));
    assert_eq!(prediction.error, "signal.other has no value: NOT_FOUND");
}
