//! What the threads of one lane share: its inputs, what the broker says of its topics, and whether the lane was stopped
//! for a reason that needs a person. Made by `Ingest::start`.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use forebay_storage::{DiskBudget, Options, ShardIdentity, SyncGroup, TopicLog};
use parking_lot::Mutex;

use super::route::policies;
use crate::clock::Clock;
use crate::config::{IngestConfig, KafkaConfig, StorageConfig, TriggersConfig};
use crate::definitions::SharedDefinitions;
use crate::kafka::group_config;
use crate::kafka::topics::{DescribeError, TopicAdmin, TopicFacts};
use crate::lane::{Lane, ShardHandle, ShardState, TopicProgress};
use crate::tuning;

/// How long one question about topics may take.
const ASK: Duration = Duration::from_secs(3);

/// One lane at work.
pub struct LaneRun {
    /// What everyone sees of it.
    pub lane: Arc<Lane>,
    /// The definitions in force.
    pub definitions: SharedDefinitions,
    /// The wall clock.
    pub clock: Clock,
    /// `[kafka]`
    pub kafka: KafkaConfig,
    /// `[storage]`
    pub storage: StorageConfig,
    /// `[ingest]`
    pub ingest: IngestConfig,
    /// `[triggers]`
    pub triggers: TriggersConfig,
    /// Whether the group's offsets say which edges are told.
    pub telling: AtomicBool,
    /// Answers questions about the group's offsets; made when there is the first.
    group: OnceLock<TopicAdmin>,
    /// This server's name in its groups.
    pub instance: String,
    /// Syncs the lane's shards.
    pub sync: SyncGroup,
    /// What the lane's shards may take of the disk together.
    pub disk: Option<Arc<DiskBudget>>,
    /// Answers questions about topics.
    pub admin: TopicAdmin,
    /// Set when the lane is to end.
    pub stopping: AtomicBool,
    /// Whether the last question to the brokers was answered.
    pub reachable: AtomicBool,
    /// The thread that checks the topics, to be woken when there is a reason to.
    pub watcher: OnceLock<Thread>,
    facts: Mutex<Option<Vec<TopicFacts>>>,
    refused: AtomicBool,
    refusal: Mutex<Option<String>>,
}

/// Why a lane's topics cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicsError {
    /// Not now.
    Later(DescribeError),
    /// Not before a person has acted; the lane is stopped.
    Refused(String),
}

impl LaneRun {
    /// A lane about to start.
    pub fn new(inputs: LaneInputs) -> Self {
        let LaneInputs { lane, definitions, clock, kafka, storage, ingest, triggers, instance, sync, admin } =
            inputs;
        let disk = lane.definition.disk_bytes.map(|hard| DiskBudget::new(hard / 10 * 9, hard));
        LaneRun {
            disk,
            lane,
            definitions,
            clock,
            kafka,
            storage,
            ingest,
            triggers,
            telling: AtomicBool::new(false),
            group: OnceLock::new(),
            instance,
            sync,
            admin,
            stopping: AtomicBool::new(false),
            reachable: AtomicBool::new(true),
            watcher: OnceLock::new(),
            facts: Mutex::new(None),
            refused: AtomicBool::new(false),
            refusal: Mutex::new(None),
        }
    }

    /// Name of the lane.
    pub fn name(&self) -> &str {
        &self.lane.definition.name
    }

    /// Names of its topics, in definition order.
    pub fn topics(&self) -> Vec<&str> {
        self.lane.definition.topics.iter().map(|topic| topic.name.as_str()).collect()
    }

    /// Whether it is to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Has the topics checked now rather than at the next interval.
    pub fn check_soon(&self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.unpark();
        }
    }

    /// Why the lane was stopped, if it was.
    pub fn refusal(&self) -> Option<String> {
        if !self.refused.load(Ordering::Acquire) {
            return None;
        }
        self.refusal.lock().clone()
    }

    /// Stops the whole lane for a reason that needs a person. The first reason stays.
    pub fn refuse(&self, reason: String) {
        let mut refusal = self.refusal.lock();
        if refusal.is_none() {
            tracing::error!(lane = self.name(), reason, "lane halted");
            self.lane.set_trouble(Some(reason.clone()));
            for shard in self.lane.shards().iter() {
                shard.set_state(ShardState::Halted(reason.clone()));
            }
            *refusal = Some(reason);
            self.refused.store(true, Ordering::Release);
        }
    }

    /// Does `work`; a panic in it stops the lane (and nothing else), for what it left half done is not known.
    pub fn or_refuse(&self, what: &str, work: impl FnOnce()) {
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(work)) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            self.refuse(format!("{what} failed by a mistake of this program: {text}; restart this server"));
        }
    }

    /// Asks the broker about the topics and compares with what was known. A change that would send entities elsewhere,
    /// or give offsets another meaning, stops the lane.
    pub fn check_topics(&self) -> Result<Vec<TopicFacts>, TopicsError> {
        let described = self.admin.describe(&self.topics(), ASK);
        self.reachable.store(!matches!(described, Err(DescribeError::Unreachable(_))), Ordering::Release);
        let now = described.map_err(TopicsError::Later)?;
        let mut known = self.facts.lock();
        let changed = uneven(&now).or_else(|| known.as_ref().and_then(|known| changed(known, &now)));
        if let Some(reason) = changed {
            self.refuse(reason.clone());
            return Err(TopicsError::Refused(reason));
        }
        self.lane.partitions.store(now[0].partitions, Ordering::Release);
        let interval = tuning::sync_interval_ms(self.storage.sync_interval_ms, now[0].partitions);
        self.sync.set_interval(interval.value);
        *known = Some(now.clone());
        Ok(now)
    }

    /// First offset and end of one partition's log.
    pub fn bounds(&self, topic: &str, partition: u32) -> Result<(i64, i64), DescribeError> {
        self.admin.bounds(topic, partition, ASK)
    }

    /// The offset that the lane's group has of a partition, where that says which edges are told.
    pub fn told(&self, topic: &str, partition: u32) -> Result<Option<i64>, DescribeError> {
        if !self.telling.load(Ordering::Acquire) {
            return Ok(None);
        }
        let group = match self.group.get() {
            Some(group) => group,
            None => {
                let made = TopicAdmin::new(&group_config(&self.kafka, self.name()));
                let made = made.map_err(|error| DescribeError::Unreachable(error.to_string()))?;
                self.group.get_or_init(|| made)
            }
        };
        group.committed(topic, partition, ASK)
    }

    /// Where a shard's files are.
    pub fn shard_dir(&self, partition: u32) -> PathBuf {
        self.storage.dir.join(self.name()).join(partition.to_string())
    }

    /// What a shard of this lane is, so that files of another are never taken for it.
    pub fn identity(&self, partition: u32, facts: &[TopicFacts]) -> ShardIdentity {
        let topics = self.lane.definition.topics.iter().zip(facts);
        ShardIdentity {
            lane: self.name().into(),
            partition,
            partitions: facts[0].partitions,
            topics: topics
                .map(|(topic, facts)| TopicLog {
                    name: topic.name.clone(),
                    topic_id: facts.id,
                    priority: topic.priority,
                })
                .collect(),
            views: policies(&self.definitions.load(), &self.lane.definition),
        }
    }

    /// Sizes and allowances of the lane's shards.
    pub fn shard_options(&self) -> Options {
        Options {
            segment_bytes: self.storage.segment_bytes,
            allowed_lateness_ms: self.lane.definition.allowed_lateness_ms,
            // Until `memory` has looked at it.
            resident_bytes: self.storage.memory_limit(),
            checkpoint_bytes: self.storage.checkpoint_bytes,
            disk: self.disk.clone(),
            ..Options::default()
        }
    }

    /// A handle for a shard that has no reader.
    pub fn face(&self, partition: u32, state: ShardState) -> Arc<ShardHandle> {
        let topics = self.lane.definition.topics.iter();
        let topics = topics.map(|topic| TopicProgress::new(topic.name.clone())).collect();
        Arc::new(ShardHandle::new(partition, None, topics, state))
    }
}

/// What a lane is started with; see the fields of the same names in [`LaneRun`].
pub struct LaneInputs {
    pub lane: Arc<Lane>,
    pub definitions: SharedDefinitions,
    pub clock: Clock,
    pub kafka: KafkaConfig,
    pub storage: StorageConfig,
    pub ingest: IngestConfig,
    pub triggers: TriggersConfig,
    pub instance: String,
    pub sync: SyncGroup,
    pub admin: TopicAdmin,
}

fn uneven(facts: &[TopicFacts]) -> Option<String> {
    facts.iter().any(|topic| topic.partitions != facts[0].partitions).then(|| {
        let counts: Vec<_> = facts.iter().map(|t| format!("{} has {}", t.name, t.partitions)).collect();
        format!(
            "the topics of a lane must have the same number of partitions: {}; give them the same number, or put them \
             into lanes of their own",
            counts.join(", ")
        )
    })
}

fn changed(known: &[TopicFacts], now: &[TopicFacts]) -> Option<String> {
    known.iter().zip(now).find_map(|(known, now)| recreated(known, now).or_else(|| repartitioned(known, now)))
}

fn recreated(known: &TopicFacts, now: &TopicFacts) -> Option<String> {
    let unknown = [0; 16];
    (known.id != unknown && now.id != unknown && known.id != now.id).then(|| {
        format!(
            "topic {} was recreated: its id was {}, now it is {}; its offsets mean other records now, so rebuild the \
             lane in a new directory",
            now.name,
            hex::encode(known.id),
            hex::encode(now.id)
        )
    })
}

fn repartitioned(known: &TopicFacts, now: &TopicFacts) -> Option<String> {
    (known.partitions != now.partitions).then(|| {
        format!(
            "topic {} had {} partitions, now it has {}: entities are on other partitions than their stored values; \
             rebuild the lane in a new directory",
            now.name, known.partitions, now.partitions
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, id: u8, partitions: u32) -> TopicFacts {
        TopicFacts { name: name.into(), id: [id; 16], partitions }
    }

    #[test]
    fn topics_of_one_count_are_even() {
        assert_eq!(uneven(&[topic("a", 1, 4), topic("b", 2, 4)]), None);
    }

    #[test]
    fn topics_of_different_counts_are_refused_by_name() {
        let reason = uneven(&[topic("a", 1, 4), topic("b", 2, 8)]).unwrap();
        assert!(reason.contains("a has 4") && reason.contains("b has 8"), "{reason}");
    }

    #[test]
    fn p14_another_topic_id_is_another_log() {
        let reason = changed(&[topic("a", 1, 4)], &[topic("a", 2, 4)]).unwrap();
        assert!(reason.contains("topic a was recreated"), "{reason}");
    }

    #[test]
    fn an_unknown_topic_id_is_compared_with_nothing() {
        assert_eq!(changed(&[topic("a", 0, 4)], &[topic("a", 2, 4)]), None);
        assert_eq!(changed(&[topic("a", 2, 4)], &[topic("a", 0, 4)]), None);
    }

    #[test]
    fn p17_another_partition_count_is_refused() {
        let reason = changed(&[topic("a", 1, 4)], &[topic("a", 1, 8)]).unwrap();
        assert!(reason.contains("had 4 partitions, now it has 8"), "{reason}");
    }
}
