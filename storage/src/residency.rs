//! Which end of the log is held in memory. The newest bytes, up to a budget, are *hot*: reads go there at once. What is
//! older is *cold*: its pages are not kept mapped, and only a read that says it may wait for the disk looks at them.
//! Used by everyone who reads records; knows locations and segments, nothing of keys.
//!
//! ```text
//!  oldest segment                                                                    newest
//!  ├──────────────── cold ────────────────┤hot_from ├────────── hot, at most the budget ──────────┤end
//!   mapped, but its pages dropped: once                read in place by every thread; resident
//!   when it becomes cold, and again after                once touched, or after `preload`
//!   each read that touched it
//! ```
//! Dropping is advice to the kernel: the page cache keeps what it likes, and who still looks at a dropped page gets it
//! back. So nothing here is needed for reads to be right, only for memory to stay in bounds.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::Guard;
use parking_lot::Mutex;

use crate::error::ReadError;
use crate::index::Slot;
use crate::log::segment::{Record, Segment, Segments};
use crate::map::FAULT_AROUND;
use crate::record::Location;
use crate::shard::Shard;
use crate::types::PreloadReport;

/// The hot end of one log.
#[derive(Debug)]
pub(crate) struct Residency {
    /// Bytes of the newest log that are hot.
    budget: AtomicU64,
    /// A location after the last published record.
    end: AtomicU64,
    /// Records from this location on are hot.
    hot_from: AtomicU64,
    /// Records read that were cold.
    cold_reads: AtomicU64,
    /// Held while the border moves: the number of the cold segment swept next.
    sweep: Mutex<u32>,
}

/// The border moves in these steps.
const STEP: u64 = 64 << 10;
/// Most bytes that one read keeps mapped of what is cold, about.
const MOST_COLD: u64 = 16 << 20;
/// What a touch may map around it.
const AROUND: u64 = FAULT_AROUND as u64;
/// Bytes that are preloaded at once.
const PRELOAD_STEP: u64 = 8 << 20;

impl Residency {
    /// All is hot until the first `settle`. `end` is where the log ends.
    pub fn new(budget: u64, end: Location) -> Residency {
        Residency {
            budget: AtomicU64::new(budget),
            end: AtomicU64::new(end.0),
            hot_from: AtomicU64::new(0),
            cold_reads: AtomicU64::new(0),
            sweep: Mutex::new(0),
        }
    }

    /// Notes how far the log goes now.
    pub fn advance(&self, end: Location) {
        self.end.store(end.0, Ordering::Release);
    }

    /// Sets how many bytes of the newest log are hot.
    pub fn set_budget(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// Records that were read though they were cold.
    pub fn cold_reads(&self) -> u64 {
        self.cold_reads.load(Ordering::Relaxed)
    }

    /// Bytes of the log that are hot.
    pub fn hot_bytes(&self, segments: &Segments) -> u64 {
        self.hot_ranges(segments).map(|(_, from, to)| to - from).sum()
    }

    /// Moves the border to where the budget ends, and drops the pages of what became cold.
    pub fn settle(&self, segments: &Segments) {
        let _turn = self.sweep.lock();
        let before = Location(self.hot_from.load(Ordering::Relaxed));
        let now = self.border(segments);
        if now == before {
            return;
        }
        // Who looks from here on finds it cold; only then its pages go.
        self.hot_from.store(now.0, Ordering::Release);
        for segment in &segments.list {
            let from = if segment.number == before.segment() { before.byte() } else { 0 };
            let to = if segment.number == now.segment() { now.byte() } else { segment.map.len() };
            if segment.number >= before.segment() && segment.number <= now.segment() {
                segment.map.forget(from, to);
            }
        }
    }

    /// Drops the pages of one cold segment, another one each time: what readers touched that were under way when it
    /// became cold.
    pub fn sweep(&self, segments: &Segments) {
        let mut next = self.sweep.lock();
        let hot_from = Location(self.hot_from.load(Ordering::Relaxed));
        let mut cold = segments.list.iter().take_while(|segment| segment.number < hot_from.segment());
        let first = cold.clone().next();
        let Some(segment) = cold.find(|segment| segment.number >= *next).or(first) else { return };
        segment.map.forget(0, segment.map.len());
        *next = segment.number + 1;
    }

    /// Drops the pages of a segment that are cold, after a look at all of it.
    pub fn forget_cold(&self, segment: &Segment) {
        let hot_from = Location(self.hot_from.load(Ordering::Relaxed));
        let to = match segment.number.cmp(&hot_from.segment()) {
            std::cmp::Ordering::Less => segment.map.len(),
            std::cmp::Ordering::Equal => hot_from.byte(),
            std::cmp::Ordering::Greater => 0,
        };
        segment.map.forget(0, to);
    }

    /// Maps the newest bytes of the hot end, newest first, and says after each step how many there are so far.
    pub fn preload(&self, segments: &Segments, budget: u64, progress: &mut dyn FnMut(u64)) -> PreloadReport {
        let mut report = PreloadReport { bytes: 0, wanted: budget.min(self.hot_bytes(segments)) };
        for (at, from, mut to) in self.hot_ranges(segments) {
            while to > from && report.bytes < report.wanted {
                let bytes = (to - from).min(PRELOAD_STEP).min(report.wanted - report.bytes);
                to -= bytes;
                segments.list[at].map.populate(to, to + bytes);
                report.bytes += bytes;
                progress(report.bytes);
            }
        }
        report
    }

    fn border(&self, segments: &Segments) -> Location {
        let (end, mut left) = (self.end(), self.budget.load(Ordering::Relaxed));
        for segment in segments.list.iter().rev() {
            let used = used(segment.number, segment.capacity(), end);
            if used > left {
                return Location::new(segment.number, (used - left).next_multiple_of(STEP).min(used));
            }
            left -= used;
        }
        Location::NONE
    }

    /// Place in the list, first and last byte of what is hot, newest first.
    fn hot_ranges<'s>(&self, segments: &'s Segments) -> impl Iterator<Item = (usize, u64, u64)> + use<'s> {
        let (end, hot_from) = (self.end(), Location(self.hot_from.load(Ordering::Relaxed)));
        let hot = segments.list.iter().enumerate().rev();
        hot.take_while(move |(_, segment)| segment.number >= hot_from.segment()).map(move |(at, segment)| {
            let from = if segment.number == hot_from.segment() { hot_from.byte() } else { 0 };
            (at, from, used(segment.number, segment.capacity(), end).max(from))
        })
    }

    fn end(&self) -> Location {
        Location(self.end.load(Ordering::Acquire))
    }
}

/// Bytes of a segment that the log goes over.
fn used(number: u32, capacity: u64, end: Location) -> u64 {
    match number.cmp(&end.segment()) {
        std::cmp::Ordering::Less => capacity,
        std::cmp::Ordering::Equal => end.byte(),
        std::cmp::Ordering::Greater => 0,
    }
}

/// The records that one read may look at.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'g> {
    segments: &'g Segments,
    hot_from: Location,
    /// Where to note what is touched of the cold ones; without it they are out of reach.
    cold: Option<&'g ColdPages>,
    residency: &'g Residency,
}

impl<'g> Reach<'g> {
    /// What a shard has now; the cold part only with a place to note it.
    #[inline]
    pub fn new(shard: &'g Shard, cold: Option<&'g ColdPages>, guard: &'g Guard) -> Reach<'g> {
        let hot_from = Location(shard.residency.hot_from.load(Ordering::Acquire));
        Reach { segments: shard.segments.load(guard), hot_from, cold, residency: &shard.residency }
    }

    /// The record at a location; nothing if there is none, or if its segment is gone.
    #[inline]
    pub fn record(&self, at: Location) -> Result<Option<Record<'g>>, ReadError> {
        if at < self.hot_from {
            self.enter_cold(at)?;
        }
        self.segments.record(at)
    }

    /// The record a slot leads to; nothing if its segment is gone.
    #[inline]
    pub fn record_of(&self, slot: Slot) -> Result<Option<Record<'g>>, ReadError> {
        let Some(segment) = self.segments.of_slot(slot) else { return Ok(None) };
        let at = Location::new(segment.number, slot.byte());
        if at < self.hot_from {
            self.enter_cold(at)?;
        }
        segment.record(slot.byte()).map(Some)
    }

    /// All segments.
    #[inline]
    pub fn segments(&self) -> &'g Segments {
        self.segments
    }

    /// Notes that a cold record is going to be looked at, if that is allowed. By itself, so that a hot one costs a
    /// comparison.
    #[cold]
    fn enter_cold(&self, at: Location) -> Result<(), ReadError> {
        let Some(segment) = self.segments.at(at.segment()) else { return Ok(()) };
        let cold = self.cold.ok_or(ReadError::Cold)?;
        self.residency.cold_reads.fetch_add(1, Ordering::Relaxed);
        cold.touch(segment, &segment.record(at.byte())?);
        Ok(())
    }
}

impl fmt::Debug for Reach<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reach(hot from {:?})", self.hot_from)
    }
}

/// What one reader has touched of the cold part, to be dropped again when it is done.
#[derive(Debug, Default)]
pub(crate) struct ColdPages {
    /// Segment, first and last byte.
    touched: RefCell<Vec<(Arc<Segment>, u64, u64)>>,
}

impl ColdPages {
    fn touch(&self, segment: &Arc<Segment>, record: &Record<'_>) {
        let (from, to) = (record.at, record.at + record.header.record_bytes() as u64);
        let mut touched = self.touched.borrow_mut();
        if let Some((last, first, end)) = touched.last_mut()
            && Arc::ptr_eq(last, segment)
            && *first / AROUND == from / AROUND
        {
            *end = to.max(*end);
            return;
        }
        // The newest stays: its payload is still to be read.
        if touched.iter().map(|(_, from, to)| to - from + AROUND).sum::<u64>() > MOST_COLD {
            touched.drain(..).for_each(|(segment, from, to)| segment.map.forget(from, to));
        }
        touched.push((segment.clone(), from, to));
    }

    /// Drops the pages of all that was touched.
    pub fn forget(&self) {
        self.touched.borrow_mut().drain(..).for_each(|(segment, from, to)| segment.map.forget(from, to));
    }
}

impl Drop for ColdPages {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Shares `total` among those that need so much each: equal parts, where what one does not need goes to the others. One
/// that needs less than its part gets the part all the same, so that it may grow before they are shared anew.
pub fn share(total: u64, needs: &[u64]) -> Vec<u64> {
    let mut least_first: Vec<_> = (0..needs.len()).collect();
    least_first.sort_by_key(|at| needs[*at]);
    let (mut left, mut parts) = (total, vec![0; needs.len()]);
    for (before, at) in least_first.into_iter().enumerate() {
        parts[at] = left / (needs.len() - before) as u64;
        left -= parts[at].min(needs[at]);
    }
    parts
}
