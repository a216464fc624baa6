//! The only file with `unsafe`: read-only views of segment files, cells and tables whose old content is freed once no
//! reader can see it, and prefetches. All are used by readers without a lock. Knows nothing of formats.
//!
//! A page of a file that cannot be read (an I/O error, a file cut short by somebody) is a SIGBUS to whoever looks at it,
//! which ends a process. Here it becomes zeros instead and its map is marked: checksums make an error of the zeros, and
//! the map's shard stops.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
use libc::{c_int, c_void, sigaction, siginfo_t};
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::param::page_size;

use crate::unreadable::Span;

/// A file seen as memory, read only. Its bytes change only by the writer's `pwrite`, and only where nobody has been
/// told to look yet: a range is read after the frame that holds it is published, and is never written again.
pub(crate) struct Map {
    view: MmapRaw,
    span: &'static Span,
}

/// Around a page that is touched the kernel maps what it has besides: 64 KiB, since Linux 6.18 all of a large folio, in
/// any case nothing outside of the aligned span of one page table.
pub(crate) const FAULT_AROUND: usize = 2 << 20;

impl Map {
    /// Maps the first `bytes` of a file, which has at least as many.
    pub fn new(file: &File, bytes: u64) -> io::Result<Map> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        install();
        let view = MmapOptions::new().len(bytes).map_raw_read_only(file)?;
        let start = view.as_ptr() as usize;
        let span = Span::register(start, (start + bytes).next_multiple_of(page_size()));
        Ok(Map { view, span })
    }

    /// Whether some page of it could not be read, and is zeros now.
    pub fn is_damaged(&self) -> bool {
        self.span.is_damaged()
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

    /// Asks for the cache lines of `bytes` bytes from `at`, which need not be inside.
    #[inline]
    pub fn prefetch(&self, at: u64, bytes: usize) {
        let from = self.view.as_ptr().wrapping_add(at as usize);
        (0..bytes).step_by(CACHE_LINE).for_each(|line| prefetch(from.wrapping_add(line)));
    }

    /// Tells the kernel not to read ahead: points are read, not ranges.
    pub fn advise_random(&self) {
        // Advice may be refused; reads are right all the same.
        let _ = self.view.advise(Advice::Random);
    }

    /// Drops the pages of a range from this process's memory, and what the kernel mapped around them. They come back
    /// when they are touched.
    pub fn forget(&self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (base, len) = (self.view.as_ptr() as usize, self.view.len());
        let start = ((base + from as usize) / FAULT_AROUND * FAULT_AROUND).max(base) - base;
        let end = ((base + to as usize).next_multiple_of(FAULT_AROUND) - base).min(len);
        // SAFETY: the mapping is shared and of a file, so what is dropped is read from the file again: no bytes change
        // under a reference. Zeros in the place of an unreadable page become zeros again.
        let _ = unsafe {
            self.view.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end.saturating_sub(start))
        };
    }

    /// Reads the pages of a range into memory, so that touching them waits for no disk.
    pub fn populate(&self, from: u64, to: u64) {
        let bytes = to.saturating_sub(from) as usize;
        if self.view.advise_range(Advice::PopulateRead, from as usize, bytes).is_err() {
            // A kernel before 5.14, or a page that cannot be read.
            let pages = self.get(from, bytes).unwrap_or_default().chunks(page_size());
            std::hint::black_box(pages.fold(0, |sum: u8, page| sum.wrapping_add(page[0])));
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // Before it is unmapped: the addresses may be another's at once.
        self.span.unregister();
    }
}

/// What handled the signal of an unreadable page before ours did.
static PREVIOUS: OnceLock<sigaction> = OnceLock::new();

/// Installs the handler, once.
fn install() {
    PREVIOUS.get_or_init(|| {
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_bus_error;
        // SAFETY: all zeros is a `sigaction`, and the arguments are good. The handler does what one may: atomics and
        // system calls.
        unsafe {
            let (mut ours, mut previous): (sigaction, sigaction) = (std::mem::zeroed(), std::mem::zeroed());
            (ours.sa_sigaction, ours.sa_flags) = (handler as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
            libc::sigaction(libc::SIGBUS, &ours, &mut previous);
            previous
        }
    });
}

/// A page could not be read. If it is one of a map, whoever looked at it sees zeros when this returns; any other is for
/// the handler there was before, and the end of the process if there was none.
extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives what SA_SIGINFO promises.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Without a positive code somebody sent the signal, and there is no address.
    if let Some(span) = Span::of(address).filter(|_| code > 0) {
        span.damage();
        let (start, end) = span.bounds();
        // All of the map where the kernel does not take more holes in it.
        if zeros(address / page_size() * page_size(), page_size()) || zeros(start, end - start) {
            return;
        }
    }
    let previous = PREVIOUS.get().map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    // SAFETY: what is neither of the two numbers is a handler. The kernel calls all kinds of them with three arguments.
    unsafe {
        if matches!(previous, libc::SIG_DFL | libc::SIG_IGN) {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        } else {
            type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
            std::mem::transmute::<usize, Handler>(previous)(signal, info, context);
        }
    }
}

/// Puts zeros in the place of pages of a map; whether that could be done.
fn zeros(at: usize, bytes: usize) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: the addresses are those of a map that the thread whose fault this is has in use, so nothing else is there;
    // it is read only, and its bytes may be anything where they cannot be read.
    unsafe { mmap_anonymous(at as *mut _, bytes, ProtFlags::READ, flags) }.is_ok()
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
        let last = self.0.swap(Shared::null(), Relaxed, &guard);
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

/// Holds `T`s by the first bits of a hash, as many bits as are needed to tell them apart: an extendible directory.
/// Readers look one up without a lock; the writer replaces one at a time, or puts two in the place of one.
pub(crate) struct EpochTable<T> {
    places: Atomic<Places<T>>,
    /// Held while anything changes, so that what is taken out is freed once.
    changing: Mutex<()>,
}

/// `2^depth` places; neighbours may hold the same `T`. All are taken, and all in the table's newest `Places` are alive.
struct Places<T> {
    depth: u32,
    at: Box<[Atomic<T>]>,
}

impl<T> Places<T> {
    #[inline]
    fn place(&self, hash: u64) -> usize {
        // Two shifts, since one by 64 is not defined for depth 0.
        (hash >> 1 >> (63 - self.depth)) as usize
    }

    /// The neighbours that hold what a place holds, itself included.
    fn sharing(&self, place: usize, guard: &Guard) -> Range<usize> {
        let held = self.at[place].load(Relaxed, guard);
        let same = |at: &Atomic<T>| at.load(Relaxed, guard) == held;
        let before = self.at[..place].iter().rev().take_while(|at| same(at)).count();
        let after = self.at[place..].iter().take_while(|at| same(at)).count();
        place - before..place + after
    }
}

impl<T: Send + Sync + 'static> EpochTable<T> {
    /// A table of what is given, in the order of the hashes: each with how many of `2^depth` places it takes.
    pub fn new(depth: u32, content: impl IntoIterator<Item = (usize, T)>) -> Self {
        let guard = crossbeam_epoch::pin();
        let mut at = Vec::with_capacity(1 << depth);
        for (places, value) in content {
            let value = Owned::new(value).into_shared(&guard);
            at.extend((0..places).map(|_| Atomic::from(value)));
        }
        assert_eq!(at.len(), 1 << depth, "every place is taken");
        let places = Atomic::new(Places { depth, at: at.into() });
        EpochTable { places, changing: Mutex::new(()) }
    }

    #[inline]
    fn places<'g>(&self, guard: &'g Guard) -> &'g Places<T> {
        // SAFETY: never null; `double` frees the one before only after every guard that might have loaded it is gone.
        unsafe { self.places.load(Acquire, guard).deref() }
    }

    /// What is held for a hash now; stays valid while the guard is held.
    #[inline]
    pub fn load<'g>(&self, hash: u64, guard: &'g Guard) -> &'g T {
        let places = self.places(guard);
        // SAFETY: never null. `retire` frees a value only after every guard that might have loaded it is gone: it is
        // not in the newest places by then, and who still has older ones has held a guard since before.
        unsafe { places.at[places.place(hash)].load(Acquire, guard).deref() }
    }

    /// Asks for the cache line of a hash's place, or with `held` for the first two of what it holds.
    #[inline]
    pub fn prefetch(&self, hash: u64, held: bool, guard: &Guard) {
        let places = self.places(guard);
        let place = &places.at[places.place(hash)];
        if held {
            let value = place.load(Relaxed, guard).as_raw().cast::<u8>();
            prefetch(value);
            prefetch(value.wrapping_add(CACHE_LINE));
        } else {
            prefetch(place);
        }
    }

    /// RAM it takes, besides itself and what it holds.
    pub fn heap_bytes(&self, guard: &Guard) -> usize {
        size_of::<Places<T>>() + size_of_val(&*self.places(guard).at)
    }

    /// What is held, each with its first hash, in the order of the hashes.
    pub fn for_each<'g>(&self, guard: &'g Guard, mut each: impl FnMut(u64, &'g T)) {
        let (places, mut last) = (self.places(guard), Shared::null());
        for (place, at) in places.at.iter().enumerate() {
            let held = at.load(Acquire, guard);
            if held != last {
                // SAFETY: as in `load`.
                each((place as u64) << 1 << (63 - places.depth), unsafe { held.deref() });
            }
            last = held;
        }
    }

    /// Puts another value in the place of a hash's. Readers see either.
    pub fn replace(&self, hash: u64, value: T, guard: &Guard) {
        let _changing = self.changing.lock();
        let places = self.places(guard);
        let sharing = places.sharing(places.place(hash), guard);
        self.retire(&places.at[sharing], value, guard);
    }

    /// Puts two values in the place of a hash's: the first for those of its hashes that have a 0 where the second
    /// have a 1. Readers see the one or the two.
    pub fn split(&self, hash: u64, halves: [T; 2], guard: &Guard) {
        let _changing = self.changing.lock();
        let mut places = self.places(guard);
        if places.sharing(places.place(hash), guard).len() == 1 {
            places = self.double(places, guard);
        }
        let sharing = places.sharing(places.place(hash), guard);
        let (low, high) = places.at[sharing.clone()].split_at(sharing.len() / 2);
        let [first, second] = halves;
        let second = Owned::new(second).into_shared(guard);
        high.iter().for_each(|at| at.store(second, Release));
        self.retire(low, first, guard);
    }

    /// Gives the places of one value another one and frees it. No other place holds it.
    fn retire(&self, at: &[Atomic<T>], value: T, guard: &Guard) {
        let (old, new) = (at[0].load(Relaxed, guard), Owned::new(value).into_shared(guard));
        at.iter().for_each(|at| at.store(new, Release));
        // SAFETY: `old` came from this table and is in no place any more; changes come one at a time, so nobody else
        // frees it. Older places may still show it to readers whose guards are older than this.
        unsafe { guard.defer_destroy(old) };
    }

    /// Twice as many places, each value in twice as many.
    fn double<'g>(&self, places: &Places<T>, guard: &'g Guard) -> &'g Places<T> {
        let twice = places.at.iter().flat_map(|at| [at, at]).map(|at| Atomic::from(at.load(Relaxed, guard)));
        let next = Owned::new(Places { depth: places.depth + 1, at: twice.collect() }).into_shared(guard);
        let old = self.places.swap(next, AcqRel, guard);
        // SAFETY: `old` is no longer reachable from the table; dropping it drops pointers, not what they lead to.
        unsafe { guard.defer_destroy(old) };
        // SAFETY: just made.
        unsafe { next.deref() }
    }
}

impl<T> Drop for EpochTable<T> {
    fn drop(&mut self) {
        let guard = crossbeam_epoch::pin();
        let places = self.places.swap(Shared::null(), Relaxed, &guard);
        // SAFETY: `&mut self` says that nobody else has the table, so nobody can still load from it; references handed
        // out borrow a guard and the owner of the table, which outlives them.
        let places = unsafe { places.into_owned() };
        let mut last = Shared::null();
        for at in &places.at {
            let held = at.load(Relaxed, &guard);
            if held != last {
                // SAFETY: as above; places that hold the same value are neighbours, so each is freed once.
                drop(unsafe { held.into_owned() });
            }
            last = held;
        }
    }
}

impl<T> fmt::Debug for EpochTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochTable")
    }
}

pub(crate) const CACHE_LINE: usize = 64;

/// Asks for the cache line at an address, which may be any: a prefetch of one that is not there does nothing.
#[inline]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const BYTES: u64 = 64 << 10;

    fn file() -> File {
        let file = tempfile::tempfile().expect("a file");
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; BYTES as usize], 0).expect("written");
        file
    }

    #[test]
    fn what_cannot_be_read_is_zeros_and_marks_its_map_only() {
        let (cut, whole) = (file(), file());
        let maps = [&cut, &whole].map(|file| Map::new(file, BYTES).expect("a map"));
        let before = crate::unreadable::faults();
        assert!(
            maps.iter().all(|map| map.get(0, BYTES as usize).expect("inside").iter().all(|byte| *byte == 7))
        );
        cut.set_len(BYTES / 2).expect("cut short");
        let bytes = maps[0].get(0, BYTES as usize).expect("inside");
        let (there, gone) = bytes.split_at(BYTES as usize / 2);
        assert!(there.iter().all(|byte| *byte == 7) && gone.iter().all(|byte| *byte == 0));
        assert!(maps[0].is_damaged() && !maps[1].is_damaged() && crate::unreadable::faults() > before);
        // It stays so, whatever is done to the pages.
        maps[0].forget(0, BYTES);
        maps[0].populate(0, BYTES);
        assert_eq!((maps[0].get(0, 1), maps[0].get(BYTES - 1, 1)), (Some(&[7][..]), Some(&[0][..])));
        let [cut_map, _whole] = maps;
        drop(cut_map);
        assert!((0..300).all(|_| !Map::new(&whole, BYTES).expect("a map").is_damaged()));
    }

    #[test]
    fn a_fault_outside_of_all_maps_ends_the_process_as_it_would_without_us() {
        let marker = "FOREBAY_TEST_FAULT";
        if std::env::var_os(marker).is_some() {
            let (ours, foreign) = (file(), file());
            let _map = Map::new(&ours, BYTES).expect("a map");
            let view = MmapOptions::new().len(BYTES as usize).map_raw_read_only(&foreign).expect("a map");
            foreign.set_len(0).expect("cut short");
            // SAFETY: inside of the mapping; that it cannot be read is what this is about.
            std::hint::black_box(unsafe { view.as_ptr().read_volatile() });
            return;
        }
        let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
        let name = "map::tests::a_fault_outside_of_all_maps_ends_the_process_as_it_would_without_us";
        let status = child.args(["--exact", name]).env(marker, "1").output().expect("it runs").status;
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    }
}
