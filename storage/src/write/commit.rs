//! From batch to log: finds the frame a place, writes it, publishes it. Beginning a new segment and sealing the old one
//! belong here. The order of steps is what makes a crash harmless; each step says why it stands where it stands.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ShardWriter;
use crate::disk::{self, Operation};
use crate::error::WriteError;
use crate::layout::aligned;
use crate::log::footer::{self, Entry, Summary};
use crate::log::frame::{self, FrameHeader, Position};
use crate::log::segment::{self, FRAMES_AT, Segment, SegmentHeader, Segments};
use crate::manifest::Manifest;
use crate::planted;
use crate::record::Location;

/// The segment that frames go to.
#[derive(Debug)]
pub(crate) struct Active {
    pub segment: Arc<Segment>,
    /// Byte after its last frame.
    pub tail: u64,
    /// Its records so far, for the footer.
    pub entries: Vec<Entry>,
    /// Positions after its last frame.
    pub positions: Vec<Position>,
}

/// Space in segments comes in these steps.
const PAGE: u64 = 4096;
const LEAST_SEGMENT: u64 = 64 << 10;
/// Slots of the index count bytes in eights with 28 bits.
const MOST_SEGMENT: u64 = 2 << 30;

impl Active {
    pub fn new(segment: Arc<Segment>, topics: usize) -> Active {
        Active { segment, tail: FRAMES_AT, entries: Vec::new(), positions: vec![Position::NONE; topics] }
    }

    /// Whether a frame and the footer after it have room.
    fn fits(&self, frame_bytes: u64, records: usize, topics: usize) -> bool {
        let footer = footer::bytes(self.entries.len() + records, topics);
        self.tail + frame_bytes + footer <= self.segment.capacity()
    }

    /// What its footer is to say.
    pub fn summary(&self, last_sequence: u64, last_sum: u64) -> Summary {
        Summary {
            first_sequence: self.segment.header.first_sequence,
            last_sequence,
            last_sum,
            frames_end: self.tail,
            max_expiry_ms: self.segment.max_expiry_ms.load(Ordering::Relaxed),
            base_ms: self.segment.base_ms().unwrap_or_default(),
        }
    }
}

impl ShardWriter {
    /// Writes the batch, which is not empty, and publishes it.
    pub(super) fn write_frame(&mut self) -> Result<(), WriteError> {
        let sequence = self.last.sequence + 1;
        if planted::drops_frame(sequence) {
            self.batch.drop_records();
        }
        self.make_room()?;
        let active = self.active.as_mut().expect("making room leaves an active segment");
        let frame = Location::new(active.segment.number, active.tail);
        let header = FrameHeader {
            magic: frame::MAGIC,
            body_sum: 0,
            shard: self.shard.id,
            sequence,
            previous: self.last.sum,
            durable: self.shard.durable_sequence.load(Ordering::Relaxed),
            body_bytes: 0,
            record_count: 0,
            topic_count: 0,
            reserved: [0; 6],
            head_sum: 0,
        };
        let sum = self.batch.settle(frame, header, &self.last.positions, &mut active.entries);
        let written = self.shard.faults.check(Operation::Write);
        let written = written.and_then(|()| active.segment.write(&self.batch.buffer, active.tail));
        // Whatever is on disk now may be half a frame: nothing may follow it.
        written.map_err(|error| poisoned(self, "write", error))?;
        self.publish(frame, sequence, sum);
        Ok(())
    }

    /// Lets readers see the frame that was written: slots first, then positions, so that who sees a position sees all
    /// that is below it.
    fn publish(&mut self, frame: Location, sequence: u64, sum: u64) {
        let active = self.active.as_mut().expect("a frame was written to it");
        let guard = &crossbeam_epoch::pin();
        let segments = self.shard.segments.load(guard);
        self.shard.begun_sequence.store(sequence, Ordering::Release);
        active.segment.note_base(frame::base_ms(self.last.positions.iter().copied()));
        for state in &self.batch.keys {
            let slot = state.new_slot(&active.segment, frame.byte());
            let old = self.shard.index.publish(state.key, state.dense, slot, guard);
            segments.of_slot(old).inspect(|segment| segment.count_live(-1));
        }
        active.segment.count_live(self.batch.keys.len() as i32);
        self.shard.applied_sequence.store(sequence, Ordering::Release);
        active.segment.note_expiry(self.batch.max_expiry_ms());
        let bytes = self.batch.buffer.len() as u64;
        active.tail += bytes;
        active.positions.copy_from_slice(&self.last.positions);
        (self.last.sequence, self.last.sum) = (sequence, sum);
        self.last.segment = active.segment.number;
        self.shard.applied.publish(self.last.positions.iter().map(|position| position.offset));
        self.sync.committed(&self.shard, &active.segment, bytes, sequence, &self.last.positions);
        self.batch.clear();
        let every = self.options.checkpoint_bytes;
        if let Some(job) = self.checkpoints.committed(&self.shard, bytes, every) {
            self.sync.background(job);
        }
    }

    /// Begins a new segment if the batch does not fit into the one there is.
    fn make_room(&mut self) -> Result<(), WriteError> {
        let (bytes, records, topics) =
            (self.batch.buffer.len() as u64, self.batch.len(), self.shard.topics.len());
        if self.active.as_ref().is_some_and(|active| active.fits(bytes, records, topics)) {
            return Ok(());
        }
        let least = FRAMES_AT + bytes + footer::bytes(records, topics);
        let wished = self.options.segment_bytes.clamp(LEAST_SEGMENT, MOST_SEGMENT);
        self.begin_segment(wished.max(least).next_multiple_of(PAGE))
    }

    /// The new file is complete and synced before the MANIFEST names it, and named before a frame goes there: a crash
    /// leaves a file that nobody names, which the next opening removes, or a named one that is empty.
    fn begin_segment(&mut self, capacity: u64) -> Result<(), WriteError> {
        let number = self.manifest.last_segment + 1;
        if number > Location::MAX_SEGMENT {
            return Err(WriteError::Invalid("the shard has used up its segment numbers; rebuild it"));
        }
        let header =
            SegmentHeader::new(self.shard.id, number, capacity, self.last.sum, self.last.sequence + 1);
        let made = self.shard.faults.check(Operation::Allocate);
        let made = made.and_then(|()| Segment::create(&self.shard.dir, header));
        let segment = Arc::new(made.map_err(|error| self.not_made(number, error))?);
        self.store_manifest(|manifest| (manifest.last_segment, manifest.discarded_segment) = (number, 0))?;
        let sealed = self.active.replace(Active::new(segment.clone(), self.shard.topics.len()));
        if let Some(sealed) = sealed {
            self.seal(&sealed)?;
        }
        self.change_segments(|segments| segments.list.push(segment));
        Ok(())
    }

    /// Cleans up after a segment that could not be made.
    fn not_made(&self, number: u32, error: io::Error) -> WriteError {
        let path = segment::path(&self.shard.dir, number);
        // It may not have come to be; if it stays, the next opening removes it.
        let _ = std::fs::remove_file(&path);
        refusal(self, "making a segment", &path, error)
    }

    /// Writes the footer of a full segment. Readers do not need it, so it need not be synced before the next frame.
    fn seal(&mut self, sealed: &Active) -> Result<(), WriteError> {
        let summary = sealed.summary(self.last.sequence, self.last.sum);
        let footer = footer::encode(&sealed.segment, &summary, &sealed.entries, &sealed.positions);
        let at = sealed.segment.capacity() - footer.len() as u64;
        sealed.segment.write(&footer, at).map_err(|error| poisoned(self, "write of a footer", error))?;
        self.shard.unsynced.lock().touch(&sealed.segment);
        sealed.segment.map.advise_random();
        Ok(())
    }

    /// Changes the MANIFEST, which also says how far the shard is synced. On failure nothing has changed.
    pub(crate) fn store_manifest(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), WriteError> {
        let mut manifest = self.manifest.clone();
        manifest.durable_sequence = self.shard.durable_sequence.load(Ordering::Acquire);
        change(&mut manifest);
        if manifest != self.manifest {
            let stored = manifest.store(&self.shard.dir);
            let path = self.shard.dir.join(crate::manifest::NAME);
            stored.map_err(|error| refusal(self, "replacing the MANIFEST", &path, error))?;
            self.manifest = manifest;
        }
        Ok(())
    }

    /// Gives readers another list of segments.
    pub(crate) fn change_segments(&self, change: impl FnOnce(&mut Segments)) {
        let guard = &crossbeam_epoch::pin();
        let mut segments = self.shard.segments.load(guard).clone();
        change(&mut segments);
        self.shard.segments.replace(segments, guard);
        // Space of a segment that went away comes back with its mapping: let that be soon.
        guard.flush();
    }
}

/// A full disk or process can be waited out; after anything else nobody knows what is on it.
fn refusal(writer: &ShardWriter, doing: &str, path: &Path, error: io::Error) -> WriteError {
    if disk::is_used_up(&error) {
        return WriteError::NoSpace { path: path.to_path_buf() };
    }
    writer.shard.poison.set(format!("{}: {doing} failed: {error}", path.display()))
}

#[cold]
fn poisoned(writer: &ShardWriter, doing: &str, error: io::Error) -> WriteError {
    writer.shard.poison.set(format!("{}: {doing} failed: {error}", writer.shard.dir.display()))
}

const _: () = assert!(aligned(FrameHeader::SIZE) == FrameHeader::SIZE, "frames begin where others end");
