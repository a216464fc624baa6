//! A page of the index: the lines of up to 64 entities, and an array of their fingerprints that is compared as a whole.
//! Any line may be any entity's, so a page can be filled to the last one. It never grows: the index puts a larger one
//! in its place, or two.
//!
//! What readers may see while the writer changes a page: a slot, then the view byte that leads to it; a `More` line,
//! then the link to it; a `Main` line, then its fingerprint. A line whose entity has no slots any more stays where it
//! is, since a reader may have just found it; it is left out when the page is made anew.

use super::line::{LINE, Line, Main, More, equal_bytes};
use super::views::Dense;
use super::{Key, Slot};
use crate::atomics::{AtomicU8, AtomicU64, Ordering::*};
use crate::map::prefetch;

/// Some entities of the index. With its two boxes it takes two cache lines, of which the first is the fingerprints'.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(align(128)))]
pub(super) struct Page {
    /// By line; 0: free. Nothing but whole words is ever loaded of them.
    fingerprints: [AtomicU64; MOST_ENTITIES.div_ceil(8)],
    mains: Box<[Main]>,
    mores: Box<[More]>,
    mains_used: AtomicU8,
    mores_used: AtomicU8,
    /// Not 0 once a slot was taken out: some entities may have none.
    thinned: AtomicU8,
    /// Hash bits all its keys share, besides those of the region.
    pub depth: u8,
}

/// Lines a page has, or needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lines {
    pub mains: usize,
    pub mores: usize,
}

/// Fingerprints have room for so many.
pub(super) const MOST_ENTITIES: usize = if cfg!(loom) { 2 } else { 64 };
/// Links are bytes.
pub(super) const MOST_MORES: usize = 255;
/// Lines a page may have of a kind. With 64 bytes each these are sizes that jemalloc has, so nothing is lost to rounding.
const SIZES: [usize; 28] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192,
    224,
];
const PAGE: usize = 128;
#[cfg(not(loom))]
const _: () = assert!(size_of::<Page>() == PAGE);

/// The lines of one entity.
#[derive(Clone, Copy)]
pub(super) struct Row<'p> {
    page: &'p Page,
    main: usize,
}

impl Lines {
    /// The lines to allocate for a need.
    pub fn allocated(self) -> Lines {
        let size = |lines| SIZES.into_iter().find(|size| *size >= lines).unwrap_or(MOST_MORES);
        Lines { mains: size(self.mains), mores: size(self.mores) }
    }
}

impl Page {
    pub fn new(depth: u8, lines: Lines) -> Page {
        Page {
            fingerprints: Default::default(),
            mains: (0..lines.mains).map(|_| Main::default()).collect(),
            mores: (0..lines.mores).map(|_| More::default()).collect(),
            mains_used: AtomicU8::new(0),
            mores_used: AtomicU8::new(0),
            thinned: AtomicU8::new(0),
            depth,
        }
    }

    /// RAM a page of so many lines takes.
    pub fn bytes_of(lines: Lines) -> usize {
        PAGE + (lines.mains + lines.mores) * LINE
    }

    pub fn lines(&self) -> Lines {
        Lines { mains: self.mains.len(), mores: self.mores.len() }
    }

    /// The lines that may be an entity's: a bit each.
    #[inline]
    fn candidates(&self, fingerprint: u8) -> u64 {
        let mut lines = 0;
        for (at, word) in self.fingerprints.iter().enumerate() {
            let equal = equal_bytes(word.load(Acquire), fingerprint);
            // Collects the highest bits of eight bytes in one byte.
            lines |= ((equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (at * 8);
        }
        lines
    }

    /// The lines of an entity.
    #[inline]
    pub fn row(&self, key: Key) -> Option<Row<'_>> {
        let mut candidates = self.candidates(key.fingerprint);
        while candidates != 0 {
            let main = candidates.trailing_zeros() as usize;
            if self.mains.get(main).is_some_and(|main| main.is(key)) {
                return Some(Row { page: self, main });
            }
            candidates &= candidates - 1;
        }
        None
    }

    /// Asks for the line of an entity, without looking at it.
    #[inline]
    pub fn prefetch(&self, key: Key) {
        let candidates = self.candidates(key.fingerprint);
        if let Some(main) = self.mains.get(candidates.trailing_zeros() as usize) {
            prefetch(main);
        }
    }

    /// Asks for the second line of an entity, with a look at the first.
    #[inline]
    pub fn prefetch_more(&self, key: Key) {
        let link = self.row(key).and_then(|row| self.mains[row.main].line().link());
        if let Some(more) = link.and_then(|more| self.mores.get(more)) {
            prefetch(more);
        }
    }

    /// Gives a view of an entity a slot and returns the one it had, or what the page has too few of for it. Only the
    /// writer calls it, so nothing changes between its steps.
    pub fn put(&self, key: Key, view: Dense, slot: Slot) -> Result<Slot, Lines> {
        if let Some(row) = self.row(key) {
            return row.put(view, slot);
        }
        self.begin(key, view, slot)
    }

    /// Adds an entity that is not there.
    fn begin(&self, key: Key, view: Dense, slot: Slot) -> Result<Slot, Lines> {
        let at = usize::from(self.mains_used.load(Relaxed));
        let Some(main) = self.mains.get(at) else { return Err(Lines { mains: 1, mores: 0 }) };
        main.begin(key);
        main.line().add(view, slot);
        self.show(at, key.fingerprint);
        Ok(Slot::NONE)
    }

    /// Lets readers find a line.
    fn show(&self, at: usize, fingerprint: u8) {
        let word = &self.fingerprints[at / 8];
        let fingerprints = word.load(Relaxed) | u64::from(fingerprint) << (at % 8 * 8);
        word.store(fingerprints, Release);
        self.mains_used.store(at as u8 + 1, Relaxed);
    }

    /// Every entity that was given a line.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let words = self.fingerprints.iter().map(|word| word.load(Acquire));
        let lines = words.enumerate().flat_map(|(at, word)| {
            (0..8).filter(move |byte| (word >> (byte * 8)) as u8 != 0).map(move |byte| at * 8 + byte)
        });
        lines.map(|main| Row { page: self, main })
    }

    /// Lines its entities need on another page.
    pub fn needs(&self) -> Lines {
        if self.thinned.load(Relaxed) == 0 {
            let (mains, mores) = (self.mains_used.load(Relaxed), self.mores_used.load(Relaxed));
            return Lines { mains: mains.into(), mores: mores.into() };
        }
        self.needs_of(|_| true)
    }

    /// Lines that some of its entities need on another page.
    pub fn needs_of(&self, belongs: impl Fn(Key) -> bool) -> Lines {
        let mut needs = Lines::default();
        for row in self.live_rows().filter(|row| belongs(row.key())) {
            needs.mains += 1;
            needs.mores += row.lines().count() - 1;
        }
        needs
    }

    /// Its entities that have a slot.
    fn live_rows(&self) -> impl Iterator<Item = Row<'_>> {
        let all = self.thinned.load(Relaxed) == 0;
        self.rows().filter(move |row| all || row.is_live())
    }

    /// A page with those of its entities that belong on it, which must have room there.
    pub fn rebuilt(&self, depth: u8, lines: Lines, belongs: impl Fn(Key) -> bool) -> Page {
        let page = Page::new(depth, lines);
        self.live_rows().filter(|row| belongs(row.key())).for_each(|row| page.copy(row));
        page
    }

    /// Appends fingerprints and used lines, as they are stored. Nobody changes the page.
    pub fn append_image(&self, image: &mut Vec<u8>) {
        let Lines { mains, mores } = self.needs();
        let fingerprints = self.fingerprints[..mains.div_ceil(8)].iter();
        let mains = self.mains[..mains].iter().flat_map(Main::words);
        let mores = self.mores[..mores].iter().flat_map(More::words);
        for word in fingerprints.chain(mains).chain(mores) {
            image.extend_from_slice(&word.load(Relaxed).to_le_bytes());
        }
    }

    /// A page of what was stored, which has the bytes for so many lines, and its number of slots. Slots that are not alive
    /// are left out. Nothing if the lines are not linked as those of a page are.
    pub fn of_image(
        image: &[u8],
        depth: u8,
        lines: Lines,
        is_alive: impl Fn(Slot) -> bool,
    ) -> Option<(Page, u64)> {
        let mut page = Page::new(depth, lines.allocated());
        (page.mains_used, page.mores_used) =
            (AtomicU8::new(lines.mains as u8), AtomicU8::new(lines.mores as u8));
        let (mains, mores) = (&page.mains[..lines.mains], &page.mores[..lines.mores]);
        let fingerprints = page.fingerprints[..lines.mains.div_ceil(8)].iter();
        let words =
            fingerprints.chain(mains.iter().flat_map(Main::words)).chain(mores.iter().flat_map(More::words));
        for (word, bytes) in words.zip(image.chunks_exact(8)) {
            word.store(u64::from_le_bytes(bytes.try_into().expect("eight bytes")), Relaxed);
        }
        let (mut alive, mut dead) = (0, 0);
        let numbered = mores.iter().enumerate().map(|(at, more)| (at + 1, more.line()));
        for (next, line) in mains.iter().map(|main| (0, main.line())).chain(numbered) {
            // Links lead onwards, so that they end.
            if line.link().is_some_and(|link| link < next || link >= lines.mores) {
                return None;
            }
            let (alive_here, dead_here) = line.retain(&is_alive);
            (alive, dead) = (alive + alive_here as u64, dead + dead_here);
        }
        page.thinned.store(u8::from(dead > 0), Relaxed);
        Some((page, alive))
    }

    /// Adds an entity of another page; nobody sees this one yet.
    fn copy(&self, row: Row<'_>) {
        let at = usize::from(self.mains_used.load(Relaxed));
        let main = &self.mains[at];
        main.copy(&row.page.mains[row.main]);
        let mut last = main.line();
        for from in row.lines().skip(1) {
            let at = self.mores_used.load(Relaxed);
            let more = self.mores[usize::from(at)].line();
            more.take(from);
            self.mores_used.store(at + 1, Relaxed);
            last.set_link(usize::from(at));
            last = more;
        }
        self.show(at, row.key().fingerprint);
    }
}

impl<'p> Row<'p> {
    pub fn key(&self) -> Key {
        let main = &self.page.mains[self.main];
        let fingerprint = (self.page.fingerprints[self.main / 8].load(Relaxed) >> (self.main % 8 * 8)) as u8;
        let extra = (main.meta.load(Relaxed) >> 56) as u8;
        Key { region: 0, extra, fingerprint, tag: main.tag.load(Relaxed) }
    }

    #[inline]
    fn lines(&self) -> impl Iterator<Item = Line<'p>> + use<'p> {
        let page = self.page;
        let next = move |line: &Line<'p>| line.link().and_then(|more| page.mores.get(more)).map(More::line);
        std::iter::successors(Some(page.mains[self.main].line()), next)
    }

    /// The view's slot.
    #[inline]
    pub fn slot(&self, view: Dense) -> Slot {
        let slot = self.lines().find_map(|line| line.slot(view));
        slot.map_or(Slot::NONE, |slot| Slot(slot.load(Acquire)))
    }

    /// Views with their slots.
    pub fn live(&self) -> impl Iterator<Item = (Dense, Slot)> + use<'p> {
        self.lines().flat_map(Line::live)
    }

    fn is_live(&self) -> bool {
        self.lines().any(|line| line.is_live())
    }

    /// Changes the view's slot from `old` to none; whether it was `old`. Only the writer calls it.
    pub fn remove(&self, view: Dense, old: Slot) -> bool {
        let slot = self.lines().find_map(|line| line.slot(view));
        let slot = slot.filter(|slot| slot.load(Relaxed) == old.0);
        if let Some(slot) = slot {
            slot.store(Slot::NONE.0, Release);
            self.page.thinned.store(1, Relaxed);
        }
        slot.is_some()
    }

    fn put(&self, view: Dense, new: Slot) -> Result<Slot, Lines> {
        let mut last = None;
        for line in self.lines() {
            if let Some(slot) = line.slot(view) {
                let old = Slot(slot.load(Relaxed));
                slot.store(new.0, Release);
                return Ok(old);
            }
            last = Some(line);
        }
        let last = last.expect("a row has a line");
        if !last.add(view, new) {
            self.extend(last, view, new)?;
        }
        Ok(Slot::NONE)
    }

    /// Continues a full row on a further line.
    fn extend(&self, last: Line<'p>, view: Dense, slot: Slot) -> Result<(), Lines> {
        let at = self.page.mores_used.load(Relaxed);
        let Some(more) = self.page.mores.get(usize::from(at)) else {
            return Err(Lines { mains: 0, mores: 1 });
        };
        more.line().add(view, slot);
        self.page.mores_used.store(at + 1, Relaxed);
        last.set_link(usize::from(at));
        Ok(())
    }
}
