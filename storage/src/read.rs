//! Readers of a shard: the current version of a key, the one as of a time, and all of them. Any number, on any thread,
//! without locks; they see whole commits only, and verify what they give. Whether a version has outlived its TTL is
//! the caller's question: nothing here has a clock.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crossbeam_epoch::Guard;

use crate::chain::{self, Chain};
use crate::checkpoint;
use crate::coding::{Codecs, FieldPlan, Fields};
use crate::digest;
use crate::error::{CheckpointError, ReadError};
pub use crate::history::History;
use crate::index::{Key, Slot};
use crate::log::segment::Record;
use crate::residency::{ColdPages, Reach};
use crate::shard::Shard;
use crate::types::{
    AppliedOffset, CheckpointReport, DurableOffset, HistoryRange, Kind, OpenReport, PreloadReport, Stats,
    TopicIndex, TopicLog, VersionKey,
};
use crate::unreadable;

/// Reads a shard. Clones are cheap; they outlive the writer.
#[derive(Debug, Clone)]
pub struct ShardReader {
    pub(crate) shard: Arc<Shard>,
}

impl ShardReader {
    /// Holds what is read in place: memory of expired segments is given back only after it is dropped, so keep it for
    /// one request, not for a stream. Reads of what is not held in memory give [`ReadError::Cold`], so it waits for no
    /// disk.
    pub fn pin(&self) -> Pinned<'_> {
        self.pinned(None)
    }

    /// As `pin`, for a thread that may wait for the disk: it reads everything.
    pub fn pin_blocking(&self) -> Pinned<'_> {
        self.pinned(Some(ColdPages::default()))
    }

    fn pinned(&self, cold: Option<ColdPages>) -> Pinned<'_> {
        Pinned { shard: &self.shard, guard: crossbeam_epoch::pin(), cold, faults: unreadable::faults() }
    }

    /// Sets how many bytes of the newest data are held in memory; see [`Options::resident_bytes`]. To be called now and
    /// then even if nothing changed: each call also gives back memory that readers under way had kept from it.
    ///
    /// [`Options::resident_bytes`]: crate::Options::resident_bytes
    pub fn set_resident_bytes(&self, bytes: u64) {
        let guard = &crossbeam_epoch::pin();
        self.shard.residency.set_budget(bytes);
        self.shard.residency.settle(self.shard.segments.load(guard));
        self.shard.residency.sweep(self.shard.segments.load(guard));
    }

    /// Reads the newest data into memory, newest first, as far as it is to be held there and at most `budget_bytes`;
    /// `progress` is told how many bytes there are so far. Waits for the disk.
    pub fn preload(&self, budget_bytes: u64, mut progress: impl FnMut(u64)) -> PreloadReport {
        let guard = &crossbeam_epoch::pin();
        self.shard.residency.preload(self.shard.segments.load(guard), budget_bytes, &mut progress)
    }

    /// Copies the shard as it is durable now into a directory that is empty or not there, while its writer writes. Takes
    /// little time and space: what never changes again is linked. The copy opens like any shard; replayed from its
    /// positions it becomes what the original is.
    ///
    /// # Errors
    /// If the directory has something, if a file cannot be read or made, or if what was durable is damaged.
    pub fn checkpoint(&self, to: &Path) -> Result<CheckpointReport, CheckpointError> {
        checkpoint::checkpoint(&self.shard, to)
    }

    /// Last offset of a topic that reads see; a read that begins after this sees all of it. None: nothing yet.
    pub fn applied(&self, topic: TopicIndex) -> Option<AppliedOffset> {
        self.shard.applied.get(topic).map(AppliedOffset)
    }

    /// Last offset of a topic that survives a power loss. None: nothing yet.
    pub fn durable(&self, topic: TopicIndex) -> Option<DurableOffset> {
        self.shard.durable.get(topic).map(DurableOffset)
    }

    /// Topics by number.
    pub fn topics(&self) -> &[TopicLog] {
        &self.shard.topics
    }

    /// A topic's number.
    pub fn topic(&self, name: &str) -> Option<TopicIndex> {
        self.shard.topic(name)
    }

    /// Sizes.
    pub fn stats(&self) -> Stats {
        self.shard.stats(&crossbeam_epoch::pin())
    }

    /// What its opening found.
    pub fn open_report(&self) -> &OpenReport {
        &self.shard.opened
    }

    /// Why the shard stopped, if it did. It still serves reads.
    pub fn poisoned(&self) -> Option<String> {
        self.shard.poisoned().cloned()
    }

    /// A hash over the current version of every key, the same in whatever order they came: two shards that took the
    /// same records agree. Reads everything.
    pub fn digest(&self) -> u128 {
        digest::digest(&self.pin_blocking())
    }

    /// Orders two versions of a key: event time, tombstone wins, topic priority, topic name, offset.
    pub fn compare(&self, a: &VersionKey, b: &VersionKey) -> Ordering {
        self.shard.compare(a, b)
    }
}

/// Views whose slots are loaded before the first record is read.
const VIEWS_AT_ONCE: usize = 16;

/// A reader that holds what it read in place.
pub struct Pinned<'r> {
    pub(crate) shard: &'r Shard,
    pub(crate) guard: Guard,
    /// Present if it reads what is cold.
    pub(crate) cold: Option<ColdPages>,
    /// Pages that could not be read before.
    faults: u64,
}

impl Pinned<'_> {
    /// The current version.
    ///
    /// # Errors
    /// If what was stored is damaged, or cold.
    #[inline]
    pub fn latest(&self, entity: &[u8], view: u16) -> Result<Option<Version<'_>>, ReadError> {
        let chain = self.chain(entity, view)?;
        Ok(chain.map(|chain| self.version(chain.current)))
    }

    /// The current versions of several views of one entity; `each` gets the place in `views` and what was found.
    pub fn latest_many<'g>(
        &'g self,
        entity: &[u8],
        views: &[u16],
        each: &mut impl FnMut(usize, Result<Option<Version<'g>>, ReadError>),
    ) {
        for (at, views) in views.chunks(VIEWS_AT_ONCE).enumerate() {
            self.latest_few(entity, views, &mut |place, found| each(at * VIEWS_AT_ONCE + place, found));
        }
    }

    /// One look into the index for all views, then all records on their way from memory at once.
    fn latest_few<'g>(
        &'g self,
        entity: &[u8],
        views: &[u16],
        each: &mut impl FnMut(usize, Result<Option<Version<'g>>, ReadError>),
    ) {
        let mut slots = [Slot::NONE; VIEWS_AT_ONCE];
        if let Some(found) = self.shard.index.entity(Key::new(self.shard.entity_hash(entity)), &self.guard) {
            slots.iter_mut().zip(views).for_each(|(slot, view)| *slot = found.slot(*view));
        }
        // Loaded after the slots, so that it has every segment they can lead to.
        let reach = Reach::new(self.shard, self.cold.as_ref(), &self.guard);
        slots[..views.len()].iter().for_each(|slot| reach.segments().prefetch(*slot));
        for (place, (slot, view)) in slots.into_iter().zip(views).enumerate() {
            let chain = chain::of_slot(reach, slot, entity, *view);
            each(place, chain.map(|chain| chain.map(|chain| self.version(chain.current))));
        }
    }

    /// The greatest version at or below an event time, ms; with `known_at_ms`, of those that had been ingested by then.
    ///
    /// # Errors
    /// If a record on the way to it is damaged, or cold.
    pub fn as_of(
        &self,
        entity: &[u8],
        view: u16,
        as_of_ms: i64,
        known_at_ms: Option<i64>,
    ) -> Result<Option<Version<'_>>, ReadError> {
        let Some(chain) = self.chain(entity, view)? else { return Ok(None) };
        let record = chain.as_of(self.shard, as_of_ms, known_at_ms)?;
        Ok(record.map(|record| self.version(record)))
    }

    /// Versions, newest first. An error ends it.
    pub fn history(&self, entity: &[u8], view: u16, range: &HistoryRange) -> History<'_> {
        History::new(self.shard, self.chain(entity, view), *range)
    }

    /// Topics by number.
    pub fn topics(&self) -> &[TopicLog] {
        &self.shard.topics
    }

    /// To be asked once everything that was read has been copied. Bytes are verified where they lie; this says whether
    /// they can have become unreadable between that and the copy.
    ///
    /// # Errors
    /// If a page of the shard's files could not be read since this was pinned.
    #[inline]
    pub fn check(&self) -> Result<(), ReadError> {
        if unreadable::faults() == self.faults {
            return Ok(());
        }
        match self.shard.segments.load(&self.guard).unreadable() {
            Some(segment) => Err(segment.damaged(0, "")),
            None => Ok(()),
        }
    }

    fn version<'g>(&'g self, record: Record<'g>) -> Version<'g> {
        Version { record, codecs: &self.shard.codecs }
    }

    fn chain(&self, entity: &[u8], view: u16) -> Result<Option<Chain<'_>>, ReadError> {
        chain::find(self.shard, self.cold.as_ref(), &self.guard, entity, view)
    }
}

impl fmt::Debug for Pinned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({})", self.shard.dir.display())
    }
}

/// One stored version.
#[derive(Debug, Clone, Copy)]
pub struct Version<'g> {
    pub(crate) record: Record<'g>,
    pub(crate) codecs: &'g Codecs,
}

impl<'g> Version<'g> {
    /// Value or tombstone.
    pub fn kind(&self) -> Kind {
        self.record.header.kind()
    }

    /// ms since the epoch.
    pub fn event_time_ms(&self) -> i64 {
        self.record.header.event_time_ms
    }

    /// ms since the epoch.
    pub fn ingest_time_ms(&self) -> i64 {
        self.record.header.ingest_time_ms
    }

    /// First ms at which it no longer shows.
    pub fn expiry_ms(&self) -> i64 {
        self.record.header.expiry_ms
    }

    /// Topic it came from.
    pub fn topic(&self) -> TopicIndex {
        TopicIndex(self.record.header.topic)
    }

    /// Its offset there.
    pub fn offset(&self) -> i64 {
        self.record.header.offset
    }

    /// Its name.
    pub fn key(&self) -> VersionKey {
        self.record.header.key()
    }

    /// The bytes put; empty for a tombstone.
    ///
    /// # Errors
    /// If they, or what is needed to decode them, are damaged or missing.
    pub fn payload(&self) -> Result<Cow<'g, [u8]>, ReadError> {
        self.codecs.payload(&self.record)
    }

    /// Appends the bytes put to `out`; after an error `out` is as before.
    ///
    /// # Errors
    /// As of `payload`.
    pub fn payload_into(&self, out: &mut Vec<u8>) -> Result<(), ReadError> {
        self.codecs.append(&self.record, out)
    }

    /// Single fields of the payload, without decoding the rest; nothing if the payload has no shape, and then it has to
    /// be scanned. Who asks for fields knows the view: `plan` must be its.
    ///
    /// # Errors
    /// As of `payload`.
    #[inline]
    pub fn fields<'a>(&self, plan: &'a FieldPlan) -> Result<Option<Fields<'a>>, ReadError>
    where
        'g: 'a,
    {
        plan.fields(self.codecs, &self.record)
    }
}
