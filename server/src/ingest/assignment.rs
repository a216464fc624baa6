//! What an ingest thread does when its group gives it partitions or takes them back. Shards stay open through a
//! rebalance and serve reads: only those that come back to another member are closed, once that is known.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::apply::Stop;
use super::lane_thread::{Halted, LaneThread};
use super::opening::{Bounds, Files, Job, Opened, Opening, lost};
use super::run::TopicsError;
use super::shard::{Shard, Source};
use crate::kafka::consumer::Place;
use crate::kafka::topics::DescribeError;
use crate::lane::{ShardHandle, ShardState, TopicProgress};
use crate::shard_files::Writers;

/// While shards are still being opened, those that are open begin this long after the last that began: beginning drops
/// what was fetched ahead.
const BEGIN_AFTER: Duration = Duration::from_millis(500);

impl LaneThread {
    /// The group gave this thread partitions. Consuming begins when each shard was compared with its logs.
    pub(super) fn assigned(&mut self, partitions: &[(String, i32)]) {
        let wanted: BTreeSet<u32> = partitions.iter().map(|(_, partition)| *partition as u32).collect();
        tracing::info!(lane = self.run.name(), thread = self.number, partitions = ?wanted, "assigned");
        self.opening = None;
        if !self.topics_are_missing(&wanted) {
            self.let_go_all_but(&wanted);
        }
        self.tell_assigned();
        let (open, halted) = (&self.shards, &self.halted);
        let is_halted = |partition: &u32| halted.iter().any(|halted| halted.handle.partition == *partition);
        let job = |partition: u32| match open.iter().find(|shard| shard.partition == partition) {
            Some(shard) => Job::new(partition, shard.handle.clone(), Some(shard.positions())),
            None => Job::new(partition, self.show_opening(partition), None),
        };
        let jobs: Vec<Job> = wanted.iter().copied().filter(|p| !is_halted(p)).map(job).collect();
        // The group waits for an answer; the shards come as they are found fit.
        if let Err(error) = self.member.assign(std::iter::empty()) {
            tracing::warn!(lane = self.run.name(), %error, "assignment not acknowledged");
        }
        if self.ended {
            return self.refuse_all(jobs);
        }
        match Opening::start(self.run.clone(), jobs) {
            Ok(opening) => self.opening = Some(opening),
            Err(error) => tracing::error!(lane = self.run.name(), %error, "no thread to open shards on"),
        }
    }

    /// Partitions of a topic that is gone are given to no one: then a shard that was not given back is not another's, and
    /// stays to be seen.
    fn topics_are_missing(&self, wanted: &BTreeSet<u32>) -> bool {
        let kept = self.shards.iter().map(|shard| shard.partition);
        let mut kept = kept.chain(self.halted.iter().map(|halted| halted.handle.partition));
        let missing =
            || matches!(self.run.check_topics(), Err(TopicsError::Later(DescribeError::Missing(_))));
        kept.any(|partition| !wanted.contains(&partition)) && missing()
    }

    fn show_opening(&self, partition: u32) -> Arc<ShardHandle> {
        let handle = self.run.face(partition, ShardState::Opening);
        self.run.lane.publish(handle.clone());
        handle
    }

    /// The lane was stopped before: what it is given is halted for the same reason.
    fn refuse_all(&mut self, jobs: Vec<Job>) {
        let reason = self.run.refusal().unwrap_or_default();
        for job in jobs {
            job.handle.set_state(ShardState::Halted(reason.clone()));
            self.halted.push(Halted { handle: job.handle, shard: None });
        }
    }

    /// Closes the shards that another member has now.
    fn let_go_all_but(&mut self, wanted: &BTreeSet<u32>) {
        let gone = self.shards.extract_if(.., |shard| !wanted.contains(&shard.partition)).collect::<Vec<_>>();
        for shard in gone {
            tracing::info!(lane = self.run.name(), partition = shard.partition, "given to another");
            let settled = self.letters.is_settled();
            self.letters.forget(shard.partition);
            shard.close(&self.run.lane, settled);
        }
        let gone = self.halted.extract_if(.., |halted| !wanted.contains(&halted.handle.partition));
        for halted in gone.collect::<Vec<_>>() {
            match halted.shard {
                Some(shard) => shard.close(&self.run.lane, false),
                None => self.run.lane.withdraw(&halted.handle),
            }
        }
    }

    /// The group takes all partitions back to give them out anew. Everything taken in is made durable and said.
    pub(super) fn revoked(&mut self) {
        tracing::info!(lane = self.run.name(), thread = self.number, "revoked");
        let settled = self.letters.settle(Duration::from_secs(1));
        self.flush(settled);
        self.tell_last();
        // A member that lost its session may not say anything in the group's name: it would be shut out for good.
        if !self.member.is_lost() {
            self.commit_offsets(true);
        }
        self.let_rest();
        if let Err(error) = self.member.unassign() {
            tracing::warn!(lane = self.run.name(), %error, "revocation not acknowledged");
        }
    }

    /// Shards serve reads, and take nothing in until the group has given them out again.
    pub(super) fn let_rest(&mut self) {
        self.opening = None;
        self.must_assign = false;
        self.upkeep.rest();
        if let Some(teller) = &self.teller {
            teller.begin(None);
        }
        let now_ms = self.run.clock.now_ms();
        self.shards.iter().for_each(|shard| shard.handle.detach(now_ms));
    }

    /// Takes over what the opening thread has done.
    pub(super) fn take_opened(&mut self) {
        while let Some(opened) = self.opening.as_mut().and_then(Opening::next) {
            match opened {
                Opened::Open { partition, files, bounds } => self.opened(partition, files, &bounds),
                Opened::Refused { partition, reason } => self.refused(partition, reason),
            }
        }
        let all = self.opening.as_ref().is_none_or(Opening::is_done);
        if self.must_assign && (all || self.assigned_at.elapsed() > BEGIN_AFTER) {
            self.consume();
        }
    }

    fn opened(&mut self, partition: u32, files: Option<Files>, bounds: &[Bounds]) {
        if let Some(files) = files {
            let shard = self.new_shard(partition, *files, bounds);
            let at = self.shards.partition_point(|other| other.partition < partition);
            self.shards.insert(at, shard);
        }
        if let Some(at) = self.shards.iter().position(|shard| shard.partition == partition) {
            self.install(at, bounds);
        }
        self.upkeep.is_assigned = true;
        self.must_assign = true;
    }

    fn new_shard(&self, partition: u32, writer: Writers, bounds: &[Bounds]) -> Shard {
        let lag = i64::try_from(self.run.ingest.ready_max_lag).unwrap_or(i64::MAX);
        let source = |(name, bounds): (&str, &Bounds)| Source {
            name: name.into(),
            c_name: CString::new(name).expect("topic names have no NUL"),
            ready_at: bounds.end.saturating_sub(lag),
            committed: -1,
            told_from: 0,
            stored_to: 0,
            reread: i64::MAX,
        };
        let sources: Vec<Source> = self.run.topics().into_iter().zip(bounds).map(source).collect();
        let progress = sources.iter().map(|source| TopicProgress::new(source.name.to_string())).collect();
        let (reader, state) = (Some(writer.readers().clone()), ShardState::CatchingUp);
        let handle = Arc::new(ShardHandle::new(partition, reader, progress, state));
        self.run.lane.publish(handle.clone());
        Shard::new(handle, sources, writer)
    }

    /// Notes where the logs are. A topic new to the shard begins where its log begins.
    fn install(&mut self, at: usize, bounds: &[Bounds]) {
        let shard = &mut self.shards[at];
        let waits_for = self.pause.as_ref().map(|pause| pause.reason.clone());
        shard.handle.set_waits_for(waits_for);
        for (topic, bounds) in bounds.iter().enumerate() {
            shard.handle.topics[topic].end_offset.fetch_max(bounds.end, Ordering::AcqRel);
            if let Err(error) = shard.pass_to(topic, bounds.low) {
                tracing::warn!(partition = shard.partition, %error, "position not noted");
            }
        }
        // While dead letters are not written, what a shard kept from before the rebalance must not be committed.
        let committed = match self.letters.is_settled() {
            true => shard.commit(&self.run.lane.counters).map(drop),
            false => Ok(()),
        };
        match committed {
            Ok(()) => shard.check_ready(),
            Err(error) => {
                if let Stop::Halted = self.storage_failed(at, &error) {
                    return;
                }
            }
        }
        self.tell_installed(at, bounds);
    }

    fn refused(&mut self, partition: u32, reason: String) {
        match self.shards.iter().position(|shard| shard.partition == partition) {
            Some(at) => {
                let shard = self.shards.remove(at);
                self.halt(shard, reason);
            }
            None => {
                tracing::error!(lane = self.run.name(), partition, reason, "shard halted");
                let handle = self.run.face(partition, ShardState::Halted(reason));
                self.run.lane.publish(handle.clone());
                self.halted.push(Halted { handle, shard: None });
            }
        }
    }

    /// Kafka does not hold what a shard needs next: it is stopped with the reason, never moved on.
    pub(super) fn offset_lost(&mut self, place: &Place) {
        let (topic, partition, offset) = (place.0.as_str(), place.1 as u32, place.2);
        let Some(at) = self.shards.iter().position(|shard| shard.partition == partition) else { return };
        if let Err(TopicsError::Refused(_)) = self.run.check_topics() {
            // The whole lane stops, with a better reason.
            return;
        }
        let number = self.shards[at].topics.iter().position(|source| *source.name == *topic);
        let next = number.map_or(offset, |number| self.shards[at].next_offset(number));
        let bounds = self.run.bounds(topic, partition);
        let reason = bounds.ok().and_then(|(low, end)| lost(topic, partition, Some(next), low, end));
        let reason =
            reason.unwrap_or_else(|| format!("Kafka does not give offset {next} of {topic}/{partition}"));
        self.settle_and_commit();
        let shard = self.shards.remove(at);
        self.halt(shard, reason);
        self.consume();
    }
}
