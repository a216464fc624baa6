//! Thinning: takes away segments most of whose records were replaced, after copying what lives in them to the end of the
//! log. Only where every view keeps the current version of a key and no other. Called by the writer, a slice at a time;
//! the keeper reads ahead, so that the writer waits for no disk.
//!
//! ```text
//!  chosen: fewest live ─► listed, read ahead ─► live records copied, slice by slice ─► copies synced ─► leaves
//! ```
//! A copy is an ordinary record of an ordinary frame: the same version with the same stored payload, which points at
//! nothing older. Positions stay. Until the last copy is synced the old segment is there, and an opening takes the
//! later of the two, which say the same.
//!
//! A current version that has expired is forgotten only if its segment is the oldest: in an older one there may be a
//! version that it replaced, which must not come back. The same goes for tombstones. Otherwise it is copied as well.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch::Guard;

use crate::budget::DiskBudget;
use crate::chain::Chain;
use crate::error::{ReadError, WriteError};
use crate::index::{Dense, Index, Key, Slot};
use crate::listing::Listing;
use crate::log::footer::Entry;
use crate::log::segment::{Record, Segment};
use crate::record::Location;
use crate::residency::{ColdPages, Reach};
use crate::types::ThinReport;
use crate::write::ShardWriter;

/// Records looked at in one call, which takes about a millisecond with what is copied.
const SLICE: usize = 4096;
/// Bytes copied in one call, at most.
const MOST_BYTES: u64 = 512 << 10;
/// Percent of a shard's records that may be dead before it is thinned.
const DEAD_ALLOWED: u64 = 38;
/// Percent of a segment's records that must be dead to be worth its copying when the disk is short.
const DEAD_WORTH_IT: u64 = 20;

/// What is being thinned out, and what waits to leave.
#[derive(Debug, Default)]
pub(crate) struct Thinning {
    listing: Option<Listing>,
    /// Nothing in them lives once the frame of this sequence is synced, which has the last copy.
    copied: Vec<(Arc<Segment>, u64)>,
    /// Segments that cannot be read as a whole. They stay, and say so when they are asked.
    damaged: Vec<u32>,
    /// Number of the first segment that stays whole for now; none: any may be thinned out.
    held_from: Option<u32>,
}

/// Does what `ShardWriter::thin` says.
pub(crate) fn thin(
    writer: &mut ShardWriter,
    now_ms: i64,
    budget_bytes: u64,
) -> Result<ThinReport, WriteError> {
    let mut report = ThinReport::default();
    see_off_copied(writer, &mut report);
    let Some(listing) = writer.thinning.listing.take().or_else(|| choose(writer)) else { return Ok(report) };
    report.more = true;
    // It may have expired meanwhile.
    if is_there(writer, &listing.segment) {
        slice(writer, listing, now_ms, budget_bytes.min(MOST_BYTES), &mut report)?;
    }
    Ok(report)
}

/// Lets segments leave whose copies are synced.
fn see_off_copied(writer: &mut ShardWriter, report: &mut ThinReport) {
    let durable = writer.shard.durable_sequence.load(Ordering::Acquire);
    for (segment, sequence) in std::mem::take(&mut writer.thinning.copied) {
        if sequence > durable {
            writer.thinning.copied.push((segment, sequence));
        } else if is_there(writer, &segment) {
            report.segments += 1;
            report.bytes += segment.capacity();
            writer.leave(segment);
        }
    }
    writer.see_off();
    report.more = !writer.thinning.copied.is_empty();
}

fn is_there(writer: &ShardWriter, segment: &Segment) -> bool {
    let guard = &crossbeam_epoch::pin();
    writer.shard.segments.load(guard).at(segment.number).is_some()
}

/// The segment with the smallest part of live records, if the shard has too many dead ones, or the disk is short.
fn choose(writer: &ShardWriter) -> Option<Listing> {
    if writer.keeps_all {
        return None;
    }
    let guard = &crossbeam_epoch::pin();
    let (mut all, mut live, mut best) = (0, 0, None);
    for segment in &writer.shard.segments.load(guard).list {
        if !writer.is_settled(segment) || writer.thinning.has(segment) || writer.thinning.holds(segment) {
            continue;
        }
        let (records, lives) = segment.counts();
        (all, live) = (all + records, live + lives);
        let part = lives * 1000 / records.max(1);
        if best.is_none_or(|(least, _)| part < least) {
            best = Some((part, segment));
        }
    }
    let (part, segment) = best?;
    let tight = writer.shard.disk.budget().is_some_and(DiskBudget::is_tight);
    let worth_it = tight && part <= 1000 - DEAD_WORTH_IT * 10;
    let too_dead = (all - live) * 100 > all * DEAD_ALLOWED;
    (worth_it || too_dead).then(|| Listing::of(segment.clone(), &writer.shard, &writer.sync))
}

impl Thinning {
    /// Whether a segment is not to be chosen again.
    /// From which segment on replaced versions are still needed.
    pub fn hold_from(&mut self, segment: u32) {
        self.held_from = Some(segment);
    }

    fn holds(&self, segment: &Segment) -> bool {
        self.held_from.is_some_and(|from| segment.number >= from)
    }

    fn has(&self, segment: &Segment) -> bool {
        let mut copied = self.copied.iter().map(|(copied, _)| copied.number);
        self.damaged.contains(&segment.number) || copied.any(|number| number == segment.number)
    }
}

/// Goes on with a segment for a while.
fn slice(
    writer: &mut ShardWriter,
    mut listing: Listing,
    now_ms: i64,
    most_bytes: u64,
    report: &mut ThinReport,
) -> Result<(), WriteError> {
    if listing.is_damaged() {
        writer.thinning.damaged.push(listing.segment.number);
        return Ok(());
    }
    let entries = listing.read_ahead(SLICE, &writer.shard, &writer.sync);
    // What is collected must not be compared with what goes away. It may go past the limit with the copies.
    let copied = writer.commit_within(true).and_then(|()| {
        let copied = copy(writer, &listing.segment, &entries, now_ms, most_bytes, report);
        writer.commit_copies(copied.is_ok())?;
        Ok(copied)
    });
    match copied {
        Ok(Ok(done)) => listing.pass(done),
        Ok(Err(_)) => writer.thinning.damaged.push(listing.segment.number),
        Err(error) => {
            writer.thinning.listing = Some(listing);
            return Err(error);
        }
    }
    if listing.is_done() {
        writer.thinning.copied.push((listing.segment, writer.last.sequence));
    } else if !writer.thinning.has(&listing.segment) {
        writer.thinning.listing = Some(listing);
    }
    Ok(())
}

/// Adds the live ones of some records to the batch, up to so many bytes, and forgets what may be. Returns how many of the
/// entries were looked at.
fn copy(
    writer: &mut ShardWriter,
    segment: &Segment,
    entries: &[Entry],
    now_ms: i64,
    most_bytes: u64,
    report: &mut ThinReport,
) -> Result<usize, ReadError> {
    let (shard, guard) = (writer.shard.clone(), &crossbeam_epoch::pin());
    let cold = ColdPages::default();
    let reach = Reach::new(&shard, Some(&cold), guard);
    let is_oldest = reach.segments().first() == segment.number;
    let (mut bytes, mut done) = (0, 0);
    for entry in entries {
        if bytes >= most_bytes {
            break;
        }
        done += 1;
        let Some((dense, slot, current)) = live(&shard.index, reach, segment, entry, guard)? else {
            continue;
        };
        let outlived =
            |current: &Record<'_>| is_oldest && writer.is_outlived(current.header.expiry_ms, now_ms);
        match current.filter(|current| !outlived(current)) {
            Some(current) => bytes += writer.carry(entry.entity_hash(), dense, &current)?,
            None => {
                report.keys += u64::from(writer.forget(Key::new(entry.entity_hash()), dense, slot, guard))
            }
        }
    }
    report.copied_bytes += bytes;
    Ok(done)
}

/// What a record keeps alive: the slot of its key, if that leads to it or to a late one that came to it, and the key's
/// current version, if that is still there.
fn live<'g>(
    index: &Index,
    reach: Reach<'g>,
    segment: &Segment,
    entry: &Entry,
    guard: &Guard,
) -> Result<Option<(Dense, Slot, Option<Record<'g>>)>, ReadError> {
    let Some(dense) = index.view(entry.view, guard) else { return Ok(None) };
    let slot = index.slot(Key::new(entry.entity_hash()), entry.view, guard);
    let Some(home) = reach.segments().of_slot(slot) else { return Ok(None) };
    let is_newest = home.number == segment.number && slot.byte() == entry.at();
    if !is_newest && !slot.is_late() {
        return Ok(None);
    }
    let Some(newest) = reach.record_of(slot)? else { return Ok(None) };
    let current = Chain::from(reach, newest)?.map(|chain| chain.current);
    let here = Location::new(segment.number, entry.at());
    let is_current = current.is_some_and(|current| current.location() == here);
    Ok((is_newest || is_current).then_some((dense, slot, current)))
}
