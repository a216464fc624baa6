//! The writer of a shard: decides what each data point is to its key, collects a batch, writes it as one frame, and
//! only then lets readers see it. Called by one ingest thread; never waits for a sync unless asked to.

mod batch;
mod beside;
mod commit;
mod load;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use crossbeam_epoch::Guard;

use crate::chain::Chain;
use crate::coding::{Coder, FieldPlan, Fit, Stored, stored};
use crate::error::{OpenError, ReadError, WriteError};
use crate::index::{Dense, Key, Slot};
use crate::index_file::Checkpoints;
use crate::keeper;
use crate::listing::Listing;
use crate::log::frame::Position;
use crate::log::segment::Record;
use crate::planted;
use crate::record::{Location, RecordHeader, jump_depth};
use crate::residency::{ColdPages, Reach};
use crate::shard::{Last, Shard};
use crate::sync::SyncGroup;
use crate::thin::Thinning;
use crate::types::{
    CurrentVersion, ExpireReport, Keep, Kind, Options, Outcome, Put, ThinReport, TopicIndex, ViewPolicy,
};
use batch::{Batch, Head, KeyState};
pub(crate) use commit::Active;

/// The one writer of a shard. Dropping it lets go of the directory and leaves what is not committed behind, as a crash
/// would; `close` ends it in order.
#[derive(Debug)]
pub struct ShardWriter {
    pub(crate) shard: Arc<Shard>,
    pub(crate) options: Options,
    /// The segment that frames go to; none before the first commit.
    pub(crate) active: Option<Active>,
    /// The last frame, and the positions with the batch's included.
    pub(crate) last: Last,
    batch: Batch,
    coder: Coder,
    /// How the data points of a view are kept, by its id.
    pub(crate) keeps: Vec<Option<Keep>>,
    checkpoints: Checkpoints,
    pub(crate) sync: SyncGroup,
    /// The segment whose keys are being forgotten.
    pub(crate) forgetting: Option<Listing>,
    pub(crate) thinning: Thinning,
    /// Whether a view keeps all its versions.
    pub(crate) keeps_all: bool,
    /// Keys of `expect`, for the memory.
    expected: Vec<Key>,
    /// Topics the shard had before this opening.
    stored_topics: usize,
    /// Pages to drop at the next commit.
    cold: ColdPages,
    /// Held for its locks.
    _locks: [File; 2],
}

impl ShardWriter {
    #[allow(clippy::too_many_arguments, reason = "the parts of one thing, put together in one place")]
    pub(crate) fn new(
        shard: Arc<Shard>,
        options: Options,
        active: Option<Active>,
        last: Last,
        coder: Coder,
        sync: SyncGroup,
        locks: [File; 2],
        stored_topics: usize,
        views: &BTreeMap<u16, ViewPolicy>,
    ) -> ShardWriter {
        sync.register(&shard);
        let batch = Batch::new(shard.topics.len());
        let checkpoints = Checkpoints::of(&shard.dir);
        let mut writer = ShardWriter {
            shard,
            options,
            active,
            last,
            batch,
            coder,
            keeps: Vec::new(),
            keeps_all: false,
            expected: Vec::new(),
            checkpoints,
            sync,
            forgetting: None,
            thinning: Thinning::default(),
            stored_topics,
            cold: ColdPages::default(),
            _locks: locks,
        };
        writer.note_views(views);
        writer
    }

    /// A topic's number.
    pub fn topic(&self, name: &str) -> Option<TopicIndex> {
        self.shard.topic(name)
    }

    /// Whether the shard had this topic before it was opened now. One that had it and has no position of it has seen its
    /// log from the first offset on, and nothing in it.
    pub fn knew(&self, topic: TopicIndex) -> bool {
        usize::from(topic.0) < self.stored_topics
    }

    /// Takes up what views ids name now, so that an id never comes to name another view's records.
    ///
    /// # Errors
    /// `ViewChanged` if an id was another view's; `Io` if that cannot be stored. Nothing has changed then.
    pub fn adopt_views(&mut self, views: &BTreeMap<u16, ViewPolicy>) -> Result<(), OpenError> {
        let mut stored = self.shard.manifest.lock();
        let mut manifest = stored.clone();
        manifest.adopt_views(&self.shard.dir, views)?;
        if manifest.views != stored.views {
            manifest.store(&self.shard.dir).map_err(OpenError::io(&self.shard.dir))?;
            *stored = manifest;
        }
        drop(stored);
        self.note_views(views);
        Ok(())
    }

    fn note_views(&mut self, views: &BTreeMap<u16, ViewPolicy>) {
        for (id, policy) in views {
            let id = usize::from(*id);
            self.keeps.resize(self.keeps.len().max(id + 1), None);
            self.keeps[id] = Some(policy.keep);
        }
        self.keeps_all = self.keeps.contains(&Some(Keep::Full));
    }

    /// Last offset put or skipped, uncommitted ones included.
    pub fn position(&self, topic: TopicIndex) -> Option<i64> {
        let position = self.last.positions.get(usize::from(topic.0))?;
        (position.offset >= 0).then_some(position.offset)
    }

    /// Ingest time of the topic, ms; 0 if none.
    pub fn ingest_time_ms(&self, topic: TopicIndex) -> i64 {
        self.last.positions.get(usize::from(topic.0)).map_or(0, |position| position.ingest_time_ms)
    }

    /// Remembers which fields of a view's payloads `encode` is to find: the numbers of those of the plan's paths.
    pub fn bind(&mut self, view: u16, plan: &FieldPlan, wanted: impl Iterator<Item = usize>) {
        self.coder.bind(&self.shard.codecs, view, plan, wanted);
    }

    /// Encodes a payload that is about to be put, and says what that found out about it. `put` of the same bytes, if it
    /// is the next, does not encode them again.
    pub fn encode<'p>(&mut self, view: u16, payload: &'p [u8]) -> Fit<'_, 'p> {
        self.coder.encode(&self.shard.codecs, view, payload)
    }

    /// Whether a view's coding is being learned in the background. A later commit takes it up.
    pub fn is_learning(&self) -> bool {
        self.coder.is_learning()
    }

    /// Adds a data point to the batch and says what it is to its key. Reads see it after `commit`. Waits for the disk if
    /// it must look at an older record that is not in memory.
    ///
    /// # Errors
    /// `Invalid`, `UnknownTopic` and `Collision` are for the caller to settle and change nothing; `Damaged` if what the key
    /// has cannot be read, which stops the shard.
    pub fn put(&mut self, put: &Put<'_>) -> Result<Outcome, WriteError> {
        self.shard.check()?;
        check(put)?;
        if self.batch.buffer.len() + put.payload.len() > MAX_BATCH {
            return Err(WriteError::Invalid("the batch is full: commit it first"));
        }
        if put.offset <= self.topic_position(put.topic)?.offset && !planted::replays() {
            return Ok(Outcome::Replayed);
        }
        let outcome = self.apply(put).inspect_err(|error| self.stop_if_damaged(error))?;
        self.advance(put.topic, put.offset, put.ingest_time_ms);
        Ok(outcome)
    }

    /// Advances the position past an offset that holds no data point for this shard. At or below it, does nothing.
    ///
    /// # Errors
    /// As for `put`.
    pub fn skip(&mut self, topic: TopicIndex, offset: i64, ingest_time_ms: i64) -> Result<(), WriteError> {
        self.shard.check()?;
        if offset > self.topic_position(topic)?.offset {
            self.advance(topic, offset, ingest_time_ms);
        }
        Ok(())
    }

    /// Writes the batch as one frame. When it returns, reads see all of it; a sync makes it last a little later.
    ///
    /// # Errors
    /// `NoSpace` and `OverBudget` keep the batch: call it again when there is room. Any other failure stops the shard.
    pub fn commit(&mut self) -> Result<(), WriteError> {
        self.commit_within(false)
    }

    /// Commits; with what `thins` it may go past the limit of the disk budget.
    pub(crate) fn commit_within(&mut self, thins: bool) -> Result<(), WriteError> {
        self.shard.check()?;
        self.take_up_codecs();
        if self.batch.is_empty() {
            return Ok(());
        }
        self.write_frame(thins)
    }

    /// Adds a copy of the current version of a key to the batch, which has nothing but such. Returns its bytes, 0 if it
    /// is there already.
    pub(crate) fn carry(
        &mut self,
        entity_hash: u128,
        dense: Dense,
        record: &Record<'_>,
    ) -> Result<u64, ReadError> {
        let (key, view) = (Key::new(entity_hash), record.header.view);
        if self.batch.find(key, record.entity, view).is_some() {
            return Ok(0);
        }
        let (state, rank) =
            (KeyState::new(key, entity_hash, view, dense), self.shard.rank(&record.header.key()));
        Ok(self.batch.carry(state, rank, record, record.payload()?))
    }

    /// Writes the copies that were added as a frame, or drops them: on request, or if there is no room for them.
    pub(crate) fn commit_copies(&mut self, wanted: bool) -> Result<(), WriteError> {
        let done = match wanted && self.batch.has_records() {
            true => self.write_frame(true),
            false => Ok(()),
        };
        self.batch.clear();
        done
    }

    /// Commits, then takes away the oldest segments as far as all their versions have outlived expiry and allowed
    /// lateness, by the clock (`now_ms`) and by the ingest time, so that a clock that jumps removes nothing. Keys whose
    /// current version goes with them are forgotten. Works for about a millisecond, says whether more is to be done,
    /// and leaves the files to the sync group's threads.
    ///
    /// # Errors
    /// As of `commit`.
    pub fn expire(&mut self, now_ms: i64) -> Result<ExpireReport, WriteError> {
        crate::expire::expire(self, now_ms)
    }

    /// Takes away segments of which too many records were replaced, after copying what lives in them to the end of the
    /// log: answers for current versions stay what they are, older versions go with the segment. Does nothing if a view
    /// keeps all its versions. Works for about a millisecond, copies about `budget_bytes` at most, and says whether more
    /// is to be done; commits what was put, past the limit of the disk budget if need be.
    ///
    /// # Errors
    /// As of `commit`; it may be called again.
    pub fn thin(&mut self, now_ms: i64, budget_bytes: u64) -> Result<ThinReport, WriteError> {
        crate::thin::thin(self, now_ms, budget_bytes)
    }

    /// Syncs what is committed, on this thread.
    ///
    /// # Errors
    /// If the sync fails, now or earlier; the shard stops.
    pub fn sync_now(&mut self) -> Result<(), WriteError> {
        crate::sync::sync(&self.shard)
    }

    /// Commits, syncs, notes in the MANIFEST that all is synced, writes an index checkpoint, and lets go of the directory.
    ///
    /// # Errors
    /// As of `commit` and `sync_now`; the directory is let go of all the same.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.commit()?;
        self.shard.errands.stop();
        self.sync_now()?;
        keeper::close(&self.shard)?;
        self.checkpoints.finish(&self.shard);
        Ok(())
    }

    /// Bytes of the batch.
    pub fn pending_bytes(&self) -> u64 {
        if self.batch.is_empty() { 0 } else { self.batch.buffer.len() as u64 }
    }

    fn topic_position(&self, topic: TopicIndex) -> Result<&Position, WriteError> {
        self.last.positions.get(usize::from(topic.0)).ok_or(WriteError::UnknownTopic(topic))
    }

    fn advance(&mut self, topic: TopicIndex, offset: i64, ingest_time_ms: i64) {
        let position = &mut self.last.positions[usize::from(topic.0)];
        position.offset = offset;
        position.ingest_time_ms = position.ingest_time_ms.max(ingest_time_ms);
        self.batch.advanced = true;
    }

    fn stop_if_damaged(&self, error: &WriteError) {
        if let WriteError::Damaged(error) = error {
            self.shard.poison.set(format!("what a key has cannot be read: {error}"));
        }
    }

    /// Adds a new data point to the batch.
    fn apply(&mut self, put: &Put<'_>) -> Result<Outcome, WriteError> {
        let entity_hash = self.shard.entity_hash(put.entity);
        let key = Key::new(entity_hash);
        self.coder.ready(&self.shard.codecs, put.view, put.payload);
        let guard = &crossbeam_epoch::pin();
        let known = self.batch.find(key, put.entity, put.view);
        let state = match known {
            Some(known) => self.batch.keys[known],
            None => self.load(key, entity_hash, put, guard)?,
        };
        let rank = self.shard.rank(&put.key());
        let late = state.head.is_some_and(|head| rank < head.rank) && !planted::reorders();
        if late && planted::loses_late() {
            return Ok(Outcome::Late);
        }
        let jump = if late { Location::NONE } else { self.jump(&state, guard)? };
        let outcome = match late {
            true => Outcome::Late,
            false if self.repeats(put, &state, guard)? => Outcome::Duplicate,
            false => Outcome::Current,
        };
        let stored = self.coder.stored(put.payload);
        let header = batch::header(put, &stored, &state, late, jump);
        self.batch.append(known, state, put, header, rank, &stored);
        self.learn(put);
        Ok(outcome)
    }

    /// Lets a put payload be learned from, and begins a training when it is time.
    fn learn(&mut self, put: &Put<'_>) {
        if let Some(trainer) = self.coder.note(put.view, put.payload) {
            let job = self.coder.train(&self.shard, self.sync.library(), put.view, trainer);
            self.sync.background(job);
        }
    }

    /// Uses what was learned from now on.
    fn take_up_codecs(&mut self) {
        while let Some((view, known)) = self.coder.learned() {
            self.coder.adopt(&self.shard.codecs, view, known);
        }
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        // Whoever opens the directory next must be alone in it.
        self.shard.errands.stop();
        self.shard.disk.give_all();
        self.sync.unregister(&self.shard);
    }
}

/// Whether the format can hold it.
fn check(put: &Put<'_>) -> Result<(), WriteError> {
    let why = match put {
        _ if put.entity.is_empty() => "the entity id is empty",
        _ if put.entity.len() > 255 => "the entity id is longer than 255 bytes",
        _ if put.offset < 0 => "the offset is negative",
        _ if put.payload.len() > MAX_PAYLOAD => "the payload is longer than 1 GiB",
        _ if put.kind == Kind::Tombstone && !put.payload.is_empty() => "a tombstone has no payload",
        _ => return Ok(()),
    };
    Err(WriteError::Invalid(why))
}

const MAX_PAYLOAD: usize = 1 << 30;
/// A frame and its footer must fit into a segment.
const MAX_BATCH: usize = 3 << 29;
