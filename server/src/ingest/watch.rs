//! One thread per lane that asks the broker about the lane's topics: until they are there, then again and again, so that
//! a log lost, recreated or repartitioned is noticed and never read on silently.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::run::{LaneRun, TopicsError};
use crate::kafka::topics::DescribeError;
use crate::lane::{ShardHandle, ShardState};

/// While something is wrong it is asked at least this often.
const TROUBLED: Duration = Duration::from_secs(1);
/// A topic that is not there for so long was deleted; for less, a broker may be starting, or it may be made again (which
/// is noticed by its id).
const DELETED_AFTER: Duration = Duration::from_secs(10);

struct Watch {
    run: Arc<LaneRun>,
    missing_since: Option<Instant>,
    /// Stands in the status for a lane that has no shards yet.
    placeholders: Vec<Arc<ShardHandle>>,
}

/// Watches the lane's topics until it is stopped.
pub fn watch(run: Arc<LaneRun>) {
    run.watcher.set(thread::current()).ok();
    let interval = Duration::from_millis(run.kafka.topics_check_interval_ms.max(1));
    let mut watch = Watch { run, missing_since: None, placeholders: Vec::new() };
    watch.show(ShardState::Opening, 1, "asking Kafka about the lane's topics");
    while !watch.run.is_stopping() {
        let well = watch.check();
        thread::park_timeout(if well { interval } else { interval.min(TROUBLED) });
    }
}

impl Watch {
    /// True if all is well (or will not become so by asking).
    fn check(&mut self) -> bool {
        if self.run.refusal().is_some() {
            return true;
        }
        match self.run.check_topics() {
            Ok(_) => self.well(),
            Err(TopicsError::Later(error)) => self.trouble(&error),
            Err(TopicsError::Refused(reason)) => self.refused(&reason),
        }
        self.missing_since.is_none() && self.run.lane.trouble().is_none()
    }

    fn well(&mut self) {
        self.missing_since = None;
        if self.run.lane.trouble().is_some() {
            tracing::info!(lane = self.run.name(), "topics are there");
            self.run.lane.set_trouble(None);
        }
        self.withdraw_placeholders();
    }

    fn trouble(&mut self, error: &DescribeError) {
        let reason = error.to_string();
        if self.run.lane.trouble().as_ref() != Some(&reason) {
            tracing::warn!(lane = self.run.name(), reason, "topics");
        }
        self.run.lane.set_trouble(Some(reason.clone()));
        let DescribeError::Missing(topic) = error else {
            self.missing_since = None;
            return self.show_trouble(&reason);
        };
        let since = *self.missing_since.get_or_insert_with(Instant::now);
        if self.run.lane.partition_count().is_some() && since.elapsed() >= DELETED_AFTER {
            self.run.refuse(format!("topic {topic} was deleted; rebuild the lane in a new directory"));
        }
        self.show_trouble(&reason);
    }

    fn show_trouble(&mut self, reason: &str) {
        if self.run.lane.partition_count().is_none() {
            self.show(ShardState::Opening, 1, reason);
        }
    }

    fn refused(&mut self, reason: &str) {
        if self.run.lane.partition_count().is_none() {
            self.show(ShardState::Halted(reason.into()), 1, reason);
        }
    }

    /// Shows a state for shards that are not there.
    fn show(&mut self, state: ShardState, count: u32, reason: &str) {
        if self.placeholders.is_empty() {
            self.placeholders = (0..count).map(|p| self.run.face(p, state.clone())).collect();
            self.placeholders.iter().for_each(|shard| self.run.lane.publish(shard.clone()));
        }
        for shard in &self.placeholders {
            shard.set_state(state.clone());
            shard.set_waits_for(Some(reason.into()));
        }
    }

    fn withdraw_placeholders(&mut self) {
        // A shard that was published since has taken its placeholder's place.
        for shard in self.placeholders.drain(..) {
            self.run.lane.withdraw(&shard);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.withdraw_placeholders();
        self.run.reachable.store(true, Ordering::Release);
    }
}
