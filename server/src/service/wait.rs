//! Whether a shard may be read for a request: its state, the positions the request waits for, and how old its answer may
//! be. Called by `read` and `history`; reads no data.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_proto::v1::{OffsetVector, TopicOffsets};
use tonic::Status;

use super::Context;
use super::errors::invalid;
use crate::config::suggest::did_you_mean;
use crate::lane::{Lane, ShardHandle, ShardState};

/// A waiting read looks again at least this often, because a shard may be replaced by another handle.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Kafka has no longer topic names.
const MAX_TOPIC_CHARS: usize = 249;

/// Whether a shard may be read.
#[derive(Debug)]
pub(super) enum Gate {
    /// Not looked at yet, or to be waited for.
    Undecided,
    /// It may.
    Open(Arc<ShardHandle>),
    /// It may not, for this reason.
    Closed(String),
}

/// What a request asks of each shard before it reads.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// By lane name and partition: index of a topic in the lane, offset that must be applied.
    positions: HashMap<(String, u32), Vec<(usize, i64)>>,
    max_staleness_ms: Option<u64>,
}

impl Terms {
    /// Checks the positions of a request.
    pub(super) fn new(
        context: &Context,
        wait_for: Option<&OffsetVector>,
        max_staleness_ms: Option<u64>,
    ) -> Result<Terms, Status> {
        let mut terms = Terms { positions: HashMap::new(), max_staleness_ms };
        for topic in wait_for.map_or(&[][..], |vector| &vector.topics) {
            terms.add(context, topic)?;
        }
        Ok(terms)
    }

    fn add(&mut self, context: &Context, offsets: &TopicOffsets) -> Result<(), Status> {
        check_columns(offsets)?;
        let mut known = false;
        for lane in &context.lanes {
            let topics = &lane.definition.topics;
            let Some(topic) = topics.iter().position(|topic| topic.name == offsets.topic) else { continue };
            known = true;
            self.add_to(lane, topic, offsets)?;
        }
        if known {
            return Ok(());
        }
        Err(unknown_topic(context, &offsets.topic))
    }

    fn add_to(&mut self, lane: &Lane, topic: usize, offsets: &TopicOffsets) -> Result<(), Status> {
        // Before the broker has said how many partitions there are no shard of the lane answers anyway.
        let Some(count) = lane.partition_count() else { return Ok(()) };
        for (partition, offset) in offsets.partitions.iter().zip(&offsets.offsets) {
            if *partition >= count {
                return Err(invalid(format!(
                    "wait_for: topic {:?} has {count} partitions, there is no partition {partition}",
                    offsets.topic
                )));
            }
            let wanted = self.positions.entry((lane.definition.name.clone(), *partition)).or_default();
            match wanted.iter_mut().find(|(other, _)| *other == topic) {
                Some((_, highest)) => *highest = (*highest).max(*offset),
                None => wanted.push((topic, *offset)),
            }
        }
        Ok(())
    }

    fn positions(&self, lane: &Lane, partition: u32) -> &[(usize, i64)] {
        if self.positions.is_empty() {
            return &[];
        }
        self.positions.get(&(lane.definition.name.clone(), partition)).map_or(&[], Vec::as_slice)
    }

    /// The time it is, as far as the terms need it: looking at the clock is a good part of a small read.
    pub(super) fn clock(&self, context: &Context) -> i64 {
        self.max_staleness_ms.map_or(0, |_| context.clock.now_ms())
    }

    /// Looks at a shard once. `Undecided`: waiting may open it.
    pub(super) fn gate(&self, lane: &Lane, partition: u32, now_ms: i64) -> Gate {
        let Some(shard) = lane.shard(partition) else { return Gate::Closed(absent(lane)) };
        let wanted = self.positions(lane, partition);
        let reached = wanted.iter().all(|(topic, offset)| shard.applied_offset(*topic) >= *offset);
        match shard.serves() {
            Err(ShardState::Opening | ShardState::CatchingUp) if !wanted.is_empty() => Gate::Undecided,
            Err(state) => Gate::Closed(not_ready(&shard, state)),
            Ok(_) if reached => self.fresh(shard, now_ms),
            Ok(_) => match shard.state() {
                ShardState::Halted(reason) => {
                    Gate::Closed(format!("will not reach the position waited for: {reason}"))
                }
                _ => Gate::Undecided,
            },
        }
    }

    fn fresh(&self, shard: Arc<ShardHandle>, now_ms: i64) -> Gate {
        let Some(allowed) = self.max_staleness_ms else { return Gate::Open(shard) };
        match shard.staleness_ms(now_ms) {
            behind if behind <= allowed => Gate::Open(shard),
            behind => Gate::Closed(format!("{behind} ms behind its logs; max_staleness_ms is {allowed}")),
        }
    }

    /// Waits until the shard is open or closed, at most until `until`. Holds no shard while it waits: a shard that
    /// closes must be let go.
    pub(super) async fn wait(&self, context: &Context, lane: &Lane, partition: u32, until: Instant) -> Gate {
        loop {
            let progress = lane.shard(partition).map(|shard| shard.watch());
            match self.gate(lane, partition, self.clock(context)) {
                Gate::Undecided if Instant::now() >= until => {
                    return Gate::Closed(self.ran_out(lane, partition));
                }
                Gate::Undecided => {}
                decided => return decided,
            }
            let look = until.min(Instant::now() + LOOK_AGAIN);
            match progress {
                Some(mut progress) => drop(tokio::time::timeout_at(look.into(), progress.changed()).await),
                None => tokio::time::sleep_until(look.into()).await,
            }
        }
    }

    fn ran_out(&self, lane: &Lane, partition: u32) -> String {
        let missing = lane.shard(partition).and_then(|shard| {
            let positions = self.positions(lane, partition).iter();
            let mut missing = positions.filter(|(topic, offset)| shard.applied_offset(*topic) < *offset);
            missing.next().map(|(topic, offset)| {
                let (name, applied) = (&shard.topics[*topic].name, shard.applied_offset(*topic));
                format!(
                    "the wait ran out: topic {name:?} is applied through {applied}, wait_for names {offset}"
                )
            })
        });
        missing.unwrap_or_else(|| "the wait ran out before the shard was ready".into())
    }
}

fn check_columns(offsets: &TopicOffsets) -> Result<(), Status> {
    let (partitions, positions) = (offsets.partitions.len(), offsets.offsets.len());
    if partitions != positions {
        return Err(invalid(format!(
            "wait_for: topic {:?} has {partitions} partitions but {positions} offsets; they are parallel columns",
            offsets.topic
        )));
    }
    match offsets.offsets.iter().find(|offset| **offset < 0) {
        Some(offset) => {
            Err(invalid(format!("wait_for: topic {:?} has the negative offset {offset}", offsets.topic)))
        }
        None => Ok(()),
    }
}

fn unknown_topic(context: &Context, name: &str) -> Status {
    let shown: String = name.chars().take(MAX_TOPIC_CHARS).collect();
    let topics = context.lanes.iter().flat_map(|lane| &lane.definition.topics);
    let hint = did_you_mean(&shown, topics.map(|topic| topic.name.as_str()));
    invalid(format!("wait_for: no lane here reads topic {shown:?}{hint}"))
}

fn absent(lane: &Lane) -> String {
    match (lane.trouble(), lane.partition_count()) {
        (Some(trouble), _) => trouble,
        (None, Some(_)) => {
            "not here: the shard is not on this server; GetStatus of the group's servers tells which has it"
                .into()
        }
        (None, None) => "not here yet: Kafka has not told the topics' partitions; try again soon".into(),
    }
}

fn not_ready(shard: &ShardHandle, state: ShardState) -> String {
    let hint = match state {
        ShardState::Opening | ShardState::CatchingUp => {
            "; try again soon, or ask another server of the group"
        }
        ShardState::Ready | ShardState::Closed => "; ask again",
        ShardState::Halted(_) => "",
    };
    format!("{}: {}{hint}", state.name(), shard.reason())
}
