//! What the writer, the readers and the sync thread of one shard share. Every field is safe to read at any time; only
//! the writer changes the index, the segments and the applied positions, only a finished sync the durable ones.

use std::cmp::Ordering as Order;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_epoch::Guard;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::budget::{DiskBudget, DiskUse};
use crate::coding::Codecs;
use crate::disk::Faults;
use crate::error::WriteError;
use crate::index::Index;
use crate::keeper::NextSegment;
use crate::log::frame::Position;
use crate::log::segment::{Segment, Segments};
use crate::manifest::Manifest;
use crate::map::EpochCell;
use crate::planted;
use crate::sync::Unsynced;
use crate::types::{Stats, TopicIndex, TopicLog, VersionKey};
use crate::worker::Errands;

/// The shared part of a shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub dir: PathBuf,
    pub id: [u8; 16],
    pub topics: Vec<TopicLog>,
    /// By topic number: its place in the order of (priority, name).
    ranks: Vec<u32>,
    pub index: Index,
    pub codecs: Codecs,
    pub segments: EpochCell<Segments>,
    pub applied: Positions,
    pub durable: Positions,
    /// The last frame that is synced, and the segment it is in.
    pub durable_sequence: AtomicU64,
    pub durable_segment: AtomicU32,
    pub unsynced: parking_lot::Mutex<Unsynced>,
    /// Held during a sync: syncs of a shard come one after the other.
    pub sync_turn: parking_lot::Mutex<()>,
    pub poison: Poison,
    /// What other threads do in its directory.
    pub errands: Arc<Errands>,
    /// As it is stored; locked while it is replaced.
    pub manifest: parking_lot::Mutex<Manifest>,
    /// The segment after the active one.
    pub next: NextSegment,
    /// What its files take.
    pub disk: DiskUse,
    /// Segments that are out of the index and to be unlinked.
    pub leaving: parking_lot::Mutex<Vec<Arc<Segment>>>,
    pub faults: Faults,
}

/// What orders the versions of a key; the greatest is current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub event_time_ms: i64,
    tombstone: bool,
    topic: u32,
    offset: i64,
}

/// The last offset of each topic, -1 for none.
#[derive(Debug)]
pub(crate) struct Positions(Box<[AtomicI64]>);

/// Why the shard stopped. Once set it stays: such a shard must be opened again.
#[derive(Debug, Default)]
pub(crate) struct Poison(OnceLock<String>);

impl Shard {
    /// A shard as recovery found it.
    pub fn new(
        dir: PathBuf,
        manifest: Manifest,
        index: Index,
        codecs: Codecs,
        segments: Segments,
        last: &Last,
        disk: Option<Arc<DiskBudget>>,
    ) -> Shard {
        let disk = DiskUse::new(disk, segments.list.iter().map(|segment| segment.capacity()).sum());
        let topics = manifest.topic_logs();
        Shard {
            dir,
            id: manifest.shard.into_bytes(),
            ranks: ranks(&topics),
            index,
            codecs,
            segments: EpochCell::new(segments),
            applied: Positions::new(&last.positions),
            durable: Positions::new(&last.positions),
            durable_sequence: AtomicU64::new(last.sequence),
            durable_segment: AtomicU32::new(last.segment),
            unsynced: parking_lot::Mutex::new(Unsynced::new(topics.len())),
            sync_turn: parking_lot::Mutex::new(()),
            poison: Poison::default(),
            errands: Arc::default(),
            manifest: parking_lot::Mutex::new(manifest),
            next: NextSegment::default(),
            disk,
            leaving: parking_lot::Mutex::default(),
            faults: Faults::default(),
            topics,
        }
    }

    /// The hash of an entity id in this shard.
    #[inline]
    pub fn entity_hash(&self, entity: &[u8]) -> u128 {
        entity_hash(&self.id, entity)
    }

    pub fn topic(&self, name: &str) -> Option<TopicIndex> {
        let at = self.topics.iter().position(|topic| topic.name == name)?;
        Some(TopicIndex(at as u16))
    }

    /// What orders this version among those of its key.
    pub fn rank(&self, key: &VersionKey) -> Rank {
        Rank {
            event_time_ms: key.event_time_ms,
            tombstone: key.tombstone && !planted::tombstones_lose_ties(),
            topic: self.ranks.get(usize::from(key.topic.0)).copied().unwrap_or(u32::MAX),
            offset: key.offset,
        }
    }

    pub fn compare(&self, a: &VersionKey, b: &VersionKey) -> Order {
        self.rank(a).cmp(&self.rank(b))
    }

    pub fn stats(&self, guard: &Guard) -> Stats {
        let segments = &self.segments.load(guard).list;
        Stats {
            keys: self.index.keys(),
            disk_bytes: self.disk.bytes(),
            index_bytes: self.index.bytes(),
            segments: segments.len() as u64,
        }
    }
}

/// The hash of an entity id in the shard with this uuid, whose first 8 bytes are the seed: who does not know it cannot
/// make entities that share a hash.
#[inline]
pub(crate) fn entity_hash(shard: &[u8; 16], entity: &[u8]) -> u128 {
    let seed = u64::from_le_bytes(shard[..8].try_into().expect("eight bytes"));
    xxh3_128_with_seed(entity, seed)
}

/// Where the log ends.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    /// Sequence of the last frame, 0 without one.
    pub sequence: u64,
    /// Its `head_sum`.
    pub sum: u64,
    /// The segment it is in, 0 without one.
    pub segment: u32,
    /// By topic number.
    pub positions: Vec<Position>,
}

fn ranks(topics: &[TopicLog]) -> Vec<u32> {
    let mut order: Vec<_> = (0..topics.len()).collect();
    order.sort_by_key(|at| (topics[*at].priority, &topics[*at].name));
    let mut ranks = vec![0; topics.len()];
    for (rank, at) in order.into_iter().enumerate() {
        ranks[at] = rank as u32;
    }
    ranks
}

impl Positions {
    fn new(positions: &[Position]) -> Positions {
        Positions(positions.iter().map(|position| AtomicI64::new(position.offset)).collect())
    }

    pub fn get(&self, topic: TopicIndex) -> Option<i64> {
        let offset = self.0.get(usize::from(topic.0))?.load(Ordering::Acquire);
        (offset >= 0).then_some(offset)
    }

    /// Who sees one of these sees all that was done before.
    pub fn publish(&self, offsets: impl Iterator<Item = i64>) {
        for (position, offset) in self.0.iter().zip(offsets) {
            position.store(offset, Ordering::Release);
        }
    }
}

impl Poison {
    /// Stops the shard, if it has not stopped before.
    #[cold]
    pub fn set(&self, why: String) -> WriteError {
        WriteError::Poisoned(self.0.get_or_init(|| why).clone())
    }

    pub fn get(&self) -> Option<&String> {
        self.0.get()
    }

    pub fn check(&self) -> Result<(), WriteError> {
        match self.0.get() {
            None => Ok(()),
            Some(why) => Err(WriteError::Poisoned(why.clone())),
        }
    }
}
