//! Where the newest record of each (entity, view) is, in RAM. One writer, readers without locks. Knows hashes and
//! locations only: whoever looks a key up compares the whole entity id with the record it is led to.
//!
//! 256 regions by the top bits of the key's hash, each a small extendible directory of pages. A page that fills up is
//! doubled, then split: growth moves a page at a time, never the whole index. Readers see the old page or the new.

mod page;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::Guard;
use page::Page;

use crate::map::EpochCell;
use crate::record::Location;

/// Place of a key in the index, from the hash of its entity id and its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// Chooses region, page and first entry.
    place: u64,
    /// Compared entry by entry; never 0.
    tag: u64,
}

/// Where the newest record of a key is, and whether it was late. 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub u64);

/// The index of one shard.
#[derive(Debug)]
pub(crate) struct Index {
    regions: Box<[EpochCell<Directory>]>,
    keys: AtomicU64,
    bytes: AtomicU64,
}

/// Pages of a region: `2^depth` places, of which several may hold one page.
#[derive(Debug)]
struct Directory {
    depth: u32,
    pages: Vec<Arc<Page>>,
}

const REGION_BITS: u32 = 8;
const FIRST_PAGE: usize = 8;
const FULL_PAGE: usize = 256;
/// Beyond this, only hashes made on purpose share a page; it grows instead of splitting.
const MAX_DEPTH: u32 = 24;

impl Key {
    #[inline]
    pub fn new(entity_hash: u128, view: u16) -> Key {
        let view = u64::from(view);
        let high = (entity_hash >> 64) as u64 ^ view.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let place = high.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let tag = (entity_hash as u64).wrapping_add(view.wrapping_mul(0xA24B_AED4_963E_E407));
        Key { place: place ^ place >> 32, tag: tag.max(1) }
    }

    /// The directory entry of a directory of this depth.
    #[inline]
    fn page(self, depth: u32) -> usize {
        // Two shifts, since one by 64 is not defined for depth 0.
        ((self.place << REGION_BITS) >> 1 >> (63 - depth)) as usize
    }

    /// For hash tables of the caller's.
    pub fn mixed(self) -> u64 {
        self.place ^ self.tag
    }
}

impl Slot {
    pub const NONE: Slot = Slot(0);

    pub fn new(newest: Location, late: bool) -> Slot {
        Slot(newest.0 | u64::from(late))
    }

    /// Records begin at multiples of 8, so the low bits are free.
    pub fn newest(self) -> Location {
        Location(self.0 & !7)
    }

    pub fn is_late(self) -> bool {
        self.0 & 1 != 0
    }
}

impl Index {
    pub fn new() -> Index {
        let region =
            |_| EpochCell::new(Directory { depth: 0, pages: vec![Arc::new(Page::new(0, FIRST_PAGE))] });
        let regions: Box<[_]> = (0..1 << REGION_BITS).map(region).collect();
        let bytes = regions.len() * (Page::bytes_of(FIRST_PAGE) + size_of::<Directory>());
        Index { regions, keys: AtomicU64::new(0), bytes: AtomicU64::new(bytes as u64) }
    }

    /// Slots that may be the key's: nearly always one or none.
    #[inline]
    pub fn candidates<'g>(&self, key: Key, guard: &'g Guard) -> impl Iterator<Item = Slot> + use<'g> {
        let directory = self.region(key).load(guard);
        directory.pages[key.page(directory.depth)].candidates(key)
    }

    /// Puts a key's new slot in the place of its old one, or adds the key if the old one is none.
    /// Returns whether the old one was there. Only the writer calls it.
    pub fn publish(&self, key: Key, old: Slot, new: Slot, guard: &Guard) -> bool {
        if old != Slot::NONE {
            return self.page(key, guard).exchange(key, old, new);
        }
        while !self.page(key, guard).insert(key, new) {
            self.grow(key, guard);
        }
        self.keys.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Takes a key out if its slot is `old`.
    pub fn remove(&self, key: Key, old: Slot, guard: &Guard) -> bool {
        let found = self.page(key, guard).exchange(key, old, Slot::NONE);
        if found {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    /// Keys in it.
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// RAM it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Every slot, in no order.
    pub fn for_each(&self, guard: &Guard, mut each: impl FnMut(Slot)) {
        for region in &self.regions {
            let pages = &region.load(guard).pages;
            for (at, page) in pages.iter().enumerate() {
                // Places that share a page are neighbours.
                if at == 0 || !Arc::ptr_eq(page, &pages[at - 1]) {
                    page.live().for_each(|(_, slot)| each(slot));
                }
            }
        }
    }

    fn region(&self, key: Key) -> &EpochCell<Directory> {
        &self.regions[(key.place >> (64 - REGION_BITS)) as usize]
    }

    fn page<'g>(&self, key: Key, guard: &'g Guard) -> &'g Page {
        let directory = self.region(key).load(guard);
        &directory.pages[key.page(directory.depth)]
    }

    /// Makes room on a key's page: by leaving out removed keys, by doubling it, or by splitting it in two.
    fn grow(&self, key: Key, guard: &Guard) {
        let region = self.region(key);
        let directory = region.load(guard);
        let at = key.page(directory.depth);
        let page = &directory.pages[at];
        let live = page.live().count();
        let bytes_before = directory.bytes();
        let next = if live * 2 <= page.len() {
            directory.with(at, |_| page.rebuilt(page.depth, page.len(), |_| true))
        } else if page.len() < FULL_PAGE || page.depth == MAX_DEPTH {
            directory.with(at, |_| page.rebuilt(page.depth, page.len() * 2, |_| true))
        } else {
            directory.split(at)
        };
        let grown = next.bytes().wrapping_sub(bytes_before);
        self.bytes.fetch_add(grown as u64, Ordering::Relaxed);
        region.replace(next, guard);
    }
}

impl Directory {
    /// A copy whose page at a place is another, in all the places that share it.
    fn with(&self, at: usize, page: impl Fn(usize) -> Page) -> Directory {
        let (first, count) = self.sharing(at);
        let mut pages = self.pages.clone();
        let new = Arc::new(page(at));
        pages[first..first + count].fill(new);
        Directory { depth: self.depth, pages }
    }

    /// A copy with a page split in two.
    fn split(&self, at: usize) -> Directory {
        let (mut depth, mut pages, mut at) = (self.depth, self.pages.clone(), at);
        if self.pages[at].depth == depth {
            pages = pages.iter().flat_map(|page| [page.clone(), page.clone()]).collect();
            (depth, at) = (depth + 1, at * 2);
        }
        let page = self.pages[at >> (depth - self.depth)].clone();
        let count = 1 << (depth - page.depth);
        let first = at / count * count;
        for (half, places) in pages[first..first + count].chunks_mut(count / 2).enumerate() {
            let belongs = |key: Key| key.page(page.depth + 1) & 1 == half;
            places.fill(Arc::new(page.rebuilt(page.depth + 1, page.len(), belongs)));
        }
        Directory { depth, pages }
    }

    /// The places that share a page.
    fn sharing(&self, at: usize) -> (usize, usize) {
        let count = 1 << (self.depth - self.pages[at].depth);
        (at / count * count, count)
    }

    fn bytes(&self) -> usize {
        let mut bytes = size_of::<Directory>() + self.pages.len() * size_of::<Arc<Page>>();
        let mut at = 0;
        while at < self.pages.len() {
            bytes += Page::bytes_of(self.pages[at].len());
            at += self.sharing(at).1;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn key(n: u64) -> Key {
        Key::new(xxhash_rust::xxh3::xxh3_128(&(n / 3).to_le_bytes()), (n % 3) as u16)
    }

    #[test]
    fn many_steps_agree_with_a_map() {
        let (index, mut map) = (Index::new(), HashMap::new());
        let mut random = 88_172_645_463_325_252_u64;
        for step in 1..300_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let n = random % 60_000;
            let guard = &crossbeam_epoch::pin();
            let old = map.get(&n).copied().unwrap_or(Slot::NONE);
            if random >> 32 & 3 == 0 && old != Slot::NONE {
                assert!(index.remove(key(n), old, guard));
                map.remove(&n);
            } else {
                assert!(index.publish(key(n), old, Slot(step << 3), guard));
                map.insert(n, Slot(step << 3));
            }
        }
        let guard = &crossbeam_epoch::pin();
        for n in 0..60_000 {
            let found: Vec<_> = index.candidates(key(n), guard).collect();
            assert_eq!(found, map.get(&n).copied().into_iter().collect::<Vec<_>>());
        }
        assert_eq!(index.keys(), map.len() as u64);
        let mut count = 0;
        index.for_each(guard, |_| count += 1);
        assert_eq!(count, map.len());
        assert!(index.bytes() / index.keys() < 80, "{} bytes per key", index.bytes() / index.keys());
    }

    #[test]
    fn hashes_that_all_agree_end_in_one_long_page() {
        let index = Index::new();
        let guard = &crossbeam_epoch::pin();
        for n in 1..2000 {
            index.publish(Key { place: 7, tag: n }, Slot::NONE, Slot(n << 3), guard);
        }
        let found: Vec<_> = index.candidates(Key { place: 7, tag: 77 }, guard).collect();
        assert_eq!(found, [Slot(77 << 3)]);
    }
}
