//! A lane as the rest of the server sees it: its shards, how far each has come, and what became of its data points.
//! Ingest threads write here, services and metrics read. Holds no connection and starts no thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::definitions::LaneDefinition;
use crate::shard_files::Readers;

/// One lane of this server.
#[derive(Debug)]
pub struct Lane {
    /// As defined.
    pub definition: Arc<LaneDefinition>,
    /// Its ingest threads.
    pub threads: usize,
    /// Partitions of each topic; 0 until the broker has said.
    pub partitions: AtomicU32,
    /// What became of every data point since start.
    pub counters: Counters,
    /// How long data points took from their Kafka timestamp to being readable, in ms; one histogram per ingest thread,
    /// which adds the newest data point of each batch.
    pub freshness_ms: Vec<Mutex<Histogram<u64>>>,
    shards: ArcSwap<Vec<Arc<ShardHandle>>>,
    trouble: Mutex<Option<String>>,
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
    /// Times a dead letter was not taken by its topic and is sent again.
    pub dead_letter_failures: AtomicU64,
    /// Times ingest stopped to wait: for the dead-letter topic, for room on disk, or for edges to be told.
    pub pauses: AtomicU64,
    /// Values judged by triggers, each trigger by itself.
    pub evaluations: AtomicU64,
    /// Conditions of rules that the CEL interpreter decided.
    pub interpreted: AtomicU64,
    /// Edges told.
    pub edges: AtomicU64,
    /// Times edges were not told at the first try.
    pub edge_failures: AtomicU64,
    /// Edges that wait to be told.
    pub edges_waiting: AtomicU64,
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

impl ShardState {
    /// As the contract names it.
    pub fn name(&self) -> &'static str {
        match self {
            ShardState::Opening => "OPENING",
            ShardState::CatchingUp => "CATCHING_UP",
            ShardState::Ready => "READY",
            ShardState::Halted(_) => "HALTED",
            ShardState::Closed => "CLOSED",
        }
    }
}

/// One shard: written by one ingest thread, read by everyone.
#[derive(Debug)]
pub struct ShardHandle {
    /// Partition of every topic of the lane.
    pub partition: u32,
    /// Absent while opening or when it could not be opened.
    pub reader: Option<Readers>,
    /// One per topic of the lane, in definition order.
    pub topics: Vec<TopicProgress>,
    times: Vec<TopicTimes>,
    /// Since when it hears nothing of its logs, ms since the epoch; 0: it does.
    detached_since_ms: AtomicI64,
    state: Mutex<ShardState>,
    waits_for: Mutex<Option<String>>,
    was_ready: AtomicBool,
    progress: watch::Sender<u64>,
}

/// How far a shard has come in one topic.
#[derive(Debug)]
pub struct TopicProgress {
    /// Topic name.
    pub name: String,
    /// Offset the next message in the log will have; -1 until known.
    pub end_offset: AtomicI64,
}

impl Lane {
    /// A lane without shards.
    pub fn new(definition: Arc<LaneDefinition>, threads: usize) -> Self {
        Lane {
            threads,
            partitions: AtomicU32::new(0),
            counters: Counters::default(),
            freshness_ms: (0..threads).map(|_| Mutex::new(freshness_histogram())).collect(),
            shards: ArcSwap::from_pointee(Vec::new()),
            trouble: Mutex::new(None),
            definition,
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

    /// Forgets a shard that is now another server's (or another thread's, which published a handle of its own: that
    /// one stays).
    pub fn withdraw(&self, gone: &Arc<ShardHandle>) {
        self.shards.rcu(|shards| {
            shards.iter().filter(|shard| !Arc::ptr_eq(shard, gone)).cloned().collect::<Vec<_>>()
        });
    }

    /// What is wrong with the lane as a whole, where it is not a shard's matter: topics missing, brokers not reached.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Says what is wrong with the lane as a whole, or that nothing is.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    /// The freshness of all threads together.
    pub fn freshness(&self) -> Histogram<u64> {
        let mut sum = freshness_histogram();
        for histogram in &self.freshness_ms {
            sum.add(&*histogram.lock()).expect("all have the same bounds");
        }
        sum
    }

    /// Partitions of each topic, once the broker has said.
    pub fn partition_count(&self) -> Option<u32> {
        match self.partitions.load(Ordering::Acquire) {
            0 => None,
            count => Some(count),
        }
    }
}

/// 1 ms to an hour, two digits; more is an hour.
fn freshness_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000, 2).expect("the bounds are valid")
}

/// When a shard was where in one topic, in ms since the epoch; 0: never.
#[derive(Debug, Default)]
struct TopicTimes {
    /// Last moment it had everything the log held.
    caught_up: AtomicI64,
    /// Highest Kafka timestamp it has taken in.
    taken_in: AtomicI64,
}

impl TopicProgress {
    /// Nothing known yet.
    pub fn new(name: String) -> Self {
        TopicProgress { name, end_offset: AtomicI64::new(-1) }
    }
}

impl ShardHandle {
    /// A shard in state `Opening` or with a reader to serve.
    pub fn new(
        partition: u32,
        reader: Option<Readers>,
        topics: Vec<TopicProgress>,
        state: ShardState,
    ) -> Self {
        let was_ready = AtomicBool::new(state == ShardState::Ready);
        ShardHandle {
            partition,
            reader,
            times: topics.iter().map(|_| TopicTimes::default()).collect(),
            topics,
            detached_since_ms: AtomicI64::new(0),
            state: Mutex::new(state),
            waits_for: Mutex::new(None),
            was_ready,
            progress: watch::Sender::new(0),
        }
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

    /// Why it is HALTED, what it waits for, or why it is not READY yet; empty when it is READY and keeps up.
    pub fn reason(&self) -> String {
        let state = self.state();
        match (state, self.waits_for.lock().clone()) {
            (ShardState::Halted(reason), _) => reason,
            (_, Some(waits_for)) => waits_for,
            (ShardState::Ready, None) => String::new(),
            (ShardState::Opening, None) => "recovering from its own files".into(),
            (ShardState::CatchingUp, None) => self.distance(),
            (ShardState::Closed, None) => "given to another server of the group".into(),
        }
    }

    fn distance(&self) -> String {
        let lag = |topic: usize| {
            let end = self.topics[topic].end_offset.load(Ordering::Acquire);
            (end - 1 - self.applied_offset(topic)).max(0)
        };
        let behind: i64 = (0..self.topics.len()).map(lag).sum();
        format!("catching up: {behind} offsets to go")
    }

    /// Says what keeps it from taking in its logs for now, or that nothing does.
    pub fn set_waits_for(&self, waits_for: Option<String>) {
        *self.waits_for.lock() = waits_for;
    }

    /// Notes that at `now_ms` it had everything that `topics[topic]` held.
    pub fn caught_up(&self, topic: usize, now_ms: i64) {
        self.times[topic].caught_up.store(now_ms, Ordering::Release);
    }

    /// Notes the Kafka timestamp of what it took in from `topics[topic]`.
    pub fn took_in(&self, topic: usize, timestamp_ms: i64) {
        self.times[topic].taken_in.fetch_max(timestamp_ms, Ordering::AcqRel);
    }

    /// Notes that from `now_ms` on it hears nothing of its logs: no broker answers, or the group has not given it back.
    pub fn detach(&self, now_ms: i64) {
        self.detached_since_ms.compare_exchange(0, now_ms, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    /// Notes that it hears of its logs again.
    pub fn attach(&self) {
        self.detached_since_ms.store(0, Ordering::Release);
    }

    /// At most this long ago everything in the logs was readable here; 0 when caught up. A shard that hears nothing of
    /// its logs grows stale from that moment on.
    pub fn staleness_ms(&self, now_ms: i64) -> u64 {
        let behind = (0..self.topics.len()).map(|topic| self.topic_staleness_ms(topic, now_ms)).max();
        let detached = match self.detached_since_ms.load(Ordering::Acquire) {
            0 => 0,
            since => now_ms - since,
        };
        behind.unwrap_or(0).max(detached).max(0) as u64
    }

    fn topic_staleness_ms(&self, topic: usize, now_ms: i64) -> i64 {
        let end = self.topics[topic].end_offset.load(Ordering::Acquire);
        if self.applied_offset(topic) + 1 >= end {
            return 0;
        }
        // What is missing came after the last record taken in, and after the last moment nothing was missing.
        let times = &self.times[topic];
        now_ms - times.caught_up.load(Ordering::Acquire).max(times.taken_in.load(Ordering::Acquire))
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
        self.reader.as_ref().and_then(|reader| reader.applied(topic)).unwrap_or(-1)
    }

    /// The last offset of a topic known to be on stable storage, -1 if none.
    pub fn durable_offset(&self, topic: usize) -> i64 {
        self.reader.as_ref().and_then(|reader| reader.durable(topic)).unwrap_or(-1)
    }

    /// Whether reads may see what it has: READY, or stopped by its disk after it had been READY (what is there is
    /// right, only not new). Otherwise the state that forbids it.
    pub fn serves(&self) -> Result<&Readers, ShardState> {
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

    /// Messages between what is applied of a topic and its end; 0 while the end is not known.
    pub fn lag_offsets(&self, topic: usize) -> u64 {
        let end = self.topics[topic].end_offset.load(Ordering::Acquire);
        u64::try_from(end - (self.applied_offset(topic) + 1)).unwrap_or(0)
    }
}
