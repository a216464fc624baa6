//! From batch to log: finds the frame a place, writes it, publishes it. Beginning a new segment and sealing the old one
//! belong here. The order of steps is what makes a crash harmless; each step says why it stands where it stands.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ShardWriter;
use crate::disk::Operation;
use crate::error::WriteError;
use crate::keeper;
use crate::layout::aligned;
use crate::log::footer::{self, Entry, Summary};
use crate::log::frame::{self, FrameHeader, Position};
use crate::log::segment::{FRAMES_AT, Segment, Segments};
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

/// So many keys' places in the index are asked for from memory at once.
const ASK_AHEAD: usize = 16;
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
    pub(super) fn write_frame(&mut self, thins: bool) -> Result<(), WriteError> {
        let sequence = self.last.sequence + 1;
        if planted::drops_frame(sequence) {
            self.batch.drop_records();
        }
        self.make_room(thins)?;
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
        if planted::publishes_first() {
            self.shard.applied.publish(self.last.positions.iter().map(|position| position.offset));
        }
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
        for (at, state) in self.batch.keys.iter().enumerate() {
            if at % ASK_AHEAD == 0 {
                // They were at hand when they were put, but that was a batch ago.
                let next = self.batch.keys[at..].iter().take(ASK_AHEAD);
                self.shard.index.ask_for(next.map(|state| state.key), guard);
            }
            if state.is_orphan(segments) {
                continue;
            }
            let slot = state.new_slot(&active.segment, frame.byte());
            let old = self.shard.index.publish(state.key, state.dense, slot, guard);
            segments.of_slot(old).inspect(|segment| segment.count_live(-1));
            active.segment.count_live(1);
        }
        active.segment.records.fetch_add(self.batch.len() as u32, Ordering::Relaxed);
        self.shard.applied_sequence.store(sequence, Ordering::Release);
        active.segment.note_expiry(self.batch.max_expiry_ms());
        let bytes = self.batch.buffer.len() as u64;
        active.tail += bytes;
        active.positions.copy_from_slice(&self.last.positions);
        (self.last.sequence, self.last.sum) = (sequence, sum);
        self.last.segment = active.segment.number;
        self.shard.residency.advance(Location::new(active.segment.number, active.tail));
        self.cold.forget();
        let half = active.segment.capacity() / 2;
        let half_full = active.tail >= half && active.tail - bytes < half;
        self.shard.applied.publish(self.last.positions.iter().map(|position| position.offset));
        self.sync.committed(&self.shard, &active.segment, bytes, sequence, &self.last.positions);
        self.batch.clear();
        let every = self.options.checkpoint_bytes;
        if let Some(job) = self.checkpoints.committed(&self.shard, bytes, every) {
            self.sync.background(job);
        }
        if half_full {
            // Early enough for a burst; a shard that hardly grows has no file it does not need.
            keeper::prepare(&self.shard, &self.sync, self.segment_bytes(), false);
        }
    }

    /// Begins a new segment if the batch does not fit into the one there is.
    fn make_room(&mut self, thins: bool) -> Result<(), WriteError> {
        if !thins {
            // What is there beyond the limit is for copies, even if a batch of data points fits.
            self.shard.disk.check()?;
        }
        let (bytes, records, topics) =
            (self.batch.buffer.len() as u64, self.batch.len(), self.shard.topics.len());
        if self.active.as_ref().is_some_and(|active| active.fits(bytes, records, topics)) {
            return Ok(());
        }
        let least = FRAMES_AT + bytes + footer::bytes(records, topics);
        self.begin_segment(self.segment_bytes(), least.next_multiple_of(PAGE), thins)
    }

    fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes.clamp(LEAST_SEGMENT, MOST_SEGMENT).next_multiple_of(PAGE)
    }

    /// Goes on in the next segment; the full one gets its footer on the keeper's thread.
    fn begin_segment(&mut self, wished: u64, least: u64, thins: bool) -> Result<(), WriteError> {
        let mut segment = keeper::next_segment(&self.shard, &self.sync, wished, least, thins)?;
        let begun = segment.begin(self.last.sum, self.last.sequence + 1);
        begun.map_err(|error| poisoned(self, "write of a header", error))?;
        let segment = Arc::new(segment);
        self.change_segments(|segments| segments.push(segment.clone()));
        let full = self.active.replace(Active::new(segment, self.shard.topics.len()));
        if let Some(full) = full {
            full.segment.sealing.store(true, Ordering::Relaxed);
            let (sequence, sum) = (self.last.sequence, self.last.sum);
            self.sync.keep(&self.shard, move |shard| keeper::seal(shard, &full, sequence, sum));
        }
        Ok(())
    }

    /// Gives readers another list of segments.
    pub(crate) fn change_segments(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        let guard = &crossbeam_epoch::pin();
        let mut list = self.shard.segments.load(guard).list.clone();
        change(&mut list);
        self.shard.segments.replace(Segments::new(list), guard);
        // Space of a segment that went away comes back with its mapping: let that be soon.
        guard.flush();
    }
}

#[cold]
fn poisoned(writer: &ShardWriter, doing: &str, error: io::Error) -> WriteError {
    writer.shard.poison.set(format!("{}: {doing} failed: {error}", writer.shard.dir.display()))
}

const _: () = assert!(aligned(FrameHeader::SIZE) == FrameHeader::SIZE, "frames begin where others end");
