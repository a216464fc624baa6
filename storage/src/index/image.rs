//! Pages of the index as they are stored, and an index made of them. The writer goes on while they are taken: each is what
//! some reader might have seen, not all at one moment. Called by index checkpoints; knows nothing of files.

use crossbeam_epoch::Guard;

use super::line::LINE;
use super::page::{Lines, MOST_ENTITIES, Page};
use super::{Index, REGION_BITS, Slot, Views};
use crate::layout::layout;
use crate::map::EpochTable;

layout! {
    /// What stands before a page's fingerprints and lines.
    struct PageHeader: 16 {
        /// First hash of its keys in the region; the pages of a region come in this order, without gaps.
        path: u64,
        region: u8,
        /// Bits that the hashes of its keys share.
        depth: u8,
        /// First lines of entities: so many fingerprints, padded to a multiple of 8, and then so many lines.
        mains: u8,
        /// Further lines, after them.
        mores: u8,
        reserved: [u8; 4],
    }
}

impl Index {
    /// Views by their numbers.
    pub fn view_ids(&self, guard: &Guard) -> Vec<u16> {
        self.views.load(guard).ids.clone()
    }

    /// Gives each page's image to `each`, which gets a cleared buffer's bytes; an error ends it.
    pub fn images<E>(&self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut image = Vec::new();
        for (region, pages) in self.regions.iter().enumerate() {
            let mut next = Some(0);
            while let Some(path) = next {
                image.clear();
                // Pages split and never join, so the next one always begins where this one ends.
                next = append_image(&mut image, region as u8, path, pages, &crossbeam_epoch::pin());
                each(&image)?;
            }
        }
        Ok(())
    }
}

/// Returns where the next page of the region begins.
fn append_image(
    image: &mut Vec<u8>,
    region: u8,
    path: u64,
    pages: &EpochTable<Page>,
    guard: &Guard,
) -> Option<u64> {
    let page = pages.load(path, guard);
    // A copy that nobody changes; its lines are at least as many as the page can come to have.
    let page = page.rebuilt(page.depth, page.lines(), |_| true);
    let Lines { mains, mores } = page.needs();
    let header = PageHeader {
        path,
        region,
        depth: page.depth,
        mains: mains as u8,
        mores: mores as u8,
        reserved: [0; 4],
    };
    image.resize(PageHeader::SIZE, 0);
    header.encode(image);
    page.append_image(image);
    after(path, page.depth)
}

/// The first hash after those that share `depth` bits with one; nothing after the last.
fn after(path: u64, depth: u8) -> Option<u64> {
    (depth > 0).then(|| path.checked_add(1 << (64 - u32::from(depth)))).flatten()
}

/// Deeper pages would need a directory of more places than memory has.
const MOST_DEPTH: u8 = 40;

/// An index that is being made of images.
#[derive(Debug)]
pub(crate) struct Builder {
    regions: Vec<Vec<Page>>,
    /// Region and first hash of the next page.
    at: (u8, Option<u64>),
    keys: u64,
}

impl Builder {
    pub fn new() -> Builder {
        Builder { regions: (0..1 << REGION_BITS).map(|_| Vec::new()).collect(), at: (0, Some(0)), keys: 0 }
    }

    /// Adds the page at the front of `images` and takes it off; nothing if that is not the next page. Slots that are not
    /// alive are left out.
    pub fn add(&mut self, images: &mut &[u8], is_alive: impl Fn(Slot) -> bool) -> Option<()> {
        let (header, rest) = images.split_at_checked(PageHeader::SIZE)?;
        let header = PageHeader::decode(header);
        let lines = Lines { mains: header.mains.into(), mores: header.mores.into() };
        if (header.region, Some(header.path)) != self.at
            || lines.mains > MOST_ENTITIES
            || header.depth > MOST_DEPTH
        {
            return None;
        }
        let bytes = lines.mains.next_multiple_of(8) + (lines.mains + lines.mores) * LINE;
        let (image, rest) = rest.split_at_checked(bytes)?;
        let (page, keys) = Page::of_image(image, header.depth, lines, is_alive)?;
        self.regions.get_mut(usize::from(header.region))?.push(page);
        self.keys += keys;
        self.at = match after(header.path, header.depth) {
            None => (header.region + 1, Some(0)),
            next => (header.region, next),
        };
        *images = rest;
        Some(())
    }

    /// The index with these views by their numbers, if all pages are there.
    pub fn finish(self, view_ids: &[u16]) -> Option<Index> {
        if usize::from(self.at.0) != self.regions.len() {
            return None;
        }
        let mut views = Views::default();
        for id in view_ids {
            views = views.with(*id)?.0;
        }
        let region = |pages: Vec<Page>| {
            let depth = pages.iter().map(|page| page.depth).max().unwrap_or_default();
            let places = |page: &Page| 1 << (depth - page.depth);
            EpochTable::new(depth.into(), pages.into_iter().map(|page| (places(&page), page)))
        };
        let regions = self.regions.into_iter().map(region).collect();
        Some(Index::of(regions, views, self.keys))
    }
}
