//! Takes away the oldest segments once nothing in them can be read any more, without rewriting a byte. Called by the
//! writer. Only ever from the front: a version points at older ones, so what it replaced never outlives it and
//! cannot come back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch::Guard;

use crate::error::WriteError;
use crate::index::{Key, Slot};
use crate::log::footer::Footer;
use crate::log::segment::{Segment, Segments};
use crate::record::Location;
use crate::types::ExpireReport;
use crate::write::ShardWriter;

/// Removes what `ShardWriter::expire` says.
pub(crate) fn expire(writer: &mut ShardWriter, now_ms: i64) -> Result<ExpireReport, WriteError> {
    // Afterwards the batch would not find the keys it was compared with.
    writer.commit()?;
    let expired = expired(writer, now_ms);
    let Some(last) = expired.last() else { return Ok(ExpireReport::default()) };
    // First the MANIFEST: from then on the files may be missing, and an opening removes what is left of them.
    let first = last.number + 1;
    writer.store_manifest(|manifest| manifest.first_segment = first)?;
    let guard = &crossbeam_epoch::pin();
    let keys = expired.iter().map(|segment| forget(writer, segment, guard)).sum();
    writer.change_segments(|segments| segments.list.retain(|segment| segment.number >= first));
    let mut report = ExpireReport { segments: expired.len() as u64, bytes: 0, keys };
    for segment in &expired {
        // Already gone, or removed at the next opening: either is fine.
        let _ = std::fs::remove_file(&segment.path);
        report.bytes += segment.capacity();
    }
    Ok(report)
}

/// The segments that may go: sealed, wholly expired by both clocks, and followed by a synced frame, since every frame
/// holds all positions and the last synced one must never be lost.
fn expired(writer: &ShardWriter, now_ms: i64) -> Vec<Arc<Segment>> {
    let ingested_ms = writer.last.positions.iter().map(|position| position.ingest_time_ms).max();
    let now_ms = now_ms.min(ingested_ms.unwrap_or(0));
    let synced = writer.shard.durable_segment.load(Ordering::Acquire);
    let gone = |segment: &&Arc<Segment>| {
        let expiry_ms = segment.max_expiry_ms.load(Ordering::Relaxed);
        segment.number < synced && expiry_ms.saturating_add(writer.options.allowed_lateness_ms) <= now_ms
    };
    let guard = &crossbeam_epoch::pin();
    writer.shard.segments.load(guard).list.iter().take_while(gone).cloned().collect()
}

/// Takes the keys whose current version is in a segment out of the index; returns how many.
fn forget(writer: &ShardWriter, segment: &Segment, guard: &Guard) -> u64 {
    // A key that is not forgotten leads to a segment that is gone, which reads and writes take for no key.
    let Some(entries) = Footer::of(segment).and_then(|footer| footer.entries()) else { return 0 };
    let (index, segments) = (&writer.shard.index, writer.shard.segments.load(guard));
    let mut count = 0;
    for entry in entries {
        let key = Key::new(entry.entity_hash());
        let Some(view) = index.view(entry.view, guard) else { continue };
        let slot = index.entity(key, guard).map_or(Slot::NONE, |found| found.slot(entry.view));
        let record = Location::new(segment.number, entry.at());
        if leads_to(segments, slot, record) && index.remove(key, view, slot, guard) {
            segments.of_slot(slot).inspect(|segment| segment.count_live(-1));
            count += 1;
        }
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
