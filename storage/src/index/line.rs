//! One cache line of the index: what one entity has of slots, or more of them. Written by the index's writer, read by
//! anyone at any time: every change is one atomic store, after what it makes visible.
//!
//! ```text
//!  Main   tag 8 │ view bytes 6 │ link 1 │ extra 1 │ slots 6 × 8
//!  More         │ view bytes 7           │ link 1 │ slots 7 × 8
//! ```
//! A view byte is 0 for an empty place, else the view's number in the index plus 1. A link leads to the `More` line of
//! the same page with that number less 1; 0 leads nowhere. A slot that was taken out is 0, and keeps its view byte: its
//! place is the view's, so that a reader who found it there never finds another view's slot.

use crate::atomics::{AtomicU64, Ordering::*};

use super::views::Dense;
use super::{Key, Slot};

/// The first line of an entity.
#[derive(Debug, Default)]
#[cfg_attr(not(loom), repr(align(64)))]
pub(super) struct Main {
    pub tag: AtomicU64,
    pub meta: AtomicU64,
    pub slots: [AtomicU64; MAIN_SLOTS],
}

/// A further line of an entity.
#[derive(Debug, Default)]
#[cfg_attr(not(loom), repr(align(64)))]
pub(super) struct More {
    pub meta: AtomicU64,
    pub slots: [AtomicU64; MORE_SLOTS],
}

const MAIN_SLOTS: usize = 6;
const MORE_SLOTS: usize = 7;
/// Bytes of a line.
pub(super) const LINE: usize = 64;
#[cfg(not(loom))]
const _: () = assert!(size_of::<Main>() == LINE && size_of::<More>() == LINE);

const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;

/// The bytes of a word that are equal to one: their highest bits. The lowest of them is right; one above it may be
/// wrong by one.
#[inline]
pub(super) fn equal_bytes(word: u64, byte: u8) -> u64 {
    let differs = word ^ (EVERY_BYTE * u64::from(byte));
    differs.wrapping_sub(EVERY_BYTE) & !differs & (EVERY_BYTE << 7)
}

/// The first place whose view byte is this one, of a line of so many slots.
#[inline]
fn place(meta: u64, slots: usize, view_byte: u8) -> Option<usize> {
    let found = equal_bytes(meta, view_byte) & ((1 << (slots * 8)) - 1);
    (found != 0).then(|| (found.trailing_zeros() / 8) as usize)
}

impl Main {
    #[inline]
    pub fn is(&self, key: Key) -> bool {
        self.tag.load(Relaxed) == key.tag && (self.meta.load(Relaxed) >> 56) as u8 == key.extra
    }

    /// Names the entity; nobody sees the line yet.
    pub fn begin(&self, key: Key) {
        self.tag.store(key.tag, Relaxed);
        self.meta.store(u64::from(key.extra) << 56, Relaxed);
    }

    /// Becomes another line, without its link; nobody sees the line yet.
    pub fn copy(&self, from: &Main) {
        self.tag.store(from.tag.load(Relaxed), Relaxed);
        self.line().take(from.line());
    }

    #[inline]
    pub fn line(&self) -> Line<'_> {
        Line { meta: &self.meta, slots: &self.slots, link_shift: 48 }
    }

    /// All of it, as it is stored.
    pub fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        [&self.tag, &self.meta].into_iter().chain(&self.slots)
    }
}

impl More {
    #[inline]
    pub fn line(&self) -> Line<'_> {
        Line { meta: &self.meta, slots: &self.slots, link_shift: 56 }
    }

    /// All of it, as it is stored.
    pub fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        [&self.meta].into_iter().chain(&self.slots)
    }
}

/// What both kinds of lines have.
#[derive(Clone, Copy)]
pub(super) struct Line<'p> {
    meta: &'p AtomicU64,
    slots: &'p [AtomicU64],
    link_shift: u32,
}

impl<'p> Line<'p> {
    /// The view's slot, if this line has it.
    #[inline]
    pub fn slot(&self, view: Dense) -> Option<&'p AtomicU64> {
        // With acquire: a view byte is stored after its slot, a link after the line it leads to.
        place(self.meta.load(Acquire), self.slots.len(), view.byte()).map(|at| &self.slots[at])
    }

    /// Number of the line after this one.
    #[inline]
    pub fn link(&self) -> Option<usize> {
        usize::from((self.meta.load(Acquire) >> self.link_shift) as u8).checked_sub(1)
    }

    /// Sets the link. Only the writer calls it, when the line it leads to is complete.
    pub fn set_link(&self, more: usize) {
        let meta = self.meta.load(Relaxed) | (more as u64 + 1) << self.link_shift;
        self.meta.store(meta, Release);
    }

    /// Takes views and slots of a line of its kind, not the link; nobody sees the line yet.
    pub fn take(&self, from: Line<'_>) {
        let link = 0xFF << self.link_shift;
        self.meta.store(from.meta.load(Relaxed) & !link, Relaxed);
        self.slots.iter().zip(from.slots).for_each(|(to, from)| to.store(from.load(Relaxed), Relaxed));
    }

    /// Takes out slots that are not alive; returns how many stay, and how many do not. Nobody sees the line yet.
    pub fn retain(&self, is_alive: impl Fn(Slot) -> bool) -> (usize, usize) {
        let (mut alive, mut dead) = (0, 0);
        for slot in self.slots {
            match Slot(slot.load(Relaxed)) {
                Slot::NONE => {}
                found if is_alive(found) => alive += 1,
                _ => {
                    slot.store(Slot::NONE.0, Relaxed);
                    dead += 1;
                }
            }
        }
        (alive, dead)
    }

    /// Whether any view has a slot.
    pub fn is_live(&self) -> bool {
        self.slots.iter().any(|slot| slot.load(Relaxed) != Slot::NONE.0)
    }

    /// Gives a view a place with a slot; `false` if the line is full. Only the writer calls it.
    pub fn add(&self, view: Dense, slot: Slot) -> bool {
        let meta = self.meta.load(Relaxed);
        let Some(at) = place(meta, self.slots.len(), 0) else { return false };
        self.slots[at].store(slot.0, Relaxed);
        self.meta.store(meta | u64::from(view.byte()) << (at * 8), Release);
        true
    }

    /// The views that have a slot.
    pub fn live(self) -> impl Iterator<Item = (Dense, Slot)> + use<'p> {
        let meta = self.meta.load(Acquire);
        self.slots.iter().enumerate().filter_map(move |(at, slot)| {
            let view = Dense::of_byte((meta >> (at * 8)) as u8)?;
            Some((view, Slot(slot.load(Acquire)))).filter(|(_, slot)| *slot != Slot::NONE)
        })
    }
}
