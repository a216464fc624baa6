//! The records of a sealed segment, for a writer that goes through them a slice at a time. Read by the keeper, so that
//! the writer waits for no disk. Asked for by expiry and thinning.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::log::footer::{Entry, Footer};
use crate::log::segment::Segment;
use crate::shard::Shard;
use crate::sync::SyncGroup;

/// Bytes of records read ahead at a time.
const WINDOW: u64 = 8 << 20;

/// A segment, what its footer lists, and how far one has come.
#[derive(Debug)]
pub(crate) struct Listing {
    pub segment: Arc<Segment>,
    /// Nothing if the footer is damaged.
    entries: Arc<OnceLock<Option<Vec<Entry>>>>,
    next: usize,
    /// Byte up to which records were read ahead.
    read: Arc<AtomicU64>,
    /// Byte up to which that was asked for.
    asked: u64,
}

impl Listing {
    /// Asks the keeper for it.
    pub fn of(segment: Arc<Segment>, shard: &Arc<Shard>, group: &SyncGroup) -> Listing {
        let entries = Arc::new(OnceLock::new());
        let (answer, listed) = (entries.clone(), segment.clone());
        group.keep(shard, move |_| {
            let entries = Footer::of(&listed).and_then(|footer| Some(footer.entries()?.collect()));
            let _ = answer.set(entries);
        });
        Listing { segment, entries, next: 0, read: Arc::default(), asked: 0 }
    }

    /// The next of the records, up to `most`; nothing while they are not there. None left: empty. So it is for a damaged
    /// footer: a key that is not forgotten leads to a segment that is gone, which reads and writes take for no key.
    pub fn take(&mut self, most: usize) -> Option<&[Entry]> {
        let entries = self.entries.get()?.as_deref().unwrap_or_default();
        let from = self.next;
        self.next = (from + most).min(entries.len());
        Some(&entries[from..self.next])
    }

    /// The next of the records, up to `most`, as far as the records themselves are in memory. They are not taken.
    pub fn read_ahead(&mut self, most: usize, shard: &Arc<Shard>, group: &SyncGroup) -> Vec<Entry> {
        let read = self.read.load(Ordering::Acquire);
        let rest =
            self.entries.get().and_then(Option::as_deref).map_or(&[][..], |entries| &entries[self.next..]);
        let slice: Vec<_> = rest.iter().take(most).take_while(|entry| entry.at() < read).copied().collect();
        let at = rest.get(slice.len()).map(Entry::at);
        if at.is_some_and(|at| at + WINDOW / 2 > read) && self.asked == read {
            self.asked = at.unwrap_or(read).max(read) + WINDOW;
            let (segment, done, to) = (self.segment.clone(), self.read.clone(), self.asked);
            group.keep(shard, move |_| {
                segment.read_ahead(read, to);
                done.store(to, Ordering::Release);
            });
        }
        slice
    }

    /// Takes records.
    pub fn pass(&mut self, count: usize) {
        self.next += count;
    }

    /// Whether all were taken. Never so if the footer is damaged: then nobody knows what all is.
    pub fn is_done(&self) -> bool {
        self.entries.get().and_then(Option::as_ref).is_some_and(|entries| self.next == entries.len())
    }

    /// Whether the footer cannot be read.
    pub fn is_damaged(&self) -> bool {
        matches!(self.entries.get(), Some(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::SegmentHeader;

    /// As it is when the keeper has read the footer, or has not yet.
    fn listing(dir: &std::path::Path, answer: Option<Option<Vec<Entry>>>) -> Listing {
        let header = SegmentHeader::unused([1; 16], 7, 64 << 10);
        let segment = Arc::new(Segment::create(dir, header).expect("a segment"));
        let entries = Arc::new(OnceLock::new());
        answer.map(|answer| entries.set(answer));
        Listing { segment, entries, next: 0, read: Arc::default(), asked: 0 }
    }

    #[test]
    fn what_a_damaged_footer_lists_is_never_all_there_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let states = [(None, false, false), (Some(None), false, true), (Some(Some(Vec::new())), true, false)];
        for (number, (answer, done, damaged)) in states.into_iter().enumerate() {
            let dir = dir.path().join(number.to_string());
            std::fs::create_dir(&dir).expect("a directory");
            let listing = listing(&dir, answer);
            assert_eq!((listing.is_done(), listing.is_damaged()), (done, damaged), "{number}");
        }
    }
}
