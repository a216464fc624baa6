//! One diagnosis from its cause to its prediction: the snapshot is created, the model judges it, the prediction is stored.
//! Repeating a job is harmless: ids are those of its cause, and what is stored first counts. Called by `run`.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::{Cause, CreateSnapshotRequest, OffsetVector, Prediction};

use super::counts::Counts;
use super::edge::Edge;
use super::model::{Asked, Verdict};
use super::request::Request;
use super::store::Store;
use crate::definitions::Definitions;

/// A diagnosis to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    /// Its id.
    pub diagnosis_id: String,
    /// Who is judged.
    pub entity: Bytes,
    /// Of which moment, event time, ms.
    pub as_of_ms: i64,
    /// Only what was known by then, ingest time, ms.
    pub known_at_ms: Option<i64>,
    /// What must have been applied before.
    pub wait_for: Option<OffsetVector>,
    /// The edge, if one caused it.
    pub cause: Option<Cause>,
}

impl Job {
    /// What an edge asks of this model. Its id is the edge's; where several models judge the edges of its trigger, the
    /// model's name follows.
    pub(super) fn of_edge(edge: Edge, model: &str, definitions: &Definitions) -> Job {
        let edge_id = &edge.cause.edge_id;
        let judges = definitions.models.iter().filter(|model| model.watches(&edge.cause.trigger)).count();
        Job {
            diagnosis_id: if judges > 1 { format!("{edge_id}.{model}") } else { edge_id.clone() },
            entity: edge.entity,
            as_of_ms: edge.event_time_ms,
            known_at_ms: Some(edge.ingest_time_ms),
            wait_for: Some(edge.position),
            cause: Some(edge.cause),
        }
    }

    /// What was asked for.
    pub(super) fn of_request(request: Request) -> Job {
        Job {
            diagnosis_id: request.diagnosis_id,
            entity: request.entity,
            as_of_ms: request.as_of_ms,
            known_at_ms: request.known_at_ms,
            wait_for: None,
            cause: None,
        }
    }

    fn snapshot_request(&self, feature_service: &str) -> CreateSnapshotRequest {
        CreateSnapshotRequest {
            diagnosis_id: self.diagnosis_id.clone(),
            entity: self.entity.clone(),
            feature_service: feature_service.to_owned(),
            as_of_ms: Some(self.as_of_ms),
            known_at_ms: self.known_at_ms,
            assembled: None,
            wait_for: self.wait_for.clone(),
            cause: self.cause.clone(),
        }
    }

    /// Creates the snapshot only. The error says what is wrong with the job.
    pub(super) async fn freeze(&self, store: &Store, feature_service: &str) -> Result<(), String> {
        store.snapshot(self.snapshot_request(feature_service)).await.map(drop)
    }

    /// Snapshot, judgement, prediction. The error says what is wrong with the job; what goes wrong with the model is in
    /// the prediction.
    pub(super) async fn run(&self, store: &Store, model: &Arc<Asked>, counts: &Counts) -> Result<(), String> {
        let kept = store.snapshot(self.snapshot_request(&model.definition.feature_service)).await?;
        counts.snapshot();
        if let Some(first) = kept.prediction {
            counts.repeated();
            return store.predicted(first).await;
        }
        let verdict = model.judge(&self.diagnosis_id, &kept.snapshot).await;
        counts.judged(&verdict);
        store.predicted(self.prediction(&model.definition.title(), verdict)).await
    }

    fn prediction(&self, model: &str, verdict: Verdict) -> Prediction {
        Prediction {
            diagnosis_id: self.diagnosis_id.clone(),
            entity: self.entity.clone(),
            model: model.to_owned(),
            model_version: verdict.model_version,
            predicted_at_ms: verdict.asked_at_ms,
            latency_ms: u32::try_from(verdict.took.as_millis()).unwrap_or(u32::MAX),
            status: verdict.status.into(),
            error: verdict.error,
            outputs_json: verdict.outputs_json.into(),
            cause: self.cause.clone(),
            attempts: verdict.attempts,
            as_of_ms: self.as_of_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::edge::tests::edge;
    use super::super::tensors::tests::model;
    use super::*;
    use crate::definitions::Model;

    fn job(models: Vec<Model>) -> Job {
        let models = models.into_iter().map(Arc::new).collect();
        let definitions = Definitions { models, ..Definitions::default() };
        Job::of_edge(Edge::read(&edge("e1", "RED")).expect("an edge"), "judge@1", &definitions)
    }

    #[test]
    fn a_diagnosis_has_the_edges_id_and_the_models_name_where_there_are_several() {
        let other = |triggers: &[&str]| Model {
            name: "other".into(),
            triggers: triggers.iter().map(|name| name.to_string()).collect(),
            ..model()
        };
        assert_eq!(job(vec![model()]).diagnosis_id, "e1");
        assert_eq!(job(vec![model(), other(&["another"])]).diagnosis_id, "e1");
        assert_eq!(job(vec![model(), other(&["another", "low_snr"])]).diagnosis_id, "e1.judge@1");
    }

    #[test]
    fn a_snapshot_is_asked_for_as_the_edge_saw_it() {
        let request = job(vec![model()]).snapshot_request("health@1");
        assert_eq!((request.as_of_ms, request.known_at_ms), (Some(1000), Some(1001)));
        assert_eq!(request.wait_for.expect("a position").topics[0].offsets, [44]);
        assert_eq!(request.cause.expect("a cause").to_state, "RED");
    }
}
