//! Which records of each partition are done, and so up to where their offsets may be committed: to the oldest that is not.
//! Filled by `source`, which commits; knows nothing of what is done with a record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

/// A topic's partition.
pub(super) type Partition = (String, i32);

/// The partitions a consumer has, shared with the jobs under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Windows(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Told apart from partitions that went and came back.
    next_epoch: u64,
    partitions: HashMap<Partition, Window>,
}

#[derive(Debug)]
struct Window {
    epoch: u64,
    unfinished: BTreeSet<i64>,
    /// After the newest record.
    next: i64,
    committed: i64,
}

/// A record that is not done yet. Dropped without `finish`, it is given again after a restart.
#[derive(Debug)]
pub(super) struct Ticket {
    windows: Windows,
    partition: Partition,
    epoch: u64,
    offset: i64,
}

impl Windows {
    /// A record begins.
    pub(super) fn begin(&self, topic: &str, partition: i32, offset: i64) -> Ticket {
        let mut open = self.0.lock();
        let partition = (topic.to_owned(), partition);
        let fresh_epoch = open.next_epoch;
        open.next_epoch += 1;
        let window = open.partitions.entry(partition.clone()).or_insert_with(|| Window {
            epoch: fresh_epoch,
            unfinished: BTreeSet::new(),
            next: offset,
            committed: offset,
        });
        window.unfinished.insert(offset);
        window.next = window.next.max(offset + 1);
        let epoch = window.epoch;
        Ticket { windows: self.clone(), partition, epoch, offset }
    }

    /// These partitions are another consumer's now.
    pub(super) fn forget(&self, partitions: impl Iterator<Item = Partition>) {
        let mut open = self.0.lock();
        for partition in partitions {
            open.partitions.remove(&partition);
        }
    }

    /// Offsets that may be committed and have not been: of the next record wanted, per partition. They count as committed
    /// from now on; a commit that fails is made good by the next.
    pub(super) fn advance(&self) -> BTreeMap<Partition, i64> {
        let mut offsets = BTreeMap::new();
        for (partition, window) in &mut self.0.lock().partitions {
            let done = window.unfinished.first().copied().unwrap_or(window.next);
            if done > window.committed {
                window.committed = done;
                offsets.insert(partition.clone(), done);
            }
        }
        offsets
    }

    /// Records not done yet.
    pub(super) fn unfinished(&self) -> usize {
        self.0.lock().partitions.values().map(|window| window.unfinished.len()).sum()
    }
}

impl Ticket {
    /// The record is done.
    pub(super) fn finish(self) {
        let mut open = self.windows.0.lock();
        if let Some(window) = open.partitions.get_mut(&self.partition)
            && window.epoch == self.epoch
        {
            window.unfinished.remove(&self.offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32) -> Partition {
        ("t".into(), partition)
    }

    #[test]
    fn offsets_advance_to_the_oldest_unfinished_record() {
        let windows = Windows::default();
        let mut tickets: Vec<_> = [5, 6, 9, 10].map(|offset| windows.begin("t", 0, offset)).into();
        let other = windows.begin("t", 1, 70);
        assert!(windows.advance().is_empty());
        tickets.remove(1).finish();
        assert!(windows.advance().is_empty(), "5 is not done");
        tickets.remove(0).finish();
        assert_eq!(windows.advance(), [(at(0), 9)].into());
        assert!(windows.advance().is_empty(), "nothing new");
        other.finish();
        tickets.into_iter().for_each(Ticket::finish);
        assert_eq!(windows.advance(), [(at(0), 11), (at(1), 71)].into());
        assert_eq!(windows.unfinished(), 0);
    }

    #[test]
    fn a_record_of_an_earlier_assignment_finishes_nothing_of_a_later_one() {
        let windows = Windows::default();
        let before = windows.begin("t", 0, 5);
        windows.forget([at(0)].into_iter());
        let again = windows.begin("t", 0, 5);
        before.finish();
        assert!(windows.advance().is_empty());
        again.finish();
        assert_eq!(windows.advance(), [(at(0), 6)].into());
    }

    #[test]
    fn a_dropped_record_holds_its_offset() {
        let windows = Windows::default();
        drop(windows.begin("t", 0, 5));
        windows.begin("t", 0, 6).finish();
        assert!(windows.advance().is_empty());
    }
}
