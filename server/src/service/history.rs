//! GetHistory: the versions of one key, newest first, a page at a time. Called by the service; `page` makes and checks
//! the tokens between pages.

use std::sync::Arc;
use std::time::Instant;

use forebay_proto::v1::{Format, GetHistoryRequest, GetHistoryResponse, OffsetVector, Status as ValueStatus};
use forebay_storage::{HistoryRange, Pinned, ShardReader, VersionKey};
use tonic::Status;

use super::cold::{self, Reach, Unread};
use super::columns::{Budget, Columns, Judge, Origin};
use super::deadline::Deadline;
use super::errors::invalid;
use super::page;
use super::request::{self, Wanted};
use super::wait::{Gate, Terms};
use super::{Context, read};
use crate::definitions::LaneDefinition;
use crate::lane::{Lane, ShardHandle};

/// Versions per page when the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Most versions per page.
const MAX_LIMIT: usize = 10_000;

/// Most versions looked at for one page, shown or not: bounds what one call costs.
const MAX_VISITED: usize = 100_000;

/// A checked request.
struct Query {
    request: GetHistoryRequest,
    wanted: Wanted,
    format: Format,
    lane: Arc<LaneDefinition>,
    terms: Terms,
}

/// Answers one page.
pub(super) async fn history(
    context: &Arc<Context>,
    request: GetHistoryRequest,
    deadline: Deadline,
) -> Result<GetHistoryResponse, Status> {
    deadline.check()?;
    let query = Query::new(context, request)?;
    let shard = query.shard(context, deadline).await?;
    cold::read(context, deadline, move |context, reach| query.page(context, &shard, reach)).await
}

impl Query {
    fn new(context: &Context, request: GetHistoryRequest) -> Result<Query, Status> {
        request::check_entity(&"entity", &request.entity)?;
        let definitions = context.definitions.load();
        let view = request::view(&definitions, &request.view)?.clone();
        let format = request::format(request.format)?;
        let fields = request::fields(&view, &request.fields, format)?;
        check_range(&request)?;
        page::check(&request)?;
        let terms = Terms::new(context, request.wait_for.as_ref(), request.max_staleness_ms)?;
        let lane = definitions.lanes[view.lane].clone();
        Ok(Query { request, wanted: Wanted { view, fields }, format, lane, terms })
    }

    /// The shard that has the key, once it may be read.
    async fn shard(&self, context: &Context, deadline: Deadline) -> Result<Arc<ShardHandle>, Status> {
        let lane = context.lane(&self.lane.name).ok_or_else(|| self.unavailable(0, read::NO_LANE))?;
        let partitions = lane.partition_count().unwrap_or(0);
        let partition = self.lane.partitioner.partition(&self.request.entity, partitions);
        match self.gate(context, lane, partition, deadline).await {
            Gate::Open(shard) => Ok(shard),
            Gate::Closed(reason) => Err(self.unavailable(partition, &reason)),
            Gate::Undecided => Err(self.unavailable(partition, "not looked at")),
        }
    }

    async fn gate(&self, context: &Context, lane: &Lane, partition: u32, deadline: Deadline) -> Gate {
        match self.terms.gate(lane, partition, context.clock.now_ms()) {
            Gate::Undecided => {
                let until: Instant = deadline.wait_until(context.config.read.default_wait_ms);
                self.terms.wait(context, lane, partition, until).await
            }
            decided => decided,
        }
    }

    fn unavailable(&self, partition: u32, reason: &str) -> Status {
        Status::unavailable(format!("lane {}, partition {partition}: {reason}", self.lane.name))
    }

    fn page(
        &self,
        context: &Context,
        shard: &ShardHandle,
        reach: Reach,
    ) -> Result<GetHistoryResponse, Unread> {
        let mut read_at = Vec::new();
        read::note_applied(&mut read_at, shard);
        let (reader, partition) = (read::reader_of(shard).of(self.wanted.view.id), shard.partition);
        let now_ms = context.clock.now_ms();
        let judge = Judge {
            now_ms,
            at_ms: now_ms,
            lateness_ms: self.lane.allowed_lateness_ms,
            include_expired: self.request.include_expired,
        };
        let budget = Budget::new(context.answer_bytes());
        let (range, pin) = (self.range(reader)?, reach.pin(reader));
        let (columns, last) = self.versions(&pin, &range, partition, &judge, budget)?;
        pin.check()?;
        let topic = |key: &VersionKey| reader.topics()[usize::from(key.topic.0)].name.as_str();
        Ok(GetHistoryResponse {
            versions: Some(columns.finish()),
            next_page_token: last
                .map(|key| page::token(&self.request, &key, topic(&key)))
                .unwrap_or_default(),
            read_at: Some(OffsetVector { topics: read_at }),
        })
    }

    /// The rows of the page and, if there may be more, the version after which they are.
    fn versions(
        &self,
        pin: &Pinned<'_>,
        range: &HistoryRange,
        partition: u32,
        judge: &Judge,
        mut budget: Budget,
    ) -> Result<(Columns, Option<VersionKey>), Unread> {
        let mut columns = Columns::new(&self.wanted, self.format, 0, &mut budget)?;
        let origin = Origin { topics: pin.topics(), partition };
        let (mut rows, mut last) = (0, None);
        for (visited, version) in pin.history(&self.request.entity, self.wanted.view.id, range).enumerate() {
            let version = version?;
            let shown = self.shows(judge.status(&version));
            let full = shown && (rows == self.limit() || budget.left() < 2 * self.lane.max_value_bytes);
            if rows > 0 && full || visited >= MAX_VISITED {
                return Ok((columns, last));
            }
            last = Some(version.key());
            if shown {
                let row = columns.add_row(&mut budget)?;
                columns.set(row, &version, origin, judge, &mut budget)?;
                rows += 1;
            }
        }
        Ok((columns, None))
    }

    fn shows(&self, status: ValueStatus) -> bool {
        match status {
            ValueStatus::NotFound => false,
            ValueStatus::Expired => self.request.include_expired,
            _ => true,
        }
    }

    fn limit(&self) -> usize {
        match self.request.limit as usize {
            0 => DEFAULT_LIMIT,
            limit => limit,
        }
    }

    fn range(&self, reader: &ShardReader) -> Result<HistoryRange, Status> {
        Ok(HistoryRange {
            from_ms: self.request.from_ms,
            to_ms: self.request.to_ms,
            known_at_ms: self.request.known_at_ms,
            after: page::after(&self.request, |topic| reader.topic(topic))?,
        })
    }
}

fn check_range(request: &GetHistoryRequest) -> Result<(), Status> {
    request::check_time("from_ms", request.from_ms)?;
    request::check_time("to_ms", request.to_ms)?;
    request::check_time("known_at_ms", request.known_at_ms)?;
    if let (Some(from), Some(to)) = (request.from_ms, request.to_ms)
        && from > to
    {
        return Err(invalid(format!("from_ms: {from} is after to_ms {to}")));
    }
    match request.limit as usize {
        limit if limit > MAX_LIMIT => {
            Err(invalid(format!("limit: {limit} given, at most {MAX_LIMIT} is allowed")))
        }
        _ => Ok(()),
    }
}
