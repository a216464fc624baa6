//! EraseEntity: tombstones for an entity in every view of its kind, and for its diagnoses. Asked again after a failure
//! it does what is left.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::{EraseEntityRequest, EraseEntityResponse, GetHistoryRequest, Position, Snapshot};
use tonic::Status;

use super::super::Context;
use super::super::deadline::Deadline;
use super::super::delete::Tombstones;
use super::super::produce::{Outgoing, vector};
use super::super::request;
use super::home::{Home, Kept, snapshot_of};
use crate::definitions::View;
use crate::definitions::diagnoses::{BY_ENTITY, OUTCOMES, PREDICTIONS, PREFIX, SNAPSHOTS};
use crate::diagnosis::entry::OfEntity;

/// Diagnoses looked at, and records produced, at a time.
const AT_ONCE: usize = 1_000;

/// Answers when all tombstones whose shards are here are readable.
pub(super) async fn erase(
    context: &Arc<Context>,
    request: EraseEntityRequest,
    deadline: Deadline,
) -> Result<EraseEntityResponse, Status> {
    deadline.check()?;
    request::check_entity(&"entity", &request.entity)?;
    let home = Home::of(context)?;
    let (entity, kind) = (&request.entity, request.entity_kind.as_str());
    let diagnoses = home.diagnoses_of(entity, kind, deadline).await?;
    let mut tombstones = home.feature_tombstones(entity, kind)?;
    tombstones.extend(home.diagnosis_tombstones(&diagnoses)?);
    let mut positions = home.write_all(&tombstones, deadline).await?;
    // Last, for as long as a diagnosis is listed a repetition finds it.
    let markers = diagnoses.iter().map(|diagnosis| home.marker(entity, &diagnosis.id, diagnosis.moment_ms));
    let markers = markers.collect::<Result<Vec<_>, _>>()?;
    positions.extend(home.write_all(&markers, deadline).await?);
    Ok(EraseEntityResponse {
        tombstones: tombstones.len() as u64,
        diagnoses: diagnoses.len() as u64,
        positions: Some(vector(&positions)),
    })
}

/// A diagnosis to erase.
struct Doomed {
    id: String,
    /// Event time of its index entry.
    moment_ms: i64,
}

impl Home {
    /// The diagnoses of an entity, if one of the views they saw is of this kind; no kind: all.
    async fn diagnoses_of(
        &self,
        entity: &Bytes,
        kind: &str,
        deadline: Deadline,
    ) -> Result<Vec<Doomed>, Status> {
        let (terms, mut doomed) = (self.terms(None)?, Vec::new());
        let mut history =
            GetHistoryRequest { entity: entity.clone(), view: BY_ENTITY.into(), ..Default::default() };
        loop {
            let page = self.page(&history, AT_ONCE, deadline).await?;
            for listed in page.listed {
                let id = listed.entry.diagnosis_id;
                let [kept] = self.kept([SNAPSHOTS], id.as_bytes(), &terms, deadline).await?;
                let saw = match kept {
                    Kept::Written(kept) => self.saw(&snapshot_of(&id, kept)?, entity, kind),
                    // Erased by a call that did not come to the end: its entry is still to be marked.
                    Kept::Nothing | Kept::Erased => true,
                };
                if saw {
                    doomed.push(Doomed { id, moment_ms: listed.moment_ms });
                }
            }
            let Some(last) = page.last else { return Ok(doomed) };
            let topic = &self.view(BY_ENTITY).topics[0];
            history.page_token = super::super::page::token(&history, &last, topic);
        }
    }

    /// Whether a snapshot is of this entity and has a view of this kind, or of one that is not defined any more.
    fn saw(&self, snapshot: &Snapshot, entity: &[u8], kind: &str) -> bool {
        let is_kind = |view: &str| self.definitions.view(view).map_or(true, |view| view.entity_kind == kind);
        let views = &snapshot.values;
        snapshot.entity == entity && (kind.is_empty() || views.iter().any(|value| is_kind(&value.view)))
    }

    fn feature_tombstones(&self, entity: &Bytes, kind: &str) -> Result<Vec<Outgoing>, Status> {
        let views =
            self.definitions.views.iter().filter(|view| {
                !view.name.starts_with(PREFIX) && (kind.is_empty() || view.entity_kind == kind)
            });
        views.map(|view| self.feature_tombstone(view, entity)).collect()
    }

    /// Only where the newest version can be looked at is a tombstone sure to win.
    fn feature_tombstone(&self, view: &View, entity: &Bytes) -> Result<Outgoing, Status> {
        let tombstone = Tombstones::new(&self.context, &self.definitions, view, None)?.of(entity)?;
        let lane = self.context.lane(&view.lane_name);
        match lane.and_then(|lane| lane.shard(tombstone.partition)) {
            Some(_) => Ok(tombstone),
            None => Err(Status::unavailable(format!(
                "nothing was erased: lane {}, partition {} of view {:?} is not on this server",
                view.lane_name, tombstone.partition, view.name
            ))),
        }
    }

    fn diagnosis_tombstones(&self, diagnoses: &[Doomed]) -> Result<Vec<Outgoing>, Status> {
        let now_ms = self.context.clock.now_ms();
        let mut tombstones = Vec::with_capacity(3 * diagnoses.len());
        for diagnosis in diagnoses {
            for view in [SNAPSHOTS, PREDICTIONS, OUTCOMES] {
                tombstones.push(self.tombstone(view, diagnosis.id.as_bytes(), now_ms + AHEAD_MS)?);
            }
        }
        Ok(tombstones)
    }

    /// The entry that takes those of a diagnosis out of an entity's list.
    pub(super) fn marker(&self, entity: &[u8], id: &str, moment_ms: i64) -> Result<Outgoing, Status> {
        self.record(BY_ENTITY, entity, OfEntity::erased(id).document(), moment_ms)
    }

    async fn write_all(&self, records: &[Outgoing], deadline: Deadline) -> Result<Vec<Position>, Status> {
        let mut positions = Vec::with_capacity(records.len());
        for records in records.chunks(AT_ONCE) {
            positions.extend(self.write(records, deadline).await?);
        }
        Ok(positions)
    }
}

/// The tombstones of a diagnosis are later than what they take away, though clocks differ and outcomes may be said to be
/// found out a little ahead of now.
const AHEAD_MS: i64 = 600_000;
