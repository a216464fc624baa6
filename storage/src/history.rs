//! Versions of a key, newest first, as a merge of the chain of currents, which is in order, with the late records,
//! which are in the order they came. Streams: it holds the late records between two currents, never the whole.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;

use crate::chain::Chain;
use crate::error::ReadError;
use crate::log::segment::Record;
use crate::read::Version;
use crate::record::Location;
use crate::shard::{Rank, Shard};
use crate::types::HistoryRange;

/// Versions of a key, newest first. After an error it ends.
pub struct History<'g> {
    wanted: Wanted<'g>,
    walk: Walk<'g>,
}

// One per history read, on the stack: boxing the large one would cost more than it saves.
#[allow(clippy::large_enum_variant)]
enum Walk<'g> {
    Merging(Merge<'g>),
    Failed(ReadError),
    Done,
}

struct Merge<'g> {
    chain: Chain<'g>,
    /// The last one looked at of the chain of currents.
    current: Option<Record<'g>>,
    /// `current` was given already.
    passed: bool,
    late: Location,
    /// Late records that came after `current`.
    waiting: BinaryHeap<Late<'g>>,
}

/// Which records the range asks for.
#[derive(Clone, Copy)]
struct Wanted<'g> {
    shard: &'g Shard,
    range: HistoryRange,
    after: Option<Rank>,
}

impl<'g> History<'g> {
    pub(crate) fn new(
        shard: &'g Shard,
        chain: Result<Option<Chain<'g>>, ReadError>,
        range: HistoryRange,
    ) -> History<'g> {
        let wanted = Wanted { shard, range, after: range.after.map(|key| shard.rank(&key)) };
        let start = |chain: Option<Chain<'g>>| chain.map(|chain| Merge::start(chain, &wanted)).transpose();
        let walk = match chain.and_then(start) {
            Ok(Some(merge)) => Walk::Merging(merge),
            Ok(None) => Walk::Done,
            Err(error) => Walk::Failed(error),
        };
        History { wanted, walk }
    }
}

impl<'g> Iterator for History<'g> {
    type Item = Result<Version<'g>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.walk {
            Walk::Merging(merge) => merge.next(&self.wanted).transpose(),
            Walk::Failed(error) => Some(Err(error.clone())),
            Walk::Done => None,
        };
        if !matches!(next, Some(Ok(_))) {
            self.walk = Walk::Done;
        }
        next.map(|next| next.map(|record| Version { record, codecs: &self.wanted.shard.codecs }))
    }
}

impl<'g> Merge<'g> {
    fn start(chain: Chain<'g>, wanted: &Wanted<'g>) -> Result<Merge<'g>, ReadError> {
        let current = chain.search(|record| wanted.is_below_top(record))?;
        Ok(Merge { chain, current, passed: false, late: chain.late, waiting: BinaryHeap::new() })
    }

    fn next(&mut self, wanted: &Wanted<'g>) -> Result<Option<Record<'g>>, ReadError> {
        loop {
            if self.passed {
                self.current = self.current.map(|current| self.chain.older(&current)).transpose()?.flatten();
                self.passed = false;
            }
            self.collect_late(wanted)?;
            let Some(record) = self.greatest(wanted) else { return Ok(None) };
            if wanted.is_too_old(&record) {
                return Ok(None);
            }
            if wanted.is_known(&record) {
                return Ok(Some(record));
            }
        }
    }

    /// Late records that came before `current` are below the version `current` replaced: they can wait.
    fn collect_late(&mut self, wanted: &Wanted<'g>) -> Result<(), ReadError> {
        let limit = self.current.map_or(Location::NONE, |current| current.location());
        while let Some(record) = self.chain.next_late(&mut self.late, limit)? {
            if wanted.has(&record) {
                self.waiting.push(Late { rank: wanted.rank(&record), record });
            }
        }
        Ok(())
    }

    fn greatest(&mut self, wanted: &Wanted<'g>) -> Option<Record<'g>> {
        let Some(current) = self.current else { return self.waiting.pop().map(|late| late.record) };
        let rank = wanted.rank(&current);
        if self.waiting.peek().is_some_and(|late| late.rank > rank) {
            return self.waiting.pop().map(|late| late.record);
        }
        self.passed = true;
        Some(current)
    }
}

impl Wanted<'_> {
    fn rank(&self, record: &Record<'_>) -> Rank {
        self.shard.rank(&record.header.key())
    }

    fn is_below_top(&self, record: &Record<'_>) -> bool {
        self.range.to_ms.is_none_or(|to| record.header.event_time_ms < to)
            && self.after.is_none_or(|after| self.rank(record) < after)
    }

    fn is_too_old(&self, record: &Record<'_>) -> bool {
        self.range.from_ms.is_some_and(|from| record.header.event_time_ms < from)
    }

    fn is_known(&self, record: &Record<'_>) -> bool {
        self.range.known_at_ms.is_none_or(|known| record.header.ingest_time_ms <= known)
    }

    fn has(&self, record: &Record<'_>) -> bool {
        self.is_below_top(record) && !self.is_too_old(record) && self.is_known(record)
    }
}

/// A late record that waits for its place.
struct Late<'g> {
    rank: Rank,
    record: Record<'g>,
}

impl PartialEq for Late<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Late<'_> {}

impl PartialOrd for Late<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Late<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl fmt::Debug for History<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History({:?})", self.wanted.range)
    }
}
