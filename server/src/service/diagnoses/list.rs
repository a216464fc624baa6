//! ListDiagnoses: the diagnoses of an entity, newest first, a page at a time, from the entity's index.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::{
    Diagnosis, DiagnosisEntry, GetHistoryRequest, ListDiagnosesRequest, ListDiagnosesResponse,
};
use forebay_storage::{HistoryRange, VersionKey};
use tonic::Status;

use super::super::Context;
use super::super::cold;
use super::super::deadline::Deadline;
use super::super::errors::invalid;
use super::super::read::reader_of;
use super::super::{page, request};
use super::home::Home;
use super::index::{self, Listed, Page};
use crate::definitions::diagnoses::BY_ENTITY;

/// Entries per page when the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Most entries per page.
const MAX_LIMIT: usize = 1_000;

/// Answers one page.
pub(in crate::service) async fn list(
    context: &Arc<Context>,
    request: ListDiagnosesRequest,
    deadline: Deadline,
) -> Result<ListDiagnosesResponse, Status> {
    deadline.check()?;
    let home = Home::of(context)?;
    check(&request)?;
    // The same tokens as those of GetHistory, for a page of the index is a page of its history.
    let history = GetHistoryRequest {
        entity: request.entity.clone(),
        view: BY_ENTITY.into(),
        from_ms: request.from_ms,
        to_ms: request.to_ms,
        page_token: request.page_token.clone(),
        ..GetHistoryRequest::default()
    };
    page::check(&history)?;
    let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit as usize };
    let mut found = home.page(&history, limit, deadline).await?;
    let entries = match request.full {
        true => home.full(&request.entity, &mut found, deadline).await?,
        false => found.listed.iter().map(|listed| entry(listed, None)).collect(),
    };
    let topic = &home.view(BY_ENTITY).topics[0];
    let token = |last: &VersionKey| page::token(&history, last, topic);
    let next_page_token: Bytes = found.last.as_ref().map(token).unwrap_or_default();
    Ok(ListDiagnosesResponse { entries, next_page_token })
}

fn check(request: &ListDiagnosesRequest) -> Result<(), Status> {
    request::check_entity(&"entity", &request.entity)?;
    request::check_time("from_ms", request.from_ms)?;
    request::check_time("to_ms", request.to_ms)?;
    match request.limit as usize {
        limit if limit > MAX_LIMIT => {
            Err(invalid(format!("limit: {limit} given, at most {MAX_LIMIT} is allowed")))
        }
        _ => Ok(()),
    }
}

fn entry(listed: &Listed, diagnosis: Option<Diagnosis>) -> DiagnosisEntry {
    DiagnosisEntry {
        diagnosis_id: listed.entry.diagnosis_id.clone(),
        as_of_ms: listed.moment_ms,
        feature_service: listed.entry.feature_service.clone(),
        cause: listed.entry.cause.clone(),
        diagnosis,
    }
}

/// About what a diagnosis takes in an answer: the snapshot's payloads come in its document and beside it.
fn about_bytes(diagnosis: &Diagnosis) -> usize {
    const REST: usize = 1024;
    let document = diagnosis.snapshot.as_ref().map_or(0, |snapshot| snapshot.document.len());
    let outputs = diagnosis.prediction.as_ref().map_or(0, |prediction| prediction.outputs_json.len());
    let detail = diagnosis.outcome.as_ref().map_or(0, |outcome| outcome.detail_json.len());
    3 * document + outputs + detail + REST
}

impl Home {
    /// A page of an entity's index.
    pub(super) async fn page(
        &self,
        history: &GetHistoryRequest,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Page, Status> {
        let shard = self.shard(&history.entity, &self.terms(None)?, deadline).await?;
        let (view, history) = (self.view(BY_ENTITY).id, history.clone());
        let read = move |context: &Context, reach: cold::Reach| {
            let reader = reader_of(&shard).of(view);
            let range = HistoryRange {
                from_ms: history.from_ms,
                to_ms: history.to_ms,
                known_at_ms: None,
                after: page::after(&history, |topic| reader.topic(topic))?,
            };
            let pin = reach.pin(reader);
            let now_ms = context.clock.now_ms();
            let page = index::page(&pin, &history.entity, view, &range, limit, now_ms)?;
            pin.check()?;
            Ok(page)
        };
        cold::read(&self.context, deadline, read).await
    }

    /// The entries with all that is kept of each; as many as an answer may have, of which the page is made to end there.
    async fn full(
        &self,
        entity: &[u8],
        page: &mut Page,
        deadline: Deadline,
    ) -> Result<Vec<DiagnosisEntry>, Status> {
        let (terms, mut left, mut entries) = (self.terms(None)?, self.context.answer_bytes(), Vec::new());
        let mut last = None;
        for listed in &page.listed {
            let diagnosis = self.diagnosis(&listed.entry.diagnosis_id, &terms, deadline).await?;
            // Past its TTL or erased meanwhile; or the id was given to another entity's at the same time.
            let is_its = |diagnosis: &Diagnosis| {
                diagnosis.snapshot.as_ref().is_none_or(|snapshot| snapshot.entity == *entity)
            };
            let Some(diagnosis) = diagnosis.filter(is_its) else { continue };
            let bytes = about_bytes(&diagnosis);
            if bytes > left && last.is_some() {
                page.last = last;
                break;
            }
            left = left.saturating_sub(bytes);
            last = Some(listed.key);
            entries.push(entry(listed, Some(diagnosis)));
        }
        Ok(entries)
    }
}
