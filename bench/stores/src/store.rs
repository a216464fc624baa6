//! What a store must do to be measured. Every side implements it in the best way the store has.

use std::path::PathBuf;

use crate::data::Point;

/// What a store is for; it may be set up differently for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The latest value of each key.
    Latest,
    /// All versions of each key, to be read as of a time.
    History,
    /// As it was left, to read from the disk.
    Cold,
    /// Values that expire.
    Expiring,
    /// The latest value of each key, and what is replaced is thinned out.
    Thinned,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its directory.
    pub dir: PathBuf,
    /// What it is for.
    pub purpose: Purpose,
    /// Memory it may use for data: what it keeps resident, caches and buffers before it writes. Indexes come on top.
    pub cache_bytes: u64,
    /// Keys it will have, about.
    pub keys: u64,
}

/// What a store holds; 0 where it does not say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// Bytes of RAM of its index and filters.
    pub index: u64,
    /// Keys it has, about.
    pub keys: u64,
}

/// Something a store does beside its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Makes the space of replaced values free, until the store takes no more than these bytes of disk or nothing is left
    /// to do.
    Thin(u64),
    /// Makes the space of expired values free; the argument is now, ms since the epoch.
    Expire(i64),
    /// Writes a consistent copy to this folder's name.
    Checkpoint,
}

/// Reads of a store, from any thread.
pub trait Reads: Clone + Send + 'static {
    /// Bytes of the current payload, all of which are in memory then. `None`: no such key.
    ///
    /// # Errors
    /// If the store fails.
    fn get(&mut self, entity: &[u8], view: u16) -> anyhow::Result<Option<usize>>;

    /// The same of several views of one entity; returns how many there are.
    ///
    /// # Errors
    /// If the store fails.
    fn get_many(&mut self, entity: &[u8], views: &[u16]) -> anyhow::Result<usize>;

    /// Event time of the version current at a time.
    ///
    /// # Errors
    /// If the store fails.
    fn as_of(&mut self, entity: &[u8], view: u16, time_ms: i64) -> anyhow::Result<Option<i64>>;
}

/// A store with its one writer.
pub trait Store: Sized {
    /// Its readers.
    type Reads: Reads;

    /// How often it is to see the warm-up's keys until it has learned what it learns.
    const WARM_UPS: u64 = 1;

    /// What only Forebay does is asked of it too.
    const OURS: bool = false;

    /// It can be told what has expired.
    const EXPIRES: bool = true;

    /// Opens or begins one.
    ///
    /// # Errors
    /// If the store fails.
    fn open(setup: &Setup) -> anyhow::Result<Self>;

    /// Says that data points of these entities are put next: a hint, which a server has from the batch it was given.
    fn expect<'e>(&mut self, _view: u16, _entities: impl Iterator<Item = &'e [u8]> + Clone) {}

    /// Adds a data point to the batch.
    ///
    /// # Errors
    /// If the store fails.
    fn put(&mut self, point: &Point<'_>) -> anyhow::Result<()>;

    /// Makes the batch readable. It is synced within 50 ms.
    ///
    /// # Errors
    /// If the store fails.
    fn commit(&mut self) -> anyhow::Result<()>;

    /// A reader.
    fn reads(&self) -> Self::Reads;

    /// Waits until the store has done what it does in the background.
    ///
    /// # Errors
    /// If the store fails.
    fn settle(&mut self) -> anyhow::Result<()>;

    /// What it takes.
    fn sizes(&self) -> Sizes;

    /// Does background work now, on this thread; says whether it is worth calling again at once. False also where there is
    /// no such thing, or the store does it by itself.
    ///
    /// # Errors
    /// If the store fails.
    fn background(&mut self, what: Background) -> anyhow::Result<bool>;

    /// Ends in order, for stores that open faster then.
    ///
    /// # Errors
    /// If the store fails.
    fn close(self) -> anyhow::Result<()>;
}
