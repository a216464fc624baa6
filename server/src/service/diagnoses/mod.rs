//! The Diagnoses service: from tonic's calls to the module of each. What is stored are the documents of
//! `crate::diagnosis`, in the built-in views of the lane `diagnoses`; everything is written through Kafka and read back.
//!
//! ```text
//!  create ─► read (features as of) ─► document, index entry ─► Kafka ─► ingest ─► home: what won
//!  predict, outcome ─► document (index entry) ─► Kafka ─► ...   get, list, evaluate ─► home   erase ─► tombstones ─► Kafka
//! ```

pub(super) mod create;
mod erase;
mod evaluate;
pub(super) mod get;
mod home;
mod index;
pub(super) mod list;
mod outcome;
mod predict;
mod write;

use std::sync::Arc;

use forebay_proto::v1::diagnoses_server::Diagnoses;
use forebay_proto::v1::{
    CreateSnapshotRequest, CreateSnapshotResponse, Diagnosis, EraseEntityRequest, EraseEntityResponse,
    EvaluateRequest, GetDiagnosisRequest, GetSnapshotRequest, ListDiagnosesRequest, ListDiagnosesResponse,
    RecordOutcomeRequest, RecordOutcomeResponse, RecordPredictionRequest, RecordPredictionResponse, Snapshot,
};
use tonic::{Request, Response, Status};

use super::Context;
use super::errors::invalid;
use super::store::call;
use crate::metrics::Rpc;

/// Longest diagnosis id, bytes.
const MAX_ID_BYTES: usize = 255;

/// Answers Diagnoses calls.
pub(super) struct DiagnosesService {
    pub(super) context: Arc<Context>,
}

#[tonic::async_trait]
impl Diagnoses for DiagnosesService {
    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let handle = |request, deadline| create::create(&self.context, request, deadline);
        call(Rpc::CreateSnapshot, request, handle).await
    }

    async fn get_snapshot(&self, request: Request<GetSnapshotRequest>) -> Result<Response<Snapshot>, Status> {
        let handle = |request, deadline| get::snapshot(&self.context, request, deadline);
        call(Rpc::GetSnapshot, request, handle).await
    }

    async fn record_prediction(
        &self,
        request: Request<RecordPredictionRequest>,
    ) -> Result<Response<RecordPredictionResponse>, Status> {
        let handle = |request, deadline| predict::record(&self.context, request, deadline);
        call(Rpc::RecordPrediction, request, handle).await
    }

    async fn assemble_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<Snapshot>, Status> {
        let handle = |request, deadline| create::assembled(&self.context, request, deadline);
        call(Rpc::AssembleSnapshot, request, handle).await
    }

    async fn record_outcome(
        &self,
        request: Request<RecordOutcomeRequest>,
    ) -> Result<Response<RecordOutcomeResponse>, Status> {
        let handle = |request, deadline| outcome::record(&self.context, request, deadline);
        call(Rpc::RecordOutcome, request, handle).await
    }

    async fn get_diagnosis(
        &self,
        request: Request<GetDiagnosisRequest>,
    ) -> Result<Response<Diagnosis>, Status> {
        let handle = |request, deadline| get::diagnosis(&self.context, request, deadline);
        call(Rpc::GetDiagnosis, request, handle).await
    }

    async fn list_diagnoses(
        &self,
        request: Request<ListDiagnosesRequest>,
    ) -> Result<Response<ListDiagnosesResponse>, Status> {
        let handle = |request, deadline| list::list(&self.context, request, deadline);
        call(Rpc::ListDiagnoses, request, handle).await
    }

    type EvaluateStream = evaluate::Diagnoses;

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<evaluate::Diagnoses>, Status> {
        let handle = async |request, deadline| evaluate::evaluate(&self.context, &request, deadline);
        call(Rpc::Evaluate, request, handle).await
    }

    async fn erase_entity(
        &self,
        request: Request<EraseEntityRequest>,
    ) -> Result<Response<EraseEntityResponse>, Status> {
        let handle = |request, deadline| erase::erase(&self.context, request, deadline);
        call(Rpc::EraseEntity, request, handle).await
    }
}

/// Refuses an unusable diagnosis id.
fn check_id(id: &str) -> Result<(), Status> {
    match id.len() {
        0 => Err(invalid(format!("diagnosis_id: empty; it has 1 to {MAX_ID_BYTES} bytes"))),
        1..=MAX_ID_BYTES => Ok(()),
        length => Err(invalid(format!("diagnosis_id: {length} bytes; it has 1 to {MAX_ID_BYTES} bytes"))),
    }
}

/// There is nothing of this diagnosis, or nothing any more.
fn not_found(id: &str) -> Status {
    Status::not_found(format!("there is no diagnosis {id:?}, or it is past its TTL, or it was erased"))
}

/// Its id was erased and is not free yet.
fn erased(id: &str) -> Status {
    Status::failed_precondition(format!(
        "diagnosis {id:?} was erased; its id is not given again for as long as diagnoses are kept: choose another"
    ))
}
