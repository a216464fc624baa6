//! What the writer, the readers and the sync thread of one shard share. Every field is safe to read at any time; only
//! the writer changes the index, the segments and the applied positions, only a finished sync the durable ones.

use std::cmp::Ordering as Order;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_epoch::Guard;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::budget::DiskUse;
use crate::coding::Codecs;
use crate::disk::{self, Faults};
use crate::error::WriteError;
use crate::index::Index;
use crate::keeper::NextSegment;
use crate::log::frame::Position;
use crate::log::segment::{Segment, Segments, UNREADABLE};
use crate::manifest::Manifest;
use crate::map::EpochCell;
use crate::planted;
use crate::residency::Residency;
use crate::sync::Unsynced;
use crate::types::{DurableOffset, OpenReport, Stats, TopicIndex, TopicLog, VersionKey};
use crate::unreadable;
use crate::worker::Errands;

/// The shared part of a shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub dir: PathBuf,
    /// The directory itself, whatever its name.
    place: (u64, u64),
    pub id: [u8; 16],
    pub topics: Vec<TopicLog>,
    /// By topic number: its place in the order of (priority, name).
    ranks: Vec<u32>,
    pub index: Index,
    pub codecs: Codecs,
    pub segments: EpochCell<Segments>,
    pub applied: Positions,
    pub durable: Positions,
    /// The last frame whose slots are all in the index, and the last of which some may be: the writer is at it.
    pub applied_sequence: AtomicU64,
    pub begun_sequence: AtomicU64,
    /// The last frame that is synced, and the segment it is in.
    pub durable_sequence: AtomicU64,
    pub durable_segment: AtomicU32,
    pub unsynced: parking_lot::Mutex<Unsynced>,
    /// Held during a sync: syncs of a shard come one after the other.
    pub sync_turn: parking_lot::Mutex<()>,
    pub poison: Poison,
    /// What its opening found.
    pub opened: OpenReport,
    /// Unreadable pages of all maps of this process when it was last looked whether one is this shard's.
    faults_seen: AtomicU64,
    pub residency: Residency,
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
    #[allow(clippy::too_many_arguments, reason = "the parts of one thing, put together in one place")]
    pub fn new(
        dir: PathBuf,
        manifest: Manifest,
        index: Index,
        codecs: Codecs,
        segments: Segments,
        last: &Last,
        opened: OpenReport,
        residency: Residency,
        disk: DiskUse,
    ) -> Shard {
        let topics = manifest.topic_logs();
        Shard {
            place: disk::identity(&dir).unwrap_or_default(),
            dir,
            id: manifest.shard.into_bytes(),
            ranks: ranks(&topics),
            index,
            codecs,
            segments: EpochCell::new(segments),
            applied: Positions::new(&last.positions),
            durable: Positions::new(&last.positions),
            applied_sequence: AtomicU64::new(last.sequence),
            begun_sequence: AtomicU64::new(last.sequence),
            durable_sequence: AtomicU64::new(last.sequence),
            durable_segment: AtomicU32::new(last.segment),
            unsynced: parking_lot::Mutex::new(Unsynced::new(topics.len())),
            sync_turn: parking_lot::Mutex::new(()),
            poison: Poison::default(),
            opened,
            faults_seen: AtomicU64::new(0),
            residency,
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

    /// The last frame that is synced, the segment it is in, and the positions it brought, of one moment.
    pub fn durable_at(&self) -> (u64, u32, Vec<Option<DurableOffset>>) {
        let _turn = self.sync_turn.lock();
        let positions =
            (0..self.topics.len()).map(|at| self.durable.get(TopicIndex(at as u16)).map(DurableOffset));
        let sequence = self.durable_sequence.load(Ordering::Acquire);
        (sequence, self.durable_segment.load(Ordering::Acquire), positions.collect())
    }

    /// Whether it still advances.
    #[inline]
    pub fn check(&self) -> Result<(), WriteError> {
        match self.poisoned() {
            None => Ok(()),
            Some(why) => Err(WriteError::Poisoned(why.clone())),
        }
    }

    /// Stops it if its directory was moved away and another one is there now, say a restored copy: names lead there.
    pub fn check_place(&self) -> Result<(), WriteError> {
        match disk::identity(&self.dir) {
            Ok(now) if now == self.place => Ok(()),
            _ => {
                let dir = self.dir.display();
                Err(self.poison.set(format!("{dir}: moved away; another directory is in its place, or none")))
            }
        }
    }

    /// Why it stopped, if it did. A file that cannot be read any more stops it, whoever found out.
    #[inline]
    pub fn poisoned(&self) -> Option<&String> {
        if unreadable::faults() != self.faults_seen.load(Ordering::Relaxed) {
            self.look_at_files();
        }
        self.poison.0.get()
    }

    #[cold]
    fn look_at_files(&self) {
        let faults = unreadable::faults();
        if let Some(segment) = self.segments.load(&crossbeam_epoch::pin()).unreadable() {
            self.poison.set(format!("{}: {UNREADABLE}", segment.path.display()));
        }
        self.faults_seen.store(faults, Ordering::Relaxed);
    }

    pub fn stats(&self, guard: &Guard) -> Stats {
        let all = self.segments.load(guard);
        let segments = &all.list;
        Stats {
            keys: self.index.keys(),
            disk_bytes: self.disk.bytes(),
            index_bytes: self.index.bytes(),
            segments: segments.len() as u64,
            hot_bytes: self.residency.hot_bytes(all),
            cold_reads: self.residency.cold_reads(),
        }
    }
}

/// The hash of an entity id in the shard with this uuid, whose first 8 bytes are the seed: who does not know it cannot
/// make entities that share a hash.
#[inline]
pub(crate) fn entity_hash(shard: &[u8; 16], entity: &[u8]) -> u128 {
    let seed = u64::from_le_bytes(shard[..8].try_into().expect("eight bytes"));
    let entity = if planted::shares_hashes() { &entity[..entity.len().min(4)] } else { entity };
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
}
