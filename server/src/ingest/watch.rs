//! One thread per lane that asks the broker about the lane's topics: until they are there, then again and again, so that
//! a log lost, recreated or repartitioned is noticed and never read on silently.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::run::{LaneRun, TopicsError};
use crate::kafka::topics::DescribeError;
use crate::lane::{ShardHandle, ShardState};

/// While something is wrong it is asked at least this often.
const TROUBLED: Duration = Duration::from_secs(1);
/// So many answers in a row that a topic is not there mean that it was deleted, not that a broker is starting.
const MISSING_IN_A_ROW: u32 = 3;

struct Watch {
    run: Arc<LaneRun>,
    missing: u32,
    /// Stands in the status for a lane that has no shards yet.
    placeholders: Vec<Arc<ShardHandle>>,
}

/// Watches the lane's topics until it is stopped.
pub fn watch(run: Arc<LaneRun>) {
    run.watcher.set(thread::current()).ok();
    let interval = Duration::from_millis(run.kafka.topics_check_interval_ms.max(1));
    let mut watch = Watch { run, missing: 0, placeholders: Vec::new() };
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
        self.missing == 0 && self.run.lane.trouble().is_none()
    }

    fn well(&mut self) {
        self.missing = 0;
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
        self.missing = if matches!(error, DescribeError::Missing(_)) { self.missing + 1 } else { 0 };
        if self.run.lane.partition_count().is_none() {
            self.show(ShardState::Opening, 1, &reason);
        } else if self.missing >= MISSING_IN_A_ROW {
            self.run.refuse(format!("{reason}: it was deleted; rebuild the lane in a new directory"));
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
