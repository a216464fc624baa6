//! GetSnapshot and GetDiagnosis: what is kept under an id.

use std::sync::Arc;

use forebay_proto::v1::{Diagnosis, GetDiagnosisRequest, GetSnapshotRequest, Snapshot};
use tonic::Status;

use super::super::Context;
use super::super::deadline::Deadline;
use super::home::{Home, snapshot_of};
use super::{check_id, not_found};
use crate::definitions::diagnoses::SNAPSHOTS;

/// The snapshot.
pub(in crate::service) async fn snapshot(
    context: &Arc<Context>,
    request: GetSnapshotRequest,
    deadline: Deadline,
) -> Result<Snapshot, Status> {
    deadline.check()?;
    let (home, id) = (Home::of(context)?, &request.diagnosis_id);
    check_id(id)?;
    let terms = home.terms(request.wait_for.as_ref())?;
    let [kept] = home.kept([SNAPSHOTS], id.as_bytes(), &terms, deadline).await?;
    snapshot_of(id, kept.written().ok_or_else(|| not_found(id))?)
}

/// Snapshot, prediction and newest outcome.
pub(in crate::service) async fn diagnosis(
    context: &Arc<Context>,
    request: GetDiagnosisRequest,
    deadline: Deadline,
) -> Result<Diagnosis, Status> {
    deadline.check()?;
    let (home, id) = (Home::of(context)?, &request.diagnosis_id);
    check_id(id)?;
    let terms = home.terms(request.wait_for.as_ref())?;
    home.diagnosis(id, &terms, deadline).await?.ok_or_else(|| not_found(id))
}
