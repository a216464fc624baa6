//! RecordPrediction: what a model said of a snapshot, written once, and with it the entry of the model's index. The entry
//! of one that was not kept does no harm: who reads the index looks at what is kept.

use std::sync::Arc;

use forebay_proto::v1::{
    Position, Prediction, PredictionStatus, RecordPredictionRequest, RecordPredictionResponse, Snapshot,
};
use tonic::Status;

use super::super::Context;
use super::super::deadline::Deadline;
use super::super::errors::invalid;
use super::super::produce::{Outgoing, vector};
use super::home::{Document, Home, Kept, parsed, snapshot_of};
use super::{check_id, erased};
use crate::definitions::diagnoses::{BY_MODEL, FUTURE_MS, PREDICTIONS, SNAPSHOTS};
use crate::diagnosis::entry::of_model;
use crate::diagnosis::prediction;

/// Longest name of a model with its version, bytes: with a number it is a key.
const MAX_MODEL_BYTES: usize = 244;

/// Answers when the prediction is readable.
pub(super) async fn record(
    context: &Arc<Context>,
    request: RecordPredictionRequest,
    deadline: Deadline,
) -> Result<RecordPredictionResponse, Status> {
    deadline.check()?;
    let home = Home::of(context)?;
    let mut said = request.prediction.ok_or_else(|| invalid("prediction: missing"))?;
    check(&home, &said)?;
    let id = said.diagnosis_id.clone();
    let views = [SNAPSHOTS, PREDICTIONS];
    let [snapshot, before] = home.kept(views, id.as_bytes(), &home.terms(None)?, deadline).await?;
    complete(&mut said, of_snapshot(&id, snapshot)?)?;
    let document = prediction::document(&said).map_err(|error| invalid(error.to_string()))?;
    match before {
        Kept::Nothing => write(&home, &said, document, deadline).await,
        Kept::Erased => Err(erased(&id)),
        Kept::Written(kept) => existing(&home, &said, &document, kept, deadline).await,
    }
}

fn check(home: &Home, said: &Prediction) -> Result<(), Status> {
    check_id(&said.diagnosis_id)?;
    let version =
        said.model.split_once('@').filter(|(name, version)| !name.is_empty() && !version.is_empty());
    if version.is_none() || said.model.len() > MAX_MODEL_BYTES {
        return Err(invalid(format!(
            "model: {:?}; expected \"name@version\" of at most {MAX_MODEL_BYTES} bytes",
            said.model.chars().take(MAX_MODEL_BYTES).collect::<String>()
        )));
    }
    if PredictionStatus::try_from(said.status).unwrap_or_default() == PredictionStatus::Unspecified {
        return Err(invalid("status: missing; say OK, TIMED_OUT, FAILED, NONSENSE or NOT_ASKED"));
    }
    home.check_moment("predicted_at_ms", said.predicted_at_ms, FUTURE_MS)
}

fn of_snapshot(id: &str, kept: Kept) -> Result<Snapshot, Status> {
    match kept {
        Kept::Written(kept) => snapshot_of(id, kept),
        Kept::Erased => Err(erased(id)),
        Kept::Nothing => Err(Status::not_found(format!(
            "diagnosis {id:?} has no snapshot (any more): create it before its prediction is recorded"
        ))),
    }
}

/// What a prediction leaves out is its snapshot's.
fn complete(said: &mut Prediction, of: Snapshot) -> Result<(), Status> {
    if said.entity.is_empty() {
        said.entity = of.entity;
    } else if said.entity != of.entity {
        return Err(invalid(format!("entity: {:?}, but the snapshot is of {:?}", said.entity, of.entity)));
    }
    if said.as_of_ms == 0 {
        said.as_of_ms = of.as_of_ms;
    }
    said.cause = said.cause.take().or(of.cause);
    Ok(())
}

async fn write(
    home: &Home,
    said: &Prediction,
    document: Vec<u8>,
    deadline: Deadline,
) -> Result<RecordPredictionResponse, Status> {
    let id = said.diagnosis_id.as_bytes();
    let record = home.record(PREDICTIONS, id, document.clone(), said.predicted_at_ms)?;
    let positions = home.write(&[record, home.model_entry(said)?], deadline).await?;
    let [kept] = home.kept([PREDICTIONS], id, &home.terms(None)?, deadline).await?;
    match kept {
        Kept::Erased => Err(erased(&said.diagnosis_id)),
        Kept::Nothing => Err(Status::unavailable(format!(
            "the prediction is in Kafka at {positions:?} and was not taken in; see the lane's dead letters, or ask again"
        ))),
        Kept::Written(kept) if positions[0].offset == kept.offset => {
            Ok(RecordPredictionResponse { existed: false, positions: Some(vector(&positions)) })
        }
        Kept::Written(kept) => existing(home, said, &document, kept, deadline).await,
    }
}

async fn existing(
    home: &Home,
    said: &Prediction,
    document: &[u8],
    kept: Document,
    deadline: Deadline,
) -> Result<RecordPredictionResponse, Status> {
    let id = &said.diagnosis_id;
    if kept.bytes != document {
        let before = parsed(id, prediction::parse(&kept.bytes))?;
        return Err(Status::already_exists(format!(
            "diagnosis {id:?} has another prediction: {}",
            differences(said, &before).join("; ")
        )));
    }
    let partition = home.partition(id.as_bytes())?;
    let topic = home.view(PREDICTIONS).topics[0].clone();
    let mut positions = vec![Position { topic, partition, offset: kept.offset }];
    let key = home.model_key(&said.model, partition)?;
    if !home.is_indexed(BY_MODEL, key.as_bytes(), said.predicted_at_ms, id, deadline).await? {
        positions.extend(home.write(&[home.model_entry(said)?], deadline).await?);
    }
    Ok(RecordPredictionResponse { existed: true, positions: Some(vector(&positions)) })
}

fn differences(said: &Prediction, kept: &Prediction) -> Vec<String> {
    let fields: [(&str, String, String); 9] = [
        ("model", format!("{:?}", kept.model), format!("{:?}", said.model)),
        ("model_version", format!("{:?}", kept.model_version), format!("{:?}", said.model_version)),
        ("as_of_ms", kept.as_of_ms.to_string(), said.as_of_ms.to_string()),
        ("predicted_at_ms", kept.predicted_at_ms.to_string(), said.predicted_at_ms.to_string()),
        ("latency_ms", kept.latency_ms.to_string(), said.latency_ms.to_string()),
        ("attempts", kept.attempts.to_string(), said.attempts.to_string()),
        ("status", kept.status().as_str_name().into(), said.status().as_str_name().into()),
        ("outputs_json", text(&kept.outputs_json), text(&said.outputs_json)),
        (
            "error or cause",
            format!("{:?}", (&kept.error, &kept.cause)),
            format!("{:?}", (&said.error, &said.cause)),
        ),
    ];
    let differ = fields.into_iter().filter(|(_, is, asked)| is != asked);
    differ.map(|(what, is, asked)| format!("its {what} is {is}, asked for was {asked}")).collect()
}

fn text(json: &[u8]) -> String {
    String::from_utf8_lossy(json.trim_ascii()).chars().take(200).collect()
}

impl Home {
    /// The entry of a model's index.
    fn model_entry(&self, said: &Prediction) -> Result<Outgoing, Status> {
        let key = self.model_key(&said.model, self.partition(said.diagnosis_id.as_bytes())?)?;
        self.record(BY_MODEL, key.as_bytes(), of_model(&said.diagnosis_id), said.predicted_at_ms)
    }
}
