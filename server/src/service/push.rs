//! PushFeatures: data points are judged by the very code ingest judges them with, before any of them is produced; then
//! they go to their views' Kafka topics, on the partition of their entity. They become readable by coming back through
//! ingest, like everyone else's.

use forebay_proto::v1::{DataPoint, PushFeaturesRequest, PushFeaturesResponse};
use forebay_storage::Kind;
use tonic::Status;

use super::Context;
use super::deadline::Deadline;
use super::errors::invalid;
use super::produce::{Outgoing, produce, vector};
use super::{read, request};
use crate::definitions::{Definitions, EventTimeSource, LaneDefinition, View};
use crate::ingest::decode::{self, Decision, Known, Record, Rules, TTL_HEADER, VIEW_HEADER};
use crate::json::Slots;

/// How many bad data points a refusal names.
const NAMED_BAD: usize = 10;

/// Checks, produces and waits for Kafka.
pub(super) async fn push(
    context: &Context,
    request: PushFeaturesRequest,
    deadline: Deadline,
) -> Result<PushFeaturesResponse, Status> {
    deadline.check()?;
    let records = outgoing(context, request.data_points)?;
    let positions = produce(context, &records, deadline).await?;
    Ok(PushFeaturesResponse { positions: Some(vector(&positions)), data_points: positions })
}

/// All records, or every reason why there are none.
fn outgoing(context: &Context, points: Vec<DataPoint>) -> Result<Vec<Outgoing>, Status> {
    let max = context.config.read.max_entities;
    match points.len() {
        0 => return Err(invalid("data_points: none given; name at least one data point")),
        count if count > max => {
            return Err(invalid(format!("data_points: {count} given, at most {max} are allowed")));
        }
        _ => {}
    }
    let definitions = context.definitions.load();
    let mut check =
        Check { context, definitions: &definitions, now_ms: context.clock.now_ms(), slots: Slots::new() };
    let (mut records, mut bad) = (Vec::with_capacity(points.len()), Vec::new());
    for (i, point) in points.into_iter().enumerate() {
        match check.record(point) {
            Ok(record) => records.push(record),
            Err(Refusal::Bad(reason)) => bad.push(format!("data_points[{i}]: {reason}")),
            Err(Refusal::Unavailable(status)) => return Err(status),
        }
    }
    if bad.is_empty() { Ok(records) } else { Err(refused(&bad)) }
}

fn refused(bad: &[String]) -> Status {
    let named = bad.iter().take(NAMED_BAD).cloned().collect::<Vec<_>>().join("\n");
    let more = match bad.len().saturating_sub(NAMED_BAD) {
        0 => String::new(),
        more => format!("\nand {more} more"),
    };
    invalid(format!("nothing was produced, {} bad:\n{named}{more}", bad.len()))
}

/// Why a data point is not produced.
enum Refusal {
    Bad(String),
    Unavailable(Status),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal::Bad(reason)
    }
}

/// What data points are checked with.
struct Check<'c> {
    context: &'c Context,
    definitions: &'c Definitions,
    now_ms: i64,
    slots: Slots,
}

impl Check<'_> {
    fn record(&mut self, point: DataPoint) -> Result<Outgoing, Refusal> {
        let named = |status: Status| Refusal::Bad(status.message().to_owned());
        request::check_entity(&"entity", &point.entity).map_err(named)?;
        let view = request::view(self.definitions, &point.view).map_err(named)?;
        request::check_written_by_users(view).map_err(named)?;
        let lane = &self.definitions.lanes[view.lane];
        check_times(view, &point)?;
        let partitions = partitions(self.context, lane).map_err(Refusal::Unavailable)?;
        let record = record(view, lane, point, partitions, self.now_ms);
        self.judge(view, lane, &record, partitions)?;
        Ok(record)
    }

    /// As ingest will, were the partition's clock ours.
    fn judge(
        &mut self,
        view: &std::sync::Arc<View>,
        lane: &LaneDefinition,
        outgoing: &Outgoing,
        partitions: u32,
    ) -> Result<(), String> {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            outgoing.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
        let record = Record {
            key: Some(&outgoing.key),
            payload: outgoing.payload.as_deref(),
            headers: &headers,
            timestamp_ms: outgoing.timestamp_ms.unwrap_or(self.now_ms),
            partition: outgoing.partition,
        };
        let views = std::slice::from_ref(view);
        let rules = Rules { lane, views, partitions, ingest_time_ms: self.now_ms };
        match decode::decode(&record, &rules, &mut self.slots, |_, _| Known::Nothing) {
            Decision::Put(point) if point.kind == Kind::Value => Ok(()),
            Decision::Put(_) => Err("not a value".into()),
            Decision::Expired => Err("older than its TTL: ingest would drop it".into()),
            Decision::Dead(reason, detail) => Err(format!("{reason}: {detail}")),
        }
    }
}

/// The partitions of a lane's topics; UNAVAILABLE until Kafka has told.
pub(super) fn partitions(context: &Context, lane: &LaneDefinition) -> Result<u32, Status> {
    let known = context.lane(&lane.name).ok_or(read::NO_LANE);
    let count = known.and_then(|lane| lane.partition_count().ok_or("Kafka has not told its partitions yet"));
    count.map_err(|reason| Status::unavailable(format!("lane {}: {reason}", lane.name)))
}

/// What the request itself must not say of times.
fn check_times(view: &View, point: &DataPoint) -> Result<(), String> {
    if let (EventTimeSource::Path { path, .. }, Some(_)) = (&view.event_time, point.event_time_ms) {
        return Err(format!(
            "event_time_ms is given, but view \"{}\" takes the event time from {} in the payload",
            view.name,
            path.join(".")
        ));
    }
    let max = view.max_ttl_ms as u64;
    match point.ttl_ms {
        Some(0) => Err("ttl_ms: 0; it must be positive".into()),
        Some(ttl) if ttl > max => {
            Err(format!("ttl_ms: {ttl} is over the {max} that view \"{}\" allows", view.name))
        }
        _ => Ok(()),
    }
}

fn record(view: &View, lane: &LaneDefinition, point: DataPoint, partitions: u32, now_ms: i64) -> Outgoing {
    let mut headers = Vec::new();
    headers.extend(view_header(view, lane));
    if let EventTimeSource::Header(name) = &view.event_time {
        headers.push((name.clone(), point.event_time_ms.unwrap_or(now_ms).to_string()));
    }
    if let Some(ttl_ms) = point.ttl_ms {
        headers.push((text(TTL_HEADER), ttl_ms.to_string()));
    }
    let kafka_time = view.event_time == EventTimeSource::Kafka;
    Outgoing {
        topic: view.topics[0].clone(),
        partition: lane.partitioner.partition(&point.entity, partitions),
        key: point.entity,
        payload: Some(point.json),
        timestamp_ms: point.event_time_ms.filter(|_| kafka_time),
        headers,
    }
}

/// The header that names the view, where its first topic feeds several.
pub(super) fn view_header(view: &View, lane: &LaneDefinition) -> Option<(String, String)> {
    let topic = lane.topics.iter().find(|topic| topic.name == view.topics[0])?;
    (topic.views.len() > 1).then(|| (text(VIEW_HEADER), view.name.clone()))
}

/// A header's name as text.
pub(super) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
