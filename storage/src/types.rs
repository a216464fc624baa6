//! The words of the storage API: topics, identities, options, data points to put, version keys, statistics.
//! Everyone speaks them; nothing here touches a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::budget::DiskBudget;

/// A topic's number in one shard's files; the same across reopenings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIndex(pub u16);

/// One topic a shard takes its records from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLog {
    /// Name of the topic.
    pub name: String,
    /// The log's own id; all zeros if unknown, which is compared with nothing and filled in when it becomes known.
    pub topic_id: [u8; 16],
    /// Source priority: at an equal event time the higher one wins.
    pub priority: u8,
}

/// What a shard is. An existing directory must agree with it or it is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIdentity {
    /// Lane it belongs to.
    pub lane: String,
    /// Partition of every topic of the lane.
    pub partition: u32,
    /// Partitions of each topic. A change would send entities elsewhere.
    pub partitions: u32,
    /// Topics read; more may come on a later open, and those no longer named keep their records.
    pub topics: Vec<TopicLog>,
    /// The views it keeps, by id. What a view is must not change for its id.
    pub views: BTreeMap<u16, ViewPolicy>,
}

/// What a view is, and how the data points of one are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewPolicy {
    /// Opaque; must not change for the id.
    pub description: String,
    /// How long after its event time a version is kept, in ms, whatever its own expiry: the view's longest TTL.
    pub retention_ms: i64,
    /// Which versions are kept that long.
    pub keep: Keep,
    /// The view whose records its own are put beside, if it is such a one: they go where those go.
    pub beside: Option<u16>,
}

/// Which versions of a key are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keep {
    /// The current one; older ones as long as their space is not needed.
    Latest,
    /// All until they expire.
    Full,
}

impl ViewPolicy {
    /// A view that keeps all its versions.
    pub fn full(description: &str, retention_ms: i64) -> ViewPolicy {
        ViewPolicy { description: description.to_owned(), retention_ms, keep: Keep::Full, beside: None }
    }

    /// A view that keeps the current version of each key.
    pub fn latest(description: &str, retention_ms: i64) -> ViewPolicy {
        ViewPolicy { description: description.to_owned(), retention_ms, keep: Keep::Latest, beside: None }
    }
}

/// An offset up to which reads see everything of a topic. Not yet what a power loss leaves: that is a [`DurableOffset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppliedOffset(pub i64);

/// An offset up to which everything of a topic survives a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurableOffset(pub i64);

/// Sizes and allowances of a shard.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes preallocated for each segment file. At least 64 KiB is used.
    pub segment_bytes: u64,
    /// How long after its expiry a version still counts, in ms.
    pub allowed_lateness_ms: i64,
    /// Bytes of the newest data that are held in memory once they were read. Older data is read from the disk, by
    /// [`ShardReader::pin_blocking`] only.
    ///
    /// [`ShardReader::pin_blocking`]: crate::ShardReader::pin_blocking
    pub resident_bytes: u64,
    /// Payloads of a view after which its coding is learned for the first time; 0: payloads are stored as they come.
    pub codec_samples: u32,
    /// Bytes of log after which the index is written to a checkpoint, so that an opening need not read older footers.
    pub checkpoint_bytes: u64,
    /// Disk that this and other shards may use together; none: all there is.
    pub disk: Option<Arc<DiskBudget>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 256 << 20,
            allowed_lateness_ms: 3_600_000,
            resident_bytes: u64::MAX,
            codec_samples: 256,
            checkpoint_bytes: 1 << 30,
            disk: None,
        }
    }
}

/// When unsynced bytes are synced: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct SyncPolicy {
    /// Longest time a commit stays unsynced, in ms.
    pub interval_ms: u64,
    /// Unsynced bytes of one shard that start a sync at once.
    pub bytes: u64,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        SyncPolicy { interval_ms: 50, bytes: 8 << 20 }
    }
}

/// Whether a version holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It has a payload.
    Value,
    /// It says the value is deleted.
    Tombstone,
}

/// One data point to store.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// Feature view id.
    pub view: u16,
    /// Entity id, 1 to 255 bytes.
    pub entity: &'a [u8],
    /// Value or tombstone.
    pub kind: Kind,
    /// Event time, ms since the epoch.
    pub event_time_ms: i64,
    /// Ingest time, ms since the epoch.
    pub ingest_time_ms: i64,
    /// First ms at which it no longer shows.
    pub expiry_ms: i64,
    /// Topic it came from.
    pub topic: TopicIndex,
    /// Its offset there.
    pub offset: i64,
    /// The bytes to keep; empty for a tombstone.
    pub payload: &'a [u8],
}

/// The current version of a key as its writer sees it, puts that are not committed yet included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentVersion {
    /// Value or tombstone.
    pub kind: Kind,
    /// ms since the epoch.
    pub event_time_ms: i64,
    /// First ms at which it no longer shows.
    pub expiry_ms: i64,
    /// Its topic's number.
    pub topic: TopicIndex,
    /// Its offset.
    pub offset: i64,
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is the current version of its key now.
    Current,
    /// Older than the current version; kept in history.
    Late,
    /// Current now, with the same event time, kind and payload as the version it replaced.
    Duplicate,
    /// At or below the topic's position: nothing was done.
    Replayed,
}

/// Names one version of a key. `ShardReader::compare` orders two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionKey {
    /// Event time, ms since the epoch.
    pub event_time_ms: i64,
    /// Whether it is a tombstone; one wins against a value of the same time.
    pub tombstone: bool,
    /// Topic it came from.
    pub topic: TopicIndex,
    /// Its offset there.
    pub offset: i64,
}

/// Which versions a history read wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct HistoryRange {
    /// Lowest event time, inclusive, ms.
    pub from_ms: Option<i64>,
    /// Highest event time, exclusive, ms.
    pub to_ms: Option<i64>,
    /// Only versions ingested at or before this, ms.
    pub known_at_ms: Option<i64>,
    /// Only versions strictly below this one: the last of the page before.
    pub after: Option<VersionKey>,
}

/// Sizes of a shard at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys (entity, view) with a current version.
    pub keys: u64,
    /// Bytes of segment files, preallocated ones included, and of codings.
    pub disk_bytes: u64,
    /// Bytes of RAM the index takes.
    pub index_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of the newest data that are held in memory once read.
    pub hot_bytes: u64,
    /// Records read from older data since the opening.
    pub cold_reads: u64,
}

/// What a copy of a shard has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointReport {
    /// By topic number: the last offset in it.
    pub positions: Vec<Option<DurableOffset>>,
    /// Segment files shared with the original.
    pub linked: u64,
    /// Segment files copied.
    pub copied: u64,
    /// Bytes copied.
    pub copied_bytes: u64,
}

/// What a preload did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PreloadReport {
    /// Bytes that are in memory now, unless memory is short.
    pub bytes: u64,
    /// Bytes there were to load within the budget.
    pub wanted: u64,
}

/// What an opening found, for people to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Last frame of the index checkpoint that was loaded; 0 without one.
    pub checkpoint_sequence: u64,
    /// Records read from footers and frames to make the index.
    pub replayed: u64,
    /// Index checkpoints that were of no use: file, and why. No loss: footers say the same.
    pub ignored: Vec<String>,
}

/// What a thinning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThinReport {
    /// Bytes of records copied.
    pub copied_bytes: u64,
    /// Segments that left; their files are unlinked a little later.
    pub segments: u64,
    /// Bytes of disk given back with them.
    pub bytes: u64,
    /// Keys that left the index because they had expired.
    pub keys: u64,
    /// Another call would go on: there is more to do, or it waits for reads or for a sync.
    pub more: bool,
}

/// What an expiry removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpireReport {
    /// Segments that left; their files are unlinked a little later.
    pub segments: u64,
    /// Bytes of disk given back with them.
    pub bytes: u64,
    /// Keys that left the index with them.
    pub keys: u64,
    /// Another call would go on: there is more to do, or it waits for a footer to be read.
    pub more: bool,
}

impl Put<'_> {
    /// Names the version it makes.
    pub(crate) fn key(&self) -> VersionKey {
        VersionKey {
            event_time_ms: self.event_time_ms,
            tombstone: self.kind == Kind::Tombstone,
            topic: self.topic,
            offset: self.offset,
        }
    }
}
