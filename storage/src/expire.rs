//! Takes away the oldest segments once nothing in them can be read any more, without rewriting a byte. Called by the
//! writer, a little at a time. Only ever from the front: a version points at older ones, so what it replaced never
//! outlives it and cannot come back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch::Guard;

use crate::error::WriteError;
use crate::index::{Dense, Key, Slot};
use crate::keeper;
use crate::listing::Listing;
use crate::log::footer::Entry;
use crate::log::segment::{Segment, Segments};
use crate::planted;
use crate::record::Location;
use crate::types::ExpireReport;
use crate::write::ShardWriter;

/// Records looked at in one call: a millisecond or so.
const SLICE: usize = 4096;

/// Removes what `ShardWriter::expire` says.
pub(crate) fn expire(writer: &mut ShardWriter, now_ms: i64) -> Result<ExpireReport, WriteError> {
    // Without room for the batch it stays as it is: this may make room.
    match writer.commit() {
        Err(error) if !error.can_be_waited_out() => return Err(error),
        _ => {}
    }
    let (mut report, mut left) = (ExpireReport::default(), SLICE);
    while let Some(mut listing) = expired(writer, now_ms) {
        let segment = listing.segment.clone();
        if let Some(entries) = listing.take(left) {
            left -= entries.len();
            report.keys += forget(writer, &segment, entries);
        }
        if !listing.is_done() && !listing.is_damaged() {
            writer.forgetting = Some(listing);
            report.more = true;
            break;
        }
        report.segments += 1;
        report.bytes += segment.capacity();
        writer.leave(segment);
    }
    writer.see_off();
    Ok(report)
}

/// The oldest segment if it may go: sealed, wholly expired by both clocks, and followed by a synced frame, since every
/// frame holds all positions and the last synced one must never be lost.
fn expired(writer: &mut ShardWriter, now_ms: i64) -> Option<Listing> {
    if let Some(listing) = writer.forgetting.take() {
        return Some(listing);
    }
    let guard = &crossbeam_epoch::pin();
    let oldest = writer.shard.segments.load(guard).list.first()?;
    let expiry_ms = oldest.max_expiry_ms.load(Ordering::Relaxed);
    (writer.is_outlived(expiry_ms, now_ms) && writer.is_settled(oldest))
        .then(|| Listing::of(oldest.clone(), &writer.shard, &writer.sync))
}

impl ShardWriter {
    /// Whether what is kept until a time has outlived it, and the allowed lateness, by the clock given and by the
    /// ingest time.
    pub(crate) fn is_outlived(&self, until_ms: i64, now_ms: i64) -> bool {
        let ingested_ms = self.last.positions.iter().map(|position| position.ingest_time_ms).max();
        let now_ms = if planted::trusts_clock() { now_ms } else { now_ms.min(ingested_ms.unwrap_or(0)) };
        until_ms.saturating_add(self.options.allowed_lateness_ms) <= now_ms
    }

    /// Takes a key out of the index, if it has this slot; whether it had.
    pub(crate) fn forget(&self, key: Key, view: Dense, slot: Slot, guard: &Guard) -> bool {
        let had = self.shard.index.remove(key, view, slot, guard);
        if had {
            self.shard.segments.load(guard).of_slot(slot).inspect(|segment| segment.count_live(-1));
        }
        had
    }

    /// Whether a segment will never be written to again and a later one has a frame that is synced.
    pub(crate) fn is_settled(&self, segment: &Segment) -> bool {
        segment.number < self.shard.durable_segment.load(Ordering::Acquire)
            && !segment.sealing.load(Ordering::Acquire)
    }

    /// Takes a segment from the readers. Nothing in the index leads to it.
    pub(crate) fn leave(&self, segment: Arc<Segment>) {
        self.change_segments(|segments| segments.retain(|other| other.number != segment.number));
        self.shard.leaving.lock().push(segment.clone());
        self.sync.background(move || keeper::give_back(segment));
    }

    /// Has the files unlinked of segments that left, now or before when there was no room for another MANIFEST.
    pub(crate) fn see_off(&self) {
        if !self.shard.leaving.lock().is_empty() {
            self.sync.keep(&self.shard, keeper::remove_leaving);
        }
    }
}

/// Takes the keys whose current version is one of a segment's records out of the index; returns how many.
fn forget(writer: &ShardWriter, segment: &Segment, entries: &[Entry]) -> u64 {
    let guard = &crossbeam_epoch::pin();
    let (index, segments) = (&writer.shard.index, writer.shard.segments.load(guard));
    let mut count = 0;
    for entry in entries {
        let key = Key::new(entry.entity_hash());
        let Some(view) = index.view(entry.view, guard) else { continue };
        let slot = index.slot(key, entry.view, guard);
        let record = Location::new(segment.number, entry.at());
        count += u64::from(leads_to(segments, slot, record) && writer.forget(key, view, slot, guard));
    }
    count
}

/// Whether a record is the current version that a slot leads to.
fn leads_to(segments: &Segments, slot: Slot, record: Location) -> bool {
    let Some(segment) = segments.of_slot(slot) else { return false };
    if !slot.is_late() {
        return Location::new(segment.number, slot.byte()) == record;
    }
    segment.record(slot.byte()).is_ok_and(|newest| newest.header.prev == record.0)
}
