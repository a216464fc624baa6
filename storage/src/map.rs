//! The only file with `unsafe`: read-only views of segment files, and cells whose old content is freed once no reader
//! can see it. Both are used by readers without a lock. Knows nothing of formats.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crossbeam_epoch::{Atomic, Guard, Owned};
use memmap2::{Advice, MmapOptions, MmapRaw};

/// A file seen as memory, read only. Its bytes change only by the writer's `pwrite`, and only where nobody has been
/// told to look yet: a range is read after the frame that holds it is published, and is never written again.
pub(crate) struct Map {
    view: MmapRaw,
}

impl Map {
    /// Maps the first `bytes` of a file, which has at least as many.
    pub fn new(file: &File, bytes: u64) -> io::Result<Map> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let view = MmapOptions::new().len(bytes).map_raw_read_only(file)?;
        Ok(Map { view })
    }

    /// Bytes mapped.
    pub fn len(&self) -> u64 {
        self.view.len() as u64
    }

    /// `bytes` bytes from `at`, or nothing if they are not all inside.
    #[inline]
    pub fn get(&self, at: u64, bytes: usize) -> Option<&[u8]> {
        let end = at.checked_add(bytes as u64)?;
        if end > self.len() {
            return None;
        }
        // SAFETY: the range was checked against the mapping, which lives as long as `self`. Published bytes are never
        // written again (see the type). Bytes not yet published may change while recovery or inspection of a live
        // shard looks at them; every use of such bytes is checked by a checksum first.
        Some(unsafe { std::slice::from_raw_parts(self.view.as_ptr().add(at as usize), bytes) })
    }

    /// Tells the kernel not to read ahead: points are read, not ranges.
    pub fn advise_random(&self) {
        // Advice may be refused; reads are right all the same.
        let _ = self.view.advise(Advice::Random);
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}

/// Holds one `T` that readers see without a lock and the writer replaces as a whole.
pub(crate) struct EpochCell<T>(Atomic<T>);

impl<T: Send + Sync + 'static> EpochCell<T> {
    pub fn new(value: T) -> Self {
        EpochCell(Atomic::new(value))
    }

    /// What the cell holds now; stays valid while the guard is held.
    #[inline]
    pub fn load<'g>(&self, guard: &'g Guard) -> &'g T {
        // SAFETY: the cell is never null, and `replace` frees what it held only after every guard that might have
        // loaded it is gone.
        unsafe { self.0.load(Acquire, guard).deref() }
    }

    /// Puts another value there. Readers see either.
    pub fn replace(&self, value: T, guard: &Guard) {
        let old = self.0.swap(Owned::new(value), AcqRel, guard);
        // SAFETY: `old` came from this cell, is no longer reachable from it, and nobody else frees it.
        unsafe { guard.defer_destroy(old) };
    }
}

impl<T> Drop for EpochCell<T> {
    fn drop(&mut self) {
        let guard = crossbeam_epoch::pin();
        let last = self.0.swap(crossbeam_epoch::Shared::null(), Relaxed, &guard);
        if !last.is_null() {
            // SAFETY: `&mut self` says that nobody else has the cell, so nobody can still load from it; references
            // handed out borrow a guard and the owner of the cell, which outlives them.
            drop(unsafe { last.into_owned() });
        }
    }
}

impl<T> fmt::Debug for EpochCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochCell")
    }
}
