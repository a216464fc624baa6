//! The segments of a shard as readers see them at one moment: which there are, and where a location or a slot leads.
//! Replaced as a whole by the writer; some in the middle may be gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::ReadError;
use crate::index::{Index, Slot};
use crate::log::segment::{Record, Segment};
use crate::record::{Location, RecordHeader};

/// The segments of a shard, oldest first, as readers see them at one moment.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    pub list: Vec<Arc<Segment>>,
    /// Place in the list plus one, by number counted from the first; 0 for one that is gone.
    places: Vec<u32>,
}

impl Segments {
    /// Of the segments of a shard, oldest first.
    pub fn new(list: Vec<Arc<Segment>>) -> Segments {
        let first = list.first().map_or(0, |segment| segment.number);
        let mut places = Vec::new();
        for (place, segment) in list.iter().enumerate() {
            places.resize((segment.number - first) as usize, 0);
            places.push(place as u32 + 1);
        }
        Segments { list, places }
    }

    /// Number of the oldest one.
    pub fn first(&self) -> u32 {
        self.list.first().map_or(u32::MAX, |segment| segment.number)
    }

    /// One of which a page could not be read, if there is any.
    pub fn unreadable(&self) -> Option<&Segment> {
        self.list.iter().map(|segment| &**segment).find(|segment| segment.map.is_damaged())
    }

    /// The segment of a number; nothing if it is gone.
    #[inline]
    pub fn at(&self, number: u32) -> Option<&Arc<Segment>> {
        let place = *self.places.get(number.checked_sub(self.first())? as usize)?;
        self.list.get((place as usize).checked_sub(1)?)
    }

    /// The segment a slot leads to; nothing if it is gone. Slots know segment numbers modulo 2^20, and there are never so
    /// many: a slot of a segment that is gone comes out beyond the newest.
    #[inline]
    pub fn of_slot(&self, slot: Slot) -> Option<&Arc<Segment>> {
        if slot == Slot::NONE {
            return None;
        }
        let first = self.first();
        // Without segments `first` is the highest number there is.
        let number = first.wrapping_add(slot.segment().wrapping_sub(first) & (Slot::SEGMENTS - 1));
        self.at(number)
    }

    /// Asks for the first cache lines of the record a slot leads to: header, entity id and some payload.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        if let Some(segment) = self.of_slot(slot) {
            segment.map.prefetch(slot.byte(), 2 * RecordHeader::SIZE);
        }
    }

    /// Counts the slots that lead to each segment, from those an index has.
    pub fn count_live(&self, index: &Index) {
        let mut live = vec![0; self.places.len()];
        let first = self.first();
        index.for_each(&crossbeam_epoch::pin(), |slot| {
            if let Some(segment) = self.of_slot(slot) {
                live[(segment.number - first) as usize] += 1;
            }
        });
        for segment in &self.list {
            segment.live.store(live[(segment.number - first) as usize], Ordering::Relaxed);
        }
    }

    /// The record at a location, hot or cold; nothing if there is none, or if its segment is gone.
    #[inline]
    pub fn record(&self, at: Location) -> Result<Option<Record<'_>>, ReadError> {
        if at.is_none() {
            return Ok(None);
        }
        let Some(index) = at.segment().checked_sub(self.first()) else { return Ok(None) };
        match self.places.get(index as usize) {
            Some(0) => Ok(None),
            Some(place) => self.list[*place as usize - 1].record(at.byte()).map(Some),
            None => Err(self.beyond(at)),
        }
    }

    /// A pointer that leads past the log.
    #[cold]
    fn beyond(&self, at: Location) -> ReadError {
        let file = self.list.last().map(|last| last.path.clone()).unwrap_or_default();
        ReadError::Damaged { file, at: at.byte(), detail: "a pointer leads past the log" }
    }
}
