//! Looks for frames in bytes that may be anything: the next of the log, and those that lie behind its end.

use std::path::Path;

use crate::log::footer::Entry;
use crate::log::frame::{Frame, MAGIC};
use crate::log::segment::{FRAMES_AT, Segment};
use crate::shard::{Last, entity_hash};

/// The frame at a byte if it is whole and follows the one before; else why not.
pub(super) fn next<'m>(segment: &'m Segment, at: u64, last: &Last) -> Result<Frame<'m>, &'static str> {
    let frame = Frame::at(segment, at)?;
    if frame.header.sequence != last.sequence + 1 || frame.header.previous != last.sum {
        return Err("the frame does not follow the one before it");
    }
    Ok(frame)
}

/// What the footer of a segment says of its records, from the frames up to a byte, which are whole.
pub(super) fn entries(segment: &Segment, end: u64) -> Vec<Entry> {
    let (mut entries, mut at) = (Vec::new(), FRAMES_AT);
    while let Some(frame) = Frame::at(segment, at).ok().filter(|_| at < end) {
        let records = frame.records().flatten();
        entries.extend(
            records.map(|record| {
                Entry::new(entity_hash(&segment.shard, record.entity), &record.header, record.at)
            }),
        );
        at = frame.end();
    }
    entries
}

/// Whole frames behind the end of the log.
#[derive(Debug)]
pub(super) struct Later<'m> {
    pub first: Frame<'m>,
    /// The last frame that any of them says was synced.
    pub durable: u64,
}

/// Searches a segment from a byte on for frames that come after a sequence.
pub(super) fn later(segment: &Segment, from: u64, after: u64) -> Option<Later<'_>> {
    let mut found: Option<Later<'_>> = None;
    for (start, end) in segment.written_ranges(from) {
        let mut at = start.next_multiple_of(8);
        while at < end {
            match candidate(segment, at, after) {
                Some(frame) => {
                    at = frame.end();
                    let durable = frame.header.durable;
                    let later = found.get_or_insert(Later { first: frame, durable });
                    later.durable = later.durable.max(durable);
                }
                None => at += 8,
            }
        }
    }
    found
}

fn candidate(segment: &Segment, at: u64, after: u64) -> Option<Frame<'_>> {
    let magic = segment.map.get(at, MAGIC.len())?;
    if magic != MAGIC {
        return None;
    }
    Frame::at(segment, at).ok().filter(|frame| frame.header.sequence > after)
}

/// Whether a file is a segment that has a frame.
pub(super) fn has_frame(path: &Path) -> bool {
    Segment::open(path, false)
        .is_ok_and(|segment| Frame::at(&segment, FRAMES_AT).is_ok() || segment.map.is_damaged())
}
