//! Where the newest record of each (entity, view) is, in RAM. One writer, readers without locks. Knows hashes and
//! slots only: whoever looks a key up compares the whole entity id with the record it is led to.
//!
//! An entity has a line of 64 bytes with slots for its first six views, and further lines of seven each: one look for
//! all its views. Lines lie on pages, pages in 16 regions by the first bits of the entity's hash, each an extendible
//! directory. A page that is full is made anew a little larger, and split in two at 64 entities: growth moves a page
//! at a time, never the whole index.
//!
//! An entity is known by 84 bits of its seeded hash (region 4, extra 8, fingerprint 8 less one value, tag 64). Among a
//! billion entities of one shard the odds that any two share them are 1 in 40 million. If two do, reads of the one
//! whose record is not the newest find nothing, and puts to a `Full` view are refused.

mod image;
mod line;
mod page;
mod replay;
mod views;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_epoch::Guard;
pub(crate) use image::Builder;
use page::{Lines, MOST_ENTITIES, MOST_MORES, Page, Row};
pub(crate) use replay::Logged;
pub(crate) use views::Dense;
use views::Views;

use crate::map::{EpochCell, EpochTable};

/// An entity's place in the index, from its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    region: u8,
    extra: u8,
    /// Never 0.
    fingerprint: u8,
    tag: u64,
}

/// Where the newest record of a key is, whether it was late, and about when it was. 0: none.
///
/// | Bit | Bits | |
/// |---|---|---|
/// | 63 | 1 | late |
/// | 48 | 15 | coarse event time, see [`Coarse`] |
/// | 28 | 20 | segment number modulo 2^20 |
/// | 0 | 28 | byte in the segment, divided by 8 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub u64);

/// An event time in ticks of about 33 s around its segment's base time. The lowest and the highest also stand for all
/// that is below or above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coarse(u16);

/// The index of one shard.
#[derive(Debug)]
pub(crate) struct Index {
    regions: Box<[EpochTable<Page>]>,
    views: EpochCell<Views>,
    keys: AtomicU64,
    bytes: AtomicU64,
    /// While a shard is opened: pages get room for all the entities they may have, and are trimmed at the end.
    filling: AtomicBool,
}

const REGION_BITS: u32 = if cfg!(loom) { 1 } else { 4 };
impl Key {
    #[inline]
    pub fn new(entity_hash: u128) -> Key {
        let high = (entity_hash >> 64) as u64;
        Key {
            region: (high >> (64 - REGION_BITS)) as u8,
            extra: (high >> 48) as u8,
            fingerprint: (high as u8).max(1),
            tag: entity_hash as u64,
        }
    }

    /// Bits that choose the page in its region, from the highest on.
    #[inline]
    fn path(self) -> u64 {
        u64::from(self.extra) << 56 | self.tag >> 8
    }

    /// For hash tables of the caller's.
    pub fn mixed(self, view: u16) -> u64 {
        self.tag ^ u64::from(view).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Slot {
    pub const NONE: Slot = Slot(0);
    const PLACE_BITS: u32 = 28;
    /// Segment numbers count to this and begin again.
    pub const SEGMENTS: u32 = 1 << 20;

    #[inline]
    pub fn new(segment: u32, byte: u64, coarse: Coarse, late: bool) -> Slot {
        let segment = u64::from(segment % Self::SEGMENTS) << Self::PLACE_BITS;
        Slot(u64::from(late) << 63 | u64::from(coarse.0) << 48 | segment | (byte / 8))
    }

    #[inline]
    pub fn is_late(self) -> bool {
        self.0 >> 63 != 0
    }

    #[inline]
    pub fn coarse(self) -> Coarse {
        Coarse((self.0 >> 48) as u16 & Coarse::LAST.0)
    }

    /// Segment number modulo 2^20.
    #[inline]
    pub fn segment(self) -> u32 {
        (self.0 >> Self::PLACE_BITS) as u32 % Self::SEGMENTS
    }

    #[inline]
    pub fn byte(self) -> u64 {
        (self.0 & ((1 << Self::PLACE_BITS) - 1)) * 8
    }
}

impl Coarse {
    const LAST: Coarse = Coarse((1 << 15) - 1);
    const TICK_BITS: u32 = 15;

    /// Of an event time, ms, in a segment with this base time, ms.
    #[inline]
    pub fn new(event_time_ms: i64, base_ms: i64) -> Coarse {
        let ticks = event_time_ms.saturating_sub(base_ms) >> Self::TICK_BITS;
        Coarse(ticks.saturating_add(1 << 14).clamp(0, i64::from(Self::LAST.0)) as u16)
    }

    /// Whether a record of this time is certainly older than one of another, by the same base.
    #[inline]
    pub fn is_surely_before(self, other: Coarse) -> bool {
        self.0 > 0 && self < other
    }
}

impl Index {
    pub fn new() -> Index {
        let region = |_| EpochTable::new(0, [(1, Page::new(0, Lines::default()))]);
        Index::of((0..1 << REGION_BITS).map(region).collect(), Views::default(), 0)
    }

    fn of(regions: Box<[EpochTable<Page>]>, views: Views, keys: u64) -> Index {
        let guard = &crossbeam_epoch::pin();
        let mut bytes = size_of::<Index>() + size_of::<Views>() + views.heap_bytes();
        for region in &regions {
            bytes += size_of_val(region) + region.heap_bytes(guard);
            region.for_each(guard, |_, page| bytes += Page::bytes_of(page.lines()));
        }
        let (views, filling) = (EpochCell::new(views), AtomicBool::new(true));
        let (keys, bytes) = (AtomicU64::new(keys), AtomicU64::new(bytes as u64));
        Index { regions, views, keys, bytes, filling }
    }

    /// Gives back the room that pages were made with while the index was filled; from now on they grow in small steps.
    pub fn trim(&self) {
        self.filling.store(false, Ordering::Relaxed);
        let mut guard = crossbeam_epoch::pin();
        for region in &self.regions {
            let mut hashes = Vec::new();
            region.for_each(&guard, |hash, page| {
                if page.lines() != page.needs().allocated() {
                    hashes.push(hash);
                }
            });
            for hash in hashes {
                self.remake(region, hash, Lines::default(), &guard);
                guard.repin();
            }
        }
    }

    /// The number of a view that has records.
    #[inline]
    pub fn view(&self, id: u16, guard: &Guard) -> Option<Dense> {
        self.views.load(guard).get(id)
    }

    /// The number of a view, which it is given if it has none; nothing if there are too many views. Only the writer
    /// calls it.
    pub fn add_view(&self, id: u16, guard: &Guard) -> Option<Dense> {
        let views = self.views.load(guard);
        if let Some(view) = views.get(id) {
            return Some(view);
        }
        let (more, view) = views.with(id)?;
        self.count_bytes(more.heap_bytes(), views.heap_bytes());
        self.views.replace(more, guard);
        Some(view)
    }

    /// What an entity has.
    #[inline]
    pub fn entity<'g>(&'g self, key: Key, guard: &'g Guard) -> Option<Entity<'g>> {
        let row = self.region(key).load(key.path(), guard).row(key)?;
        Some(Entity { row, views: self.views.load(guard) })
    }

    /// What an entity has of one view.
    #[inline]
    pub fn slot(&self, key: Key, view: u16, guard: &Guard) -> Slot {
        self.entity(key, guard).map_or(Slot::NONE, |found| found.slot(view))
    }

    /// Gives a key another slot and returns the one it had. Only the writer calls it.
    pub fn publish(&self, key: Key, view: Dense, slot: Slot, guard: &Guard) -> Slot {
        loop {
            match self.region(key).load(key.path(), guard).put(key, view, slot) {
                Ok(old) => {
                    if old == Slot::NONE {
                        self.keys.fetch_add(1, Ordering::Relaxed);
                    }
                    return old;
                }
                Err(short) => self.grow(key, short, guard),
            }
        }
    }

    /// Takes a key out if its slot is `old`. Only the writer calls it.
    pub fn remove(&self, key: Key, view: Dense, old: Slot, guard: &Guard) -> bool {
        let row = self.region(key).load(key.path(), guard).row(key);
        let found = old != Slot::NONE && row.is_some_and(|row| row.remove(view, old));
        if found {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    /// Keys in it.
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// RAM it takes: exactly what is allocated, all in sizes that jemalloc does not round up.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Every slot, in no order.
    pub fn for_each(&self, guard: &Guard, mut each: impl FnMut(Slot)) {
        for region in &self.regions {
            region.for_each(guard, |_, page| {
                page.rows().flat_map(|row| row.live()).for_each(|(_, slot)| each(slot));
            });
        }
    }

    #[inline]
    fn region(&self, key: Key) -> &EpochTable<Page> {
        &self.regions[usize::from(key.region)]
    }

    fn count_bytes(&self, more: usize, less: usize) {
        self.bytes.fetch_add((more as u64).wrapping_sub(less as u64), Ordering::Relaxed);
    }

    /// Makes room on a key's page for a line more of what it is short of.
    fn grow(&self, key: Key, short: Lines, guard: &Guard) {
        self.remake(self.region(key), key.path(), short, guard);
    }

    /// Puts in the place of a page one with lines as it needs them and `more`, and without those of removed keys; or
    /// two, if that is more than a page may have.
    fn remake(&self, region: &EpochTable<Page>, path: u64, more: Lines, guard: &Guard) {
        let page = region.load(path, guard);
        let needs = page.needs();
        let wanted = Lines { mains: needs.mains + more.mains, mores: needs.mores + more.mores };
        let places = region.heap_bytes(guard);
        let mut made_bytes = 0;
        let mut made = |depth, needs, belongs: &dyn Fn(Key) -> bool| {
            let page = page.rebuilt(depth, self.allocated(needs), belongs);
            made_bytes += Page::bytes_of(page.lines());
            page
        };
        if wanted.mains <= MOST_ENTITIES && wanted.mores <= MOST_MORES {
            region.replace(path, made(page.depth, wanted, &|_| true), guard);
        } else {
            let mut half = |bit: u64| {
                let belongs = |key: Key| key.path() >> (63 - u32::from(page.depth)) & 1 == bit;
                made(page.depth + 1, page.needs_of(belongs), &belongs)
            };
            region.split(path, [half(0), half(1)], guard);
        }
        self.count_bytes(made_bytes + region.heap_bytes(guard), Page::bytes_of(page.lines()) + places);
    }

    /// The lines to allocate for a need.
    fn allocated(&self, needs: Lines) -> Lines {
        if self.filling.load(Ordering::Relaxed) && needs.mains > MOST_ENTITIES / 4 {
            let mores = (needs.mores * MOST_ENTITIES).div_ceil(needs.mains).min(MOST_MORES);
            return Lines { mains: MOST_ENTITIES, mores }.allocated();
        }
        needs.allocated()
    }
}

/// What the index has of one entity.
#[derive(Clone, Copy)]
pub(crate) struct Entity<'g> {
    row: Row<'g>,
    views: &'g Views,
}

impl Entity<'_> {
    /// The slot of a view.
    #[inline]
    pub fn slot(&self, view: u16) -> Slot {
        self.views.get(view).map_or(Slot::NONE, |view| self.row.slot(view))
    }
}

#[cfg(all(test, loom))]
mod races;
#[cfg(all(test, not(loom)))]
mod tests;
