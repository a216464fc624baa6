//! Routes of diagnoses: snapshots, predictions, outcomes, and their erasure. What is given back are the documents as they
//! are stored.

use forebay_proto::v1::diagnoses_server::Diagnoses as _;
use forebay_proto::v1::{
    Cause, CreateSnapshotRequest, Diagnosis, DiagnosisEntry, EraseEntityRequest, GetDiagnosisRequest,
    GetSnapshotRequest, ListDiagnosesRequest, Outcome, Prediction, PredictionStatus, RecordOutcomeRequest,
    RecordPredictionRequest, Snapshot,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tonic::Status;

use super::ask::{Offsets, vector};
use super::call::{Call, entity, token_text};
use super::store::positions;
use crate::diagnosis::{outcome, prediction};
use crate::service::calls;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CauseJson {
    edge_id: String,
    trigger: String,
    trigger_version: u32,
    from_state: String,
    to_state: String,
}

impl From<CauseJson> for Cause {
    fn from(cause: CauseJson) -> Cause {
        let CauseJson { edge_id, trigger, trigger_version, from_state, to_state } = cause;
        Cause { edge_id, trigger, trigger_version, from_state, to_state }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSnapshot {
    diagnosis_id: String,
    entity: String,
    feature_service: String,
    as_of_ms: Option<i64>,
    known_at_ms: Option<i64>,
    wait_for: Option<Offsets>,
    cause: Option<CauseJson>,
}

pub(super) async fn create_snapshot(call: Call) -> Result<Vec<u8>, Status> {
    let asked: NewSnapshot = call.body()?;
    let request = call.request(CreateSnapshotRequest {
        diagnosis_id: asked.diagnosis_id,
        entity: entity("entity", &asked.entity)?,
        feature_service: asked.feature_service,
        as_of_ms: asked.as_of_ms,
        known_at_ms: asked.known_at_ms,
        wait_for: asked.wait_for.as_ref().map(vector),
        cause: asked.cause.map(Cause::from),
        assembled: None,
    })?;
    let answer = calls::diagnoses(&call.context).create_snapshot(request).await?.into_inner();
    let snapshot = answer.snapshot.as_ref().map(document).transpose()?;
    written(&CreatedJson { existed: answer.existed, snapshot })
}

#[derive(Serialize)]
struct CreatedJson {
    existed: bool,
    snapshot: Option<Box<RawValue>>,
}

pub(super) async fn snapshot(call: Call) -> Result<Vec<u8>, Status> {
    let diagnosis_id = call.part("diagnosis").to_owned();
    let request = call.request(GetSnapshotRequest { diagnosis_id, wait_for: None })?;
    let snapshot = calls::diagnoses(&call.context).get_snapshot(request).await?.into_inner();
    // The very bytes that are stored.
    Ok(snapshot.document.to_vec())
}

pub(super) async fn diagnosis(call: Call) -> Result<Vec<u8>, Status> {
    let diagnosis_id = call.part("diagnosis").to_owned();
    let request = call.request(GetDiagnosisRequest { diagnosis_id, wait_for: None })?;
    let diagnosis = calls::diagnoses(&call.context).get_diagnosis(request).await?.into_inner();
    written(&DiagnosisJson::of(&diagnosis)?)
}

pub(super) async fn list(call: Call) -> Result<Vec<u8>, Status> {
    let query = &call.query;
    let request = call.request(ListDiagnosesRequest {
        entity: call.entity()?,
        from_ms: query.value("from_ms")?,
        to_ms: query.value("to_ms")?,
        limit: query.value("limit")?.unwrap_or_default(),
        page_token: query.token("page_token")?,
        full: query.value("full")?.unwrap_or_default(),
    })?;
    let answer = calls::diagnoses(&call.context).list_diagnoses(request).await?.into_inner();
    let entries = answer.entries.iter().map(EntryJson::of).collect::<Result<Vec<_>, _>>()?;
    let next_page_token = token_text(&answer.next_page_token);
    written(&ListJson { entries, next_page_token })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPrediction<'j> {
    diagnosis_id: String,
    entity: String,
    model: String,
    #[serde(default)]
    model_version: String,
    predicted_at_ms: i64,
    #[serde(default)]
    latency_ms: u32,
    status: String,
    #[serde(default)]
    error: String,
    #[serde(borrow)]
    outputs: Option<&'j RawValue>,
    cause: Option<CauseJson>,
    #[serde(default)]
    attempts: u32,
    as_of_ms: i64,
}

pub(super) async fn record_prediction(call: Call) -> Result<Vec<u8>, Status> {
    let asked: NewPrediction<'_> = borrowed(&call)?;
    let status = PredictionStatus::from_str_name(&asked.status).ok_or_else(|| {
        Status::invalid_argument(format!(
            "status: {:?} is not OK, TIMED_OUT, FAILED, NONSENSE or NOT_ASKED",
            asked.status
        ))
    })?;
    let said = Prediction {
        diagnosis_id: asked.diagnosis_id,
        entity: entity("entity", &asked.entity)?,
        model: asked.model,
        model_version: asked.model_version,
        predicted_at_ms: asked.predicted_at_ms,
        latency_ms: asked.latency_ms,
        status: status.into(),
        error: asked.error,
        outputs_json: asked.outputs.map(|outputs| outputs.get().to_owned().into()).unwrap_or_default(),
        cause: asked.cause.map(Cause::from),
        attempts: asked.attempts,
        as_of_ms: asked.as_of_ms,
    };
    let request = call.request(RecordPredictionRequest { prediction: Some(said) })?;
    let answer = calls::diagnoses(&call.context).record_prediction(request).await?.into_inner();
    let mut out = positions(answer.positions.as_ref());
    out.extend_from_slice(format!(",\"existed\":{}}}", answer.existed).as_bytes());
    Ok(out)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOutcome<'j> {
    diagnosis_id: String,
    label: String,
    #[serde(borrow)]
    detail: Option<&'j RawValue>,
    #[serde(default)]
    source: String,
    event_time_ms: Option<i64>,
}

pub(super) async fn record_outcome(call: Call) -> Result<Vec<u8>, Status> {
    let asked: NewOutcome<'_> = borrowed(&call)?;
    let found = Outcome {
        diagnosis_id: asked.diagnosis_id,
        label: asked.label,
        detail_json: asked.detail.map(|detail| detail.get().to_owned().into()).unwrap_or_default(),
        source: asked.source,
        event_time_ms: asked.event_time_ms,
    };
    let request = call.request(RecordOutcomeRequest { outcome: Some(found) })?;
    let answer = calls::diagnoses(&call.context).record_outcome(request).await?.into_inner();
    let mut out = positions(answer.positions.as_ref());
    out.push(b'}');
    Ok(out)
}

pub(super) async fn erase(call: Call) -> Result<Vec<u8>, Status> {
    let entity_kind = call.query.text("entity_kind").to_owned();
    let request = call.request(EraseEntityRequest { entity: call.entity()?, entity_kind })?;
    let answer = calls::diagnoses(&call.context).erase_entity(request).await?.into_inner();
    let mut out = positions(answer.positions.as_ref());
    let counts = format!(",\"tombstones\":{},\"diagnoses\":{}}}", answer.tombstones, answer.diagnoses);
    out.extend_from_slice(counts.as_bytes());
    Ok(out)
}

fn borrowed<'c, T: Deserialize<'c>>(call: &'c Call) -> Result<T, Status> {
    serde_json::from_slice(&call.body).map_err(|error| Status::invalid_argument(format!("body: {error}")))
}

/// All that is kept under one id.
#[derive(Serialize)]
struct DiagnosisJson {
    diagnosis_id: String,
    snapshot: Option<Box<RawValue>>,
    prediction: Option<Box<RawValue>>,
    outcome: Option<Box<RawValue>>,
}

impl DiagnosisJson {
    fn of(diagnosis: &Diagnosis) -> Result<DiagnosisJson, Status> {
        let prediction = diagnosis.prediction.as_ref().map(prediction::document).transpose();
        let outcome = diagnosis.outcome.as_ref();
        let outcome = outcome.map(|found| outcome::document(found, found.event_time_ms.unwrap_or_default()));
        let outcome = outcome.transpose();
        Ok(DiagnosisJson {
            diagnosis_id: diagnosis.diagnosis_id.clone(),
            snapshot: diagnosis.snapshot.as_ref().map(document).transpose()?,
            prediction: prediction.map_err(broken)?.map(raw).transpose()?,
            outcome: outcome.map_err(broken)?.map(raw).transpose()?,
        })
    }
}

/// One line of a list.
#[derive(Serialize)]
struct EntryJson {
    diagnosis_id: String,
    as_of_ms: i64,
    feature_service: String,
    cause: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<DiagnosisJson>,
}

impl EntryJson {
    fn of(entry: &DiagnosisEntry) -> Result<EntryJson, Status> {
        let cause = entry.cause.as_ref().map(|cause| {
            json!({
                "edge_id": cause.edge_id,
                "trigger": cause.trigger,
                "trigger_version": cause.trigger_version,
                "from_state": cause.from_state,
                "to_state": cause.to_state,
            })
        });
        Ok(EntryJson {
            diagnosis_id: entry.diagnosis_id.clone(),
            as_of_ms: entry.as_of_ms,
            feature_service: entry.feature_service.clone(),
            cause,
            diagnosis: entry.diagnosis.as_ref().map(DiagnosisJson::of).transpose()?,
        })
    }
}

#[derive(Serialize)]
struct ListJson {
    entries: Vec<EntryJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

fn document(snapshot: &Snapshot) -> Result<Box<RawValue>, Status> {
    raw(snapshot.document.to_vec())
}

fn raw(document: Vec<u8>) -> Result<Box<RawValue>, Status> {
    RawValue::from_string(String::from_utf8_lossy(&document).into_owned()).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("a stored document cannot be shown: {error}"))
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(value).map_err(broken)
}
