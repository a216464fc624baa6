//! DeleteFeatures: one tombstone per (entity, view), not older than anything known of it, so that it wins.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::{DeleteFeaturesRequest, DeleteFeaturesResponse};
use tonic::Status;

use super::Context;
use super::deadline::Deadline;
use super::errors::{data_loss, invalid};
use super::produce::{Outgoing, produce, vector};
use super::push::{partitions, text, view_header};
use super::request;
use crate::definitions::{Definitions, LaneDefinition, View};
use crate::ingest::decode::EVENT_TIME_HEADER;
use crate::json::typed::check_event_time;

/// Most tombstones of one call, as a multiple of the most entities.
const MAX_VIEWS_PER_ENTITY: usize = 10;

/// Checks, produces and waits for Kafka.
pub(super) async fn delete(
    context: &Context,
    request: DeleteFeaturesRequest,
    deadline: Deadline,
) -> Result<DeleteFeaturesResponse, Status> {
    deadline.check()?;
    let records = tombstones(context, &request)?;
    let positions = produce(context, &records, deadline).await?;
    Ok(DeleteFeaturesResponse { positions: Some(vector(&positions)) })
}

fn tombstones(context: &Context, request: &DeleteFeaturesRequest) -> Result<Vec<Outgoing>, Status> {
    let max = context.config.read.max_entities;
    request::check_entities(&request.entities, max)?;
    let definitions = context.definitions.load();
    let views = views(&definitions, &request.views)?;
    let count = views.len() * request.entities.len();
    if count > max * MAX_VIEWS_PER_ENTITY {
        return Err(invalid(format!(
            "{count} deletions asked for, at most {} are allowed in one call",
            max * MAX_VIEWS_PER_ENTITY
        )));
    }
    let mut records = Vec::with_capacity(count);
    for view in views {
        let tombstones = Tombstones::new(context, &definitions, view, request.event_time_ms)?;
        for entity in &request.entities {
            records.push(tombstones.of(entity)?);
        }
    }
    Ok(records)
}

fn views<'d>(definitions: &'d Definitions, names: &[String]) -> Result<Vec<&'d Arc<View>>, Status> {
    if names.is_empty() {
        return Err(invalid("views: none given; name at least one view"));
    }
    let mut views: Vec<&Arc<View>> = Vec::with_capacity(names.len().min(definitions.views.len()));
    for name in names {
        let view = request::view(definitions, name)?;
        request::check_written_by_users(view)?;
        if views.iter().any(|other| other.id == view.id) {
            return Err(invalid(format!("views: \"{name}\" is named twice")));
        }
        views.push(view);
    }
    Ok(views)
}

/// The tombstones of one view.
pub(super) struct Tombstones<'c> {
    context: &'c Context,
    view: &'c View,
    lane: &'c LaneDefinition,
    partitions: u32,
    asked_ms: Option<i64>,
    now_ms: i64,
}

impl<'c> Tombstones<'c> {
    pub(super) fn new(
        context: &'c Context,
        definitions: &'c Definitions,
        view: &'c View,
        asked_ms: Option<i64>,
    ) -> Result<Tombstones<'c>, Status> {
        let lane = &*definitions.lanes[view.lane];
        let now_ms = context.clock.now_ms();
        if let Some(asked_ms) = asked_ms {
            check_time(view, lane, asked_ms, now_ms)?;
        }
        let partitions = partitions(context, lane)?;
        Ok(Tombstones { context, view, lane, partitions, asked_ms, now_ms })
    }

    pub(super) fn of(&self, entity: &Bytes) -> Result<Outgoing, Status> {
        let partition = self.lane.partitioner.partition(entity, self.partitions);
        let event_time_ms = match self.asked_ms {
            Some(asked_ms) => asked_ms,
            None => self.newest_ms(entity, partition)?.map_or(self.now_ms, |newest| newest.max(self.now_ms)),
        };
        let mut headers = vec![(text(EVENT_TIME_HEADER), event_time_ms.to_string())];
        headers.extend(view_header(self.view, self.lane));
        let topic = self.view.topics[0].clone();
        Ok(Outgoing { topic, partition, key: entity.clone(), payload: None, timestamp_ms: None, headers })
    }

    /// Event time of the newest version, if its shard is here.
    fn newest_ms(&self, entity: &[u8], partition: u32) -> Result<Option<i64>, Status> {
        let shard = self.context.lane(&self.lane.name).and_then(|lane| lane.shard(partition));
        let Some(reader) = shard.as_ref().and_then(|shard| shard.reader.as_ref()) else { return Ok(None) };
        let reader = reader.of(self.view.id).pin_blocking();
        let newest = reader.latest(entity, self.view.id).map(|found| found.map(|v| v.event_time_ms()));
        newest.map_err(|error| data_loss(&error))
    }
}

/// Refuses event times ingest would not take.
fn check_time(view: &View, lane: &LaneDefinition, asked_ms: i64, now_ms: i64) -> Result<(), Status> {
    check_event_time(asked_ms).map_err(|reason| invalid(format!("event_time_ms: {reason}")))?;
    if asked_ms - now_ms > lane.future_bound_ms {
        return Err(invalid(format!(
            "event_time_ms: {} ms ahead of now, lane {} allows {}",
            asked_ms - now_ms,
            lane.name,
            lane.future_bound_ms
        )));
    }
    if asked_ms + view.max_ttl_ms <= now_ms {
        return Err(invalid(format!(
            "event_time_ms: {asked_ms} is longer ago than view \"{}\" remembers; there is nothing to delete",
            view.name
        )));
    }
    Ok(())
}
