//! Many records of the log put into the index one after the other, as fast as memory allows: what a group of them needs
//! is asked for before the first is looked at. Called when a shard is opened, and by a writer that knows what comes next.

use crossbeam_epoch::Guard;

use super::{Dense, Index, Key, Slot};

/// A record of the log, as the index takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    pub entity_hash: u128,
    pub view: Dense,
    pub slot: Slot,
}

/// Records on their way from memory at once: about as many as a core can wait for.
const GROUP: usize = 32;

impl Index {
    /// Applies records in the order of the log. The later one of a key takes its slot; but a late one whose key is not
    /// there is dropped: it came to a version that has expired, and the key was forgotten with it.
    pub fn replay(&self, mut log: impl Iterator<Item = Logged>) {
        let (mut group, mut guard) = (Vec::with_capacity(GROUP), crossbeam_epoch::pin());
        loop {
            group.extend(log.by_ref().take(GROUP).map(|logged| (Key::new(logged.entity_hash), logged)));
            if group.is_empty() {
                return;
            }
            self.replay_group(&group, &guard);
            group.clear();
            // Lets go of pages that were made anew.
            guard.repin();
        }
    }

    /// Asks for all that is looked at when these keys are: places, pages, lines, one step for all keys after the other.
    #[inline]
    pub fn ask_for(&self, keys: impl Iterator<Item = Key> + Clone, guard: &Guard) {
        let keys = || keys.clone();
        keys().for_each(|key| self.region(key).prefetch(key.path(), false, guard));
        keys().for_each(|key| self.region(key).prefetch(key.path(), true, guard));
        keys().for_each(|key| self.region(key).load(key.path(), guard).prefetch(key));
        keys().for_each(|key| self.region(key).load(key.path(), guard).prefetch_more(key));
    }

    fn replay_group(&self, group: &[(Key, Logged)], guard: &Guard) {
        self.ask_for(group.iter().map(|(key, _)| *key), guard);
        for (key, logged) in group {
            if !logged.slot.is_late() || self.has(*key, logged.view, guard) {
                self.publish(*key, logged.view, logged.slot, guard);
            }
        }
    }

    fn has(&self, key: Key, view: Dense, guard: &Guard) -> bool {
        let row = self.region(key).load(key.path(), guard).row(key);
        row.is_some_and(|row| row.slot(view) != Slot::NONE)
    }
}
