//! A page of the index: entries of a tag and a slot, found by probing from the key's place. An entry's tag is written
//! once; its slot changes by single stores, so a reader never sees half of anything.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Key, Slot};

/// Some keys of the index.
#[derive(Debug)]
pub(super) struct Page {
    /// Hash bits all its keys share, besides those of the region.
    pub depth: u32,
    entries: Box<[Entry]>,
    /// Entries that have a tag, removed keys included.
    used: AtomicU32,
}

/// Place and tag name the key; a removed key has no slot.
#[derive(Debug, Default)]
struct Entry {
    place: AtomicU64,
    tag: AtomicU64,
    slot: AtomicU64,
}

impl Page {
    /// An empty page of `len` entries, a power of two.
    pub fn new(depth: u32, len: usize) -> Page {
        Page { depth, entries: (0..len).map(|_| Entry::default()).collect(), used: AtomicU32::new(0) }
    }

    pub fn bytes_of(len: usize) -> usize {
        size_of::<Page>() + len * size_of::<Entry>()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries from a key's place on, as far as there may be one of its.
    #[inline]
    fn probe(&self, key: Key) -> impl Iterator<Item = &Entry> {
        let mask = self.entries.len() - 1;
        let entries =
            (0..self.entries.len()).map(move |step| &self.entries[(key.place as usize + step) & mask]);
        entries.take_while(|entry| entry.tag.load(Ordering::Acquire) != 0)
    }

    #[inline]
    fn of<'p>(&'p self, key: Key) -> impl Iterator<Item = &'p Entry> + use<'p> {
        self.probe(key).filter(move |entry| {
            entry.tag.load(Ordering::Relaxed) == key.tag && entry.place.load(Ordering::Relaxed) == key.place
        })
    }

    /// Slots that may be the key's.
    #[inline]
    pub fn candidates<'p>(&'p self, key: Key) -> impl Iterator<Item = Slot> + use<'p> {
        let slots = self.of(key).map(|entry| Slot(entry.slot.load(Ordering::Acquire)));
        slots.filter(|slot| *slot != Slot::NONE)
    }

    /// Changes a key's slot from `old` to `new`; whether it was `old`.
    pub fn exchange(&self, key: Key, old: Slot, new: Slot) -> bool {
        let found = self.of(key).find(|entry| entry.slot.load(Ordering::Relaxed) == old.0);
        if let Some(entry) = found {
            entry.slot.store(new.0, Ordering::Release);
        }
        found.is_some()
    }

    /// Adds a key; `false` if the page is too full. Only the writer calls it, so nothing changes between its steps.
    pub fn insert(&self, key: Key, slot: Slot) -> bool {
        if self.exchange(key, Slot::NONE, slot) {
            return true;
        }
        let used = self.used.load(Ordering::Relaxed) as usize;
        if used >= self.len() - self.len() / 8 {
            return false;
        }
        self.put(key, slot, used);
        true
    }

    fn put(&self, key: Key, slot: Slot, used: usize) {
        let mask = self.len() - 1;
        let mut at = key.place as usize & mask;
        while self.entries[at].tag.load(Ordering::Relaxed) != 0 {
            at = (at + 1) & mask;
        }
        let entry = &self.entries[at];
        entry.place.store(key.place, Ordering::Relaxed);
        entry.slot.store(slot.0, Ordering::Relaxed);
        // The tag comes last: who sees it sees the rest.
        entry.tag.store(key.tag, Ordering::Release);
        self.used.store(used as u32 + 1, Ordering::Relaxed);
    }

    /// Keys that have a slot.
    pub fn live(&self) -> impl Iterator<Item = (Key, Slot)> {
        self.entries.iter().filter_map(|entry| {
            let (tag, slot) = (entry.tag.load(Ordering::Acquire), entry.slot.load(Ordering::Acquire));
            let key = Key { place: entry.place.load(Ordering::Relaxed), tag };
            (tag != 0 && slot != 0).then_some((key, Slot(slot)))
        })
    }

    /// A page with those of its keys that belong on it.
    pub fn rebuilt(&self, depth: u32, len: usize, belongs: impl Fn(Key) -> bool) -> Page {
        let page = Page::new(depth, len);
        for (used, (key, slot)) in self.live().filter(|(key, _)| belongs(*key)).enumerate() {
            page.put(key, slot, used);
        }
        page
    }
}
