//! Which requests of each partition are still without an acknowledged answer, and so up to where offsets may be committed.
//! Kept by one thread.

use std::collections::{BTreeSet, HashMap};

/// All partitions of one thread.
#[derive(Debug, Default)]
pub(super) struct Window {
    partitions: HashMap<i32, Partition>,
    in_flight: usize,
}

#[derive(Debug)]
struct Partition {
    open: BTreeSet<i64>,
    /// After the last offset taken.
    next: i64,
    committed: i64,
}

impl Window {
    /// Notes a request that was taken.
    pub(super) fn take(&mut self, partition: i32, offset: i64) {
        let empty = || Partition { open: BTreeSet::new(), next: 0, committed: -1 };
        let found = self.partitions.entry(partition).or_insert_with(empty);
        if found.open.insert(offset) {
            self.in_flight += 1;
        }
        found.next = offset + 1;
    }

    /// Notes that its answer is acknowledged, or that it is put aside.
    pub(super) fn done(&mut self, partition: i32, offset: i64) {
        if self.partitions.get_mut(&partition).is_some_and(|found| found.open.remove(&offset)) {
            self.in_flight -= 1;
        }
    }

    /// Requests without an acknowledged answer.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The offsets to commit, of the next requests wanted: those that are new since last asked.
    pub(super) fn committable(&mut self) -> Vec<(i32, i64)> {
        let mut new = Vec::new();
        for (partition, found) in &mut self.partitions {
            let upto = found.open.first().copied().unwrap_or(found.next);
            if upto != found.committed {
                found.committed = upto;
                new.push((*partition, upto));
            }
        }
        new
    }

    /// Forgets partitions that are another's now: it answers again what was not committed.
    pub(super) fn keep(&mut self, is_ours: impl Fn(i32) -> bool) {
        self.partitions.retain(|partition, _| is_ours(*partition));
        self.in_flight = self.partitions.values().map(|found| found.open.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_committed_when_all_before_it_are_done() {
        let mut window = Window::default();
        for offset in [5, 6, 9] {
            window.take(0, offset);
        }
        window.take(1, 3);
        assert_eq!(window.in_flight(), 4);
        let sorted = |mut commits: Vec<(i32, i64)>| {
            commits.sort_unstable();
            commits
        };
        assert_eq!(sorted(window.committable()), [(0, 5), (1, 3)]);
        window.done(0, 6);
        assert_eq!(window.committable(), []);
        window.done(0, 5);
        window.done(1, 3);
        assert_eq!(sorted(window.committable()), [(0, 9), (1, 4)]);
        window.done(0, 9);
        assert_eq!(window.committable(), [(0, 10)], "gaps in the log are passed");
        window.take(1, 4);
        window.keep(|partition| partition == 0);
        window.done(1, 4);
        assert_eq!(window.in_flight(), 0);
    }
}
