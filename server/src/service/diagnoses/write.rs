//! Documents on their way to the lane: produced to Kafka, then waited for where their shard is here. Called by the RPCs
//! that write; what the documents say is theirs.

use bytes::Bytes;
use forebay_proto::v1::{OffsetVector, Position};
use tonic::Status;

use super::super::deadline::Deadline;
use super::super::errors::invalid;
use super::super::produce::{Outgoing, produce, vector};
use super::super::push::{text, view_header};
use super::super::wait::Gate;
use super::home::Home;
use crate::definitions::diagnoses::{FUTURE_MS, MAX_DOCUMENT_BYTES};
use crate::definitions::{EventTimeSource, View};
use crate::ingest::decode::{EVENT_TIME_HEADER, TTL_HEADER};
use crate::json::typed::check_event_time;

/// How long what was written may take to be readable when the call has no deadline, in ms.
const PATIENCE_MS: u64 = 30_000;

impl Home {
    /// A document for a key of a built-in view. `event_time_ms` counts where the view has it in a header.
    pub fn record(
        &self,
        view: &str,
        key: &[u8],
        document: Vec<u8>,
        event_time_ms: i64,
    ) -> Result<Outgoing, Status> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(Status::resource_exhausted(format!(
                "the document would have {} bytes, at most {MAX_DOCUMENT_BYTES} are kept; ask for fewer or smaller features",
                document.len()
            )));
        }
        let view = self.view(view);
        let headers = match view.event_time {
            EventTimeSource::Kafka => Vec::new(),
            _ => self.dated(event_time_ms),
        };
        self.outgoing(view, key, Some(document.into()), headers)
    }

    /// A tombstone for a key of a built-in view.
    pub fn tombstone(&self, view: &str, key: &[u8], event_time_ms: i64) -> Result<Outgoing, Status> {
        let headers = vec![(text(EVENT_TIME_HEADER), event_time_ms.to_string())];
        self.outgoing(self.view(view), key, None, headers)
    }

    /// What lies in the past when it is written lives as long as what is written now.
    fn dated(&self, event_time_ms: i64) -> Vec<(String, String)> {
        let age_ms = (self.context.clock.now_ms() - event_time_ms).max(0);
        let ttl_ms = self.settings().ttl_ms.saturating_add(age_ms);
        vec![(text(EVENT_TIME_HEADER), event_time_ms.to_string()), (text(TTL_HEADER), ttl_ms.to_string())]
    }

    fn outgoing(
        &self,
        view: &View,
        key: &[u8],
        payload: Option<Bytes>,
        mut headers: Vec<(String, String)>,
    ) -> Result<Outgoing, Status> {
        headers.extend(view_header(view, self.lane_definition()));
        Ok(Outgoing {
            topic: view.topics[0].clone(),
            partition: self.partition(key)?,
            key: Bytes::copy_from_slice(key),
            payload,
            timestamp_ms: None,
            headers,
        })
    }

    /// Produces records and waits until all whose shards are here are readable.
    pub async fn write(&self, records: &[Outgoing], deadline: Deadline) -> Result<Vec<Position>, Status> {
        let positions = produce(&self.context, records, deadline).await?;
        self.readable(&positions, deadline).await?;
        Ok(positions)
    }

    async fn readable(&self, positions: &[Position], deadline: Deadline) -> Result<(), Status> {
        let vector: OffsetVector = vector(positions);
        let terms = self.terms(Some(&vector))?;
        let until = deadline.wait_until(PATIENCE_MS);
        for topic in &vector.topics {
            let reads = |lane: &&std::sync::Arc<crate::lane::Lane>| {
                lane.definition.topics.iter().any(|known| known.name == topic.topic)
            };
            let Some(lane) = self.context.lanes.iter().find(reads) else { continue };
            for partition in topic.partitions.iter().filter(|partition| lane.shard(**partition).is_some()) {
                if let Gate::Closed(reason) = terms.wait(&self.context, lane, *partition, until).await {
                    return Err(Status::unavailable(format!(
                        "Kafka has it, but it is not readable yet: lane {}, partition {partition}: {reason}; ask again",
                        lane.definition.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Refuses moments that the lane would not take, or would forget at once.
    pub fn check_moment(&self, what: &str, moment_ms: i64, future_ms: i64) -> Result<(), Status> {
        check_event_time(moment_ms).map_err(|reason| invalid(format!("{what}: {reason}")))?;
        let ahead_ms = moment_ms - self.context.clock.now_ms();
        if ahead_ms > future_ms.min(FUTURE_MS) {
            return Err(invalid(format!("{what}: {moment_ms} is {ahead_ms} ms ahead of now")));
        }
        if -ahead_ms >= self.settings().ttl_ms {
            let ttl_ms = self.settings().ttl_ms;
            return Err(invalid(format!(
                "{what}: {moment_ms} is {} ms ago; diagnoses are kept for {ttl_ms} ms",
                -ahead_ms
            )));
        }
        Ok(())
    }
}
