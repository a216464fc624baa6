//! GetFeatures: checked once, routed, gated per shard, then read shard by shard without waiting. `stream` uses the same
//! steps one by one, so that a request that need not wait costs no task. Reads run where they are called, as far as what
//! is read is in memory, which it is nearly always: handing it to another thread costs more than the read. The others
//! are done again by `cold`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use forebay_proto::v1::{
    Format, GetFeaturesRequest, GetFeaturesResponse, OffsetVector, ShardUnavailable, TopicOffsets,
};
use forebay_storage::{Pinned, ReadError, Version};
use futures::future::join_all;
use tonic::Status;

use super::Context;
use super::cold::{self, Reach, Unread};
use super::columns::{Budget, Columns, Judge, Origin};
use super::deadline::Deadline;
use super::request::{self, Moment, Wanted};
use super::route::{self, Group, Part};
use super::wait::{Gate, Terms};
use crate::lane::{Lane, ShardHandle};
use crate::shard_files::{Readers, Share};

/// A checked and routed request.
pub(super) struct Read {
    entities: Vec<Bytes>,
    wanted: Vec<Wanted>,
    format: Format,
    moment: Moment,
    include_expired: bool,
    /// The moment at which it is judged what has expired, if that is not now.
    judged_at_ms: Option<i64>,
    terms: Terms,
    parts: Vec<Part>,
}

/// Answers a request, waiting as long as it asks and its deadline lets it.
pub(super) async fn features(
    context: &Arc<Context>,
    request: GetFeaturesRequest,
    deadline: Deadline,
) -> Result<GetFeaturesResponse, Status> {
    deadline.check()?;
    let mut read = Read::new(context, request)?;
    if !read.decide(context) {
        read.wait(context, deadline).await;
    }
    read.answer(context, deadline).await
}

impl Read {
    /// Checks a request and finds the shards it is about.
    pub(super) fn new(context: &Context, request: GetFeaturesRequest) -> Result<Read, Status> {
        request::check_entities(&request.entities, context.config.read.max_entities)?;
        let format = request::format(request.format)?;
        let moment = request::moment(&request)?;
        let definitions = context.definitions.load();
        let wanted = request::selection(&definitions, &request, format)?;
        let terms = Terms::new(context, request.wait_for.as_ref(), request.max_staleness_ms)?;
        let parts = route::parts(context, &definitions, &wanted, &request.entities);
        let (entities, include_expired) = (request.entities, request.include_expired);
        let judged_at_ms = None;
        Ok(Read { entities, wanted, format, moment, include_expired, judged_at_ms, terms, parts })
    }

    /// Has it judged what has expired as of a moment, ms since the epoch.
    pub(super) fn judged_at(self, moment_ms: i64) -> Read {
        Read { judged_at_ms: Some(moment_ms), ..self }
    }

    /// What it reads, in the order of its answer.
    pub(super) fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Looks once at every shard; false: at least one has to be waited for.
    pub(super) fn decide(&mut self, context: &Context) -> bool {
        let now_ms = self.terms.clock(context);
        let mut decided = true;
        for part in &mut self.parts {
            for group in &mut part.groups {
                group.gate = match &part.lane {
                    Some(lane) => self.terms.gate(lane, group.partition, now_ms),
                    None => Gate::Closed(NO_LANE.into()),
                };
                decided &= !matches!(group.gate, Gate::Undecided);
            }
        }
        decided
    }

    /// Waits for all undecided shards at once.
    pub(super) async fn wait(&mut self, context: &Context, deadline: Deadline) {
        let until = deadline.wait_until(context.config.read.default_wait_ms);
        let terms = &self.terms;
        let waits = self.parts.iter_mut().flat_map(|part| {
            let lane = &part.lane;
            part.groups.iter_mut().map(move |group| settle(context, terms, lane.as_deref(), group, until))
        });
        join_all(waits).await;
    }

    /// Reads what the gates let be read, wherever it is.
    pub(super) async fn answer(
        self,
        context: &Arc<Context>,
        deadline: Deadline,
    ) -> Result<GetFeaturesResponse, Status> {
        cold::read(context, deadline, move |context, reach| self.answer_within(context, reach)).await
    }

    /// Reads what the gates let be read, within reach.
    pub(super) fn answer_within(
        &self,
        context: &Context,
        reach: Reach,
    ) -> Result<GetFeaturesResponse, Unread> {
        let rows = self.entities.len();
        let mut budget = Budget::new(context.answer_bytes());
        let columns = self.wanted.iter().map(|wanted| Columns::new(wanted, self.format, rows, &mut budget));
        let mut answer = Answer {
            columns: columns.collect::<Result<_, _>>()?,
            budget,
            read_at: Vec::new(),
            unavailable: Vec::new(),
        };
        let now_ms = context.clock.now_ms();
        let at_ms = self.judged_at_ms.unwrap_or(now_ms);
        for part in &self.parts {
            let (lateness_ms, include_expired) = (part.lateness_ms, self.include_expired);
            let judge = Judge { now_ms, at_ms, lateness_ms, include_expired };
            for group in &part.groups {
                self.answer_group(part, group, reach, &judge, &mut answer)?;
            }
        }
        Ok(answer.finish())
    }

    fn answer_group(
        &self,
        part: &Part,
        group: &Group,
        reach: Reach,
        judge: &Judge,
        answer: &mut Answer,
    ) -> Result<(), Unread> {
        match &group.gate {
            Gate::Open(shard) => {
                note_applied(&mut answer.read_at, shard);
                let shares = reader_of(shard).share(&part.view_ids, &part.columns);
                shares.iter().try_for_each(|share| self.read_share(share, group, reach, judge, answer))
            }
            Gate::Closed(reason) => {
                answer.set_unavailable(part, group, reason);
                Ok(())
            }
            Gate::Undecided => {
                answer.set_unavailable(part, group, "not looked at");
                Ok(())
            }
        }
    }

    fn read_share(
        &self,
        share: &Share<'_>,
        group: &Group,
        reach: Reach,
        judge: &Judge,
        answer: &mut Answer,
    ) -> Result<(), Unread> {
        let pin = reach.pin(share.reader);
        let origin = Origin { topics: pin.topics(), partition: group.partition };
        for row in &group.rows {
            let row = *row as usize;
            self.read_entity(&pin, share, row, |column, version| {
                answer.columns[column].set(row, version, origin, judge, &mut answer.budget)
            })?;
        }
        Ok(pin.check()?)
    }

    /// Gives the version of each view of a share that one entity has; stops at the first failure.
    fn read_entity<'g>(
        &self,
        pin: &'g Pinned<'_>,
        share: &Share<'_>,
        row: usize,
        mut each: impl FnMut(usize, &Version<'g>) -> Result<(), Status>,
    ) -> Result<(), Unread> {
        let mut outcome = Ok(());
        let mut take = |i: usize, found: Result<Option<Version<'g>>, ReadError>| {
            if outcome.is_err() {
                return;
            }
            outcome = match found {
                Ok(Some(version)) => each(share.columns[i], &version).map_err(Unread::from),
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
        };
        let entity = &self.entities[row];
        match self.moment {
            Moment::Latest => pin.latest_many(entity, &share.views, &mut take),
            Moment::AsOf { event_time_ms, known_at_ms } => {
                for (i, view) in share.views.iter().enumerate() {
                    take(i, pin.as_of(entity, *view, event_time_ms, known_at_ms));
                }
            }
        }
        outcome
    }
}

/// The reader of a shard whose gate is open.
pub(super) fn reader_of(shard: &ShardHandle) -> &Readers {
    shard.reader.as_ref().expect("an open gate is a shard with a reader")
}

/// Why a lane of the definitions does not answer.
pub(super) const NO_LANE: &str =
    "the lane was defined after this server started; restart the server to serve it";

async fn settle(context: &Context, terms: &Terms, lane: Option<&Lane>, group: &mut Group, until: Instant) {
    if let (Gate::Undecided, Some(lane)) = (&group.gate, lane) {
        group.gate = terms.wait(context, lane, group.partition, until).await;
    }
}

/// An answer in the making.
struct Answer {
    columns: Vec<Columns>,
    budget: Budget,
    read_at: Vec<TopicOffsets>,
    unavailable: Vec<ShardUnavailable>,
}

impl Answer {
    fn set_unavailable(&mut self, part: &Part, group: &Group, reason: &str) {
        for column in &part.columns {
            for row in &group.rows {
                self.columns[*column].set_unavailable(*row as usize);
            }
        }
        self.unavailable.push(ShardUnavailable {
            lane: part.name.clone(),
            partition: group.partition,
            reason: reason.to_owned(),
        });
    }

    fn finish(self) -> GetFeaturesResponse {
        GetFeaturesResponse {
            views: self.columns.into_iter().map(Columns::finish).collect(),
            read_at: Some(OffsetVector { topics: self.read_at }),
            unavailable: self.unavailable,
        }
    }
}

/// Adds what a shard has applied by now. To be called before the shard is read: all of it is visible to the read then.
pub(super) fn note_applied(read_at: &mut Vec<TopicOffsets>, shard: &ShardHandle) {
    for (i, topic) in shard.topics.iter().enumerate() {
        let applied = shard.applied_offset(i);
        if applied < 0 {
            continue;
        }
        let columns = match read_at.iter().position(|offsets| offsets.topic == topic.name) {
            Some(at) => &mut read_at[at],
            None => read_at.push_mut(TopicOffsets { topic: topic.name.clone(), ..TopicOffsets::default() }),
        };
        columns.partitions.push(shard.partition);
        columns.offsets.push(applied);
    }
}

impl Context {
    /// How many bytes an answer may have: what a client that sends the largest requests can be expected to
    /// take back, and a bound on what one request costs.
    pub(super) fn answer_bytes(&self) -> usize {
        self.config.read.max_message_bytes.saturating_mul(4)
    }
}
