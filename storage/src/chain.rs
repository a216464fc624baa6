//! Finding the versions of one key: through the index to its newest record, then along the pointers in the records.
//! Both the writer and the readers come here. Knows the order of versions, nothing of TTL.
//!
//! ```text
//!  index ─► newest record ──(if it was late: prev)──► current ─prev─► older ─prev─► oldest
//!                │                                      └───jump, O(log n)───►┘
//!                └─late─► late record ─late─► late record        (in the order they came, newest first)
//! ```
//! A record never changes, so a late one cannot be linked into the chain of currents. It begins with what it found:
//! `prev` is the record that was current when it came, `late` the late one before it. The next current record takes
//! the late ones along in its own `late`. So the newest record alone leads to everything, and everything a record
//! points at is older in the log. A late record that came before a current one M was below the version that M
//! replaced; so whoever has found M on the chain needs only the late records that came after it.
//!
//! A record of a `Latest` view may have come without a look at the one it replaced: it knows where that is, not what is
//! in it. Then its `late` leads where its `prev` does, to a record that is not late, whose own `late` goes on from there;
//! it has no jump, and is called mixed.

use crossbeam_epoch::Guard;

use crate::error::ReadError;
use crate::index::{Key, Slot};
use crate::log::segment::Record;
use crate::record::Location;
use crate::residency::{ColdPages, Reach};
use crate::shard::Shard;

/// All versions of one key at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'g> {
    pub reach: Reach<'g>,
    pub current: Record<'g>,
    /// The newest late record, if any, or where the way to it goes on.
    pub late: Location,
}

/// Looks a key up. Nothing if it has no current version, or if that one's segment has expired.
#[inline]
pub(crate) fn find<'g>(
    shard: &'g Shard,
    cold: Option<&'g ColdPages>,
    guard: &'g Guard,
    entity: &[u8],
    view: u16,
) -> Result<Option<Chain<'g>>, ReadError> {
    let key = Key::new(shard.entity_hash(entity));
    let slot = shard.index.slot(key, view, guard);
    // Loaded after the slot, so that it has every segment the slot can lead to.
    of_slot(Reach::new(shard, cold, guard), slot, entity, view)
}

/// The chain that a slot begins, if it is this key's.
#[inline]
pub(crate) fn of_slot<'g>(
    reach: Reach<'g>,
    slot: Slot,
    entity: &[u8],
    view: u16,
) -> Result<Option<Chain<'g>>, ReadError> {
    match reach.record_of(slot)? {
        Some(newest) if newest.is(entity, view) => Chain::from(reach, newest),
        _ => Ok(None),
    }
}

impl<'g> Chain<'g> {
    /// The chain that the newest record of a key begins.
    pub fn from(reach: Reach<'g>, newest: Record<'g>) -> Result<Option<Chain<'g>>, ReadError> {
        if !newest.header.is_late() {
            let late = Location(newest.header.late);
            return Ok(Some(Chain { reach, current: newest, late }));
        }
        let current = reach.record(Location(newest.header.prev))?;
        Ok(current.map(|current| Chain { reach, current, late: newest.location() }))
    }

    /// The first record of the chain of currents, from the newest on, for which `wanted` holds. `wanted` must hold for
    /// all records after one for which it does.
    pub fn search(&self, wanted: impl Fn(&Record<'g>) -> bool) -> Result<Option<Record<'g>>, ReadError> {
        let mut at = self.current;
        while !wanted(&at) {
            // A jump that has expired, or was not stored, says nothing: the record before may still be there.
            if let Some(far) = self.reach.record(Location(at.header.jump))?
                && !wanted(&far)
            {
                at = far;
                continue;
            }
            match self.older(&at)? {
                Some(older) => at = older,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The record that was current before this one.
    pub fn older(&self, record: &Record<'g>) -> Result<Option<Record<'g>>, ReadError> {
        self.reach.record(Location(record.header.prev))
    }

    /// Takes the next late record that came after `limit` off the front of `late`.
    pub fn next_late(&self, late: &mut Location, limit: Location) -> Result<Option<Record<'g>>, ReadError> {
        while *late > limit {
            let record = self.reach.record(*late)?;
            *late = record.map_or(Location::NONE, |record| Location(record.header.late));
            // One that is not late is on the way only.
            if record.is_some_and(|record| record.header.is_late()) {
                return Ok(record);
            }
        }
        Ok(None)
    }

    /// The greatest version at or below an event time, of those that had come by an ingest time.
    pub fn as_of(
        &self,
        shard: &Shard,
        as_of_ms: i64,
        known_at_ms: Option<i64>,
    ) -> Result<Option<Record<'g>>, ReadError> {
        let old = |record: &Record<'_>| record.header.event_time_ms <= as_of_ms;
        let known =
            |record: &Record<'_>| known_at_ms.is_none_or(|known| record.header.ingest_time_ms <= known);
        let mut best = if self.current.header.is_mixed() {
            self.search_mixed(old, known)?
        } else {
            // Ingest times never rise towards older records.
            self.search(|record| old(record) && known(record))?
        };
        let (mut late, limit) = (self.late, best.map_or(Location::NONE, |best| best.location()));
        while let Some(record) = self.next_late(&mut late, limit)? {
            let better = |best: Record<'_>| shard.rank(&record.header.key()) > shard.rank(&best.header.key());
            if old(&record) && known(&record) && best.is_none_or(better) {
                best = Some(record);
            }
        }
        Ok(best)
    }

    /// Ingest times may be in any order: jumps go by event time only, the rest step by step.
    fn search_mixed(
        &self,
        old: impl Fn(&Record<'g>) -> bool,
        known: impl Fn(&Record<'g>) -> bool,
    ) -> Result<Option<Record<'g>>, ReadError> {
        let mut at = self.search(old)?;
        while let Some(record) = at.filter(|record| !known(record)) {
            at = self.older(&record)?;
        }
        Ok(at)
    }
}
