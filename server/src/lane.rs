//! A lane as the rest of the server sees it: its shards, how far each has come, and what became of its data points.
//! Ingest threads write here, services and metrics read. Holds no connection and starts no thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use forebay_storage::{ShardReader, TopicIndex};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::definitions::LaneDefinition;

/// One lane of this server.
#[derive(Debug)]
pub struct Lane {
    /// As defined.
    pub definition: Arc<LaneDefinition>,
    /// Partitions of each topic; 0 until the broker has said.
    pub partitions: AtomicU32,
    /// What became of every data point since start.
    pub counters: Counters,
    shards: ArcSwap<Vec<Arc<ShardHandle>>>,
}

/// What became of data points since this process started; each data point counts in exactly one of the first six.
#[derive(Debug, Default)]
pub struct Counters {
    /// Became the current version of its key.
    pub applied: AtomicU64,
    /// Older than the current version, inside the TTL.
    pub late: AtomicU64,
    /// Same event time and bytes as the version it replaced.
    pub duplicate: AtomicU64,
    /// Sent to the dead-letter topic.
    pub dead_lettered: AtomicU64,
    /// Older than its TTL on arrival.
    pub expired: AtomicU64,
    /// Delivered again; already in the shard.
    pub replayed: AtomicU64,
    /// Found on a partition the partitioner would not choose (counted besides its outcome).
    pub wrong_partition: AtomicU64,
    /// Payload bytes consumed.
    pub bytes: AtomicU64,
}

/// The life of a shard; the numbers are those of the contract's `ShardState`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// Recovering from its own files.
    Opening,
    /// Not yet at the end offsets seen at start.
    CatchingUp,
    /// Serves reads.
    Ready,
    /// Stopped until a person acts; the reason says what happened and what helps.
    Halted(String),
    /// Given to another server of the group.
    Closed,
}

/// One shard: written by one ingest thread, read by everyone.
#[derive(Debug)]
pub struct ShardHandle {
    /// Partition of every topic of the lane.
    pub partition: u32,
    /// Absent while opening or when it could not be opened.
    pub reader: Option<ShardReader>,
    /// One per topic of the lane, in definition order.
    pub topics: Vec<TopicProgress>,
    state: Mutex<ShardState>,
    was_ready: AtomicBool,
    progress: watch::Sender<u64>,
}

/// How far a shard has come in one topic.
#[derive(Debug)]
pub struct TopicProgress {
    /// Topic name.
    pub name: String,
    /// Its number in the shard's files; absent while there is no reader.
    pub index: Option<TopicIndex>,
    /// Offset the next message in the log will have; -1 until known.
    pub end_offset: AtomicI64,
    /// Last offset known not to hold a data point for us (transaction markers, compacted gaps at the end); -1: none.
    pub passed_offset: AtomicI64,
}

impl Lane {
    /// A lane without shards.
    pub fn new(definition: Arc<LaneDefinition>) -> Self {
        Lane {
            definition,
            partitions: AtomicU32::new(0),
            counters: Counters::default(),
            shards: ArcSwap::from_pointee(Vec::new()),
        }
    }

    /// The shards this server has, by ascending partition.
    pub fn shards(&self) -> Arc<Vec<Arc<ShardHandle>>> {
        self.shards.load_full()
    }

    /// The shard of a partition, if this server has it.
    pub fn shard(&self, partition: u32) -> Option<Arc<ShardHandle>> {
        let shards = self.shards.load();
        let at = shards.binary_search_by_key(&partition, |shard| shard.partition).ok()?;
        Some(shards[at].clone())
    }

    /// Puts a shard in the place of the one with its partition, if any. Called by the ingest thread that owns it.
    pub fn publish(&self, shard: Arc<ShardHandle>) {
        self.shards.rcu(|shards| {
            let mut next: Vec<_> =
                shards.iter().filter(|other| other.partition != shard.partition).cloned().collect();
            let at = next.partition_point(|other| other.partition < shard.partition);
            next.insert(at, shard.clone());
            next
        });
    }

    /// Forgets a shard that is now another server's.
    pub fn withdraw(&self, partition: u32) {
        self.shards.rcu(|shards| {
            shards.iter().filter(|shard| shard.partition != partition).cloned().collect::<Vec<_>>()
        });
    }

    /// Partitions of each topic, once the broker has said.
    pub fn partition_count(&self) -> Option<u32> {
        match self.partitions.load(Ordering::Acquire) {
            0 => None,
            count => Some(count),
        }
    }
}

impl ShardHandle {
    /// A shard in state `Opening` or with a reader to serve.
    pub fn new(
        partition: u32,
        reader: Option<ShardReader>,
        topics: Vec<TopicProgress>,
        state: ShardState,
    ) -> Self {
        let was_ready = AtomicBool::new(state == ShardState::Ready);
        let (state, progress) = (Mutex::new(state), watch::Sender::new(0));
        ShardHandle { partition, reader, topics, state, was_ready, progress }
    }

    /// Where it is in its life.
    pub fn state(&self) -> ShardState {
        self.state.lock().clone()
    }

    /// Moves it on in its life, and wakes those who wait.
    pub fn set_state(&self, state: ShardState) {
        self.was_ready.fetch_or(state == ShardState::Ready, Ordering::Release);
        *self.state.lock() = state;
        self.advanced();
    }

    /// To be called after each commit: wakes reads that wait for a position.
    pub fn advanced(&self) {
        self.progress.send_modify(|generation| *generation += 1);
    }

    /// Changes whenever positions or state may have changed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// The last offset of a topic that reads see, -1 if none: `topic` indexes `self.topics`.
    pub fn applied_offset(&self, topic: usize) -> i64 {
        let progress = &self.topics[topic];
        let applied = match (&self.reader, progress.index) {
            (Some(reader), Some(index)) => reader.applied(index).unwrap_or(-1),
            _ => -1,
        };
        applied.max(progress.passed_offset.load(Ordering::Acquire))
    }

    /// Whether reads may see what it has: READY, or stopped by its disk after it had been READY (what is there is
    /// right, only not new). Otherwise the state that forbids it.
    pub fn serves(&self) -> Result<&ShardReader, ShardState> {
        let state = self.state();
        let Some(reader) = &self.reader else { return Err(state) };
        match state {
            ShardState::Ready => Ok(reader),
            ShardState::Halted(_)
                if self.was_ready.load(Ordering::Acquire) && reader.poisoned().is_some() =>
            {
                Ok(reader)
            }
            _ => Err(state),
        }
    }

    /// At most this far behind the end of its logs, in ms: 0 when caught up.
    pub fn staleness_ms(&self, _now_ms: i64) -> u64 {
        let behind = |topic: usize| {
            self.applied_offset(topic) + 1 < self.topics[topic].end_offset.load(Ordering::Acquire)
        };
        if (0..self.topics.len()).any(behind) { u64::MAX } else { 0 }
    }

    /// Messages between what is applied of a topic and its end; 0 while the end is not known.
    pub fn lag_offsets(&self, topic: usize) -> u64 {
        let end = self.topics[topic].end_offset.load(Ordering::Acquire);
        u64::try_from(end - (self.applied_offset(topic) + 1)).unwrap_or(0)
    }
}
