//! The records of a sealed segment, for a writer that goes through them a slice at a time. Read by the keeper, so that
//! the writer waits for no disk. Asked for by expiry and thinning.

use std::sync::{Arc, OnceLock};

use crate::log::footer::{Entry, Footer};
use crate::log::segment::Segment;
use crate::shard::Shard;
use crate::sync::SyncGroup;

/// A segment, what its footer lists, and how far one has come.
#[derive(Debug)]
pub(crate) struct Listing {
    pub segment: Arc<Segment>,
    entries: Arc<OnceLock<Vec<Entry>>>,
    next: usize,
}

impl Listing {
    /// Asks the keeper for it.
    pub fn of(segment: Arc<Segment>, shard: &Arc<Shard>, group: &SyncGroup) -> Listing {
        let entries = Arc::new(OnceLock::new());
        let (answer, listed) = (entries.clone(), segment.clone());
        group.keep(shard, move |_| {
            // A key that is not forgotten leads to a segment that is gone, which reads and writes take for no key.
            let entries =
                Footer::of(&listed).and_then(|footer| Some(footer.entries()?.collect())).unwrap_or_default();
            let _ = answer.set(entries);
        });
        Listing { segment, entries, next: 0 }
    }

    /// The next of the records, up to `most`; nothing while they are not there. None left: empty.
    pub fn take(&mut self, most: usize) -> Option<&[Entry]> {
        let entries = self.entries.get()?;
        let from = self.next;
        self.next = (from + most).min(entries.len());
        Some(&entries[from..self.next])
    }

    /// Whether all were taken.
    pub fn is_done(&self) -> bool {
        self.entries.get().is_some_and(|entries| self.next == entries.len())
    }
}
