//! The only file with `unsafe`: read-only views of segment files, and cells whose old content is freed once no reader
//! can see it. Both are used by readers without a lock. Knows nothing of formats.
//!
//! A page of a file that cannot be read (an I/O error, a file cut short by somebody) is a SIGBUS to whoever looks at it,
//! which ends a process. Here it is zeros instead, and the map is marked: checksums make an error of the zeros, and the
//! shard of the map stops. The handler of the signal is installed with the first map; a fault outside of all maps goes
//! to the handler that was there before.

use std::fmt;
use std::fs::File;
use std::io;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};

use crossbeam_epoch::{Atomic, Guard, Owned};
use libc::{c_int, c_void, sigaction, siginfo_t};
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use parking_lot::Mutex;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// A file seen as memory, read only. Its bytes change only by the writer's `pwrite`, and only where nobody has been
/// told to look yet: a range is read after the frame that holds it is published, and is never written again.
pub(crate) struct Map {
    view: MmapRaw,
    range: &'static Range,
}

/// Around a page that is touched the kernel maps what it has besides: 64 KiB, since Linux 6.18 all of a large folio, in
/// any case nothing outside of the aligned span of one page table.
pub(crate) const FAULT_AROUND: usize = 2 << 20;

impl Map {
    /// Maps the first `bytes` of a file, which has at least as many.
    pub fn new(file: &File, bytes: u64) -> io::Result<Map> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        install()?;
        let view = MmapOptions::new().len(bytes).map_raw_read_only(file)?;
        let range = Range::register(view.as_ptr() as usize, bytes);
        Ok(Map { view, range })
    }

    /// Whether some page of it could not be read, and is zeros now.
    pub fn is_damaged(&self) -> bool {
        self.range.damaged.load(SeqCst)
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

    /// Drops the pages of a range from this process's memory, and what the kernel mapped around them. They come back
    /// when they are touched.
    pub fn forget(&self, from: u64, to: u64) {
        let base = self.view.as_ptr() as usize;
        let whole = |at: usize| at.clamp(base, base + self.view.len());
        let start = whole((base + from as usize) / FAULT_AROUND * FAULT_AROUND);
        let end = whole((base + to as usize).next_multiple_of(FAULT_AROUND));
        if start < end {
            // SAFETY: the mapping is shared and of a file, so what is dropped is read from the file again: no bytes
            // change under a reference. Zeros in the place of an unreadable page become zeros again.
            let _ = unsafe {
                self.view.unchecked_advise_range(UncheckedAdvice::DontNeed, start - base, end - start)
            };
        }
    }

    /// Reads the pages of a range into memory, so that touching them waits for no disk.
    pub fn populate(&self, from: u64, to: u64) {
        let bytes = to.saturating_sub(from) as usize;
        if self.view.advise_range(Advice::PopulateRead, from as usize, bytes).is_ok() {
            return;
        }
        // A kernel before 5.14, or a page that cannot be read.
        let pages = self.get(from, bytes).unwrap_or_default().chunks(PAGE.load(Relaxed));
        std::hint::black_box(pages.fold(0, |sum: u8, page| sum.wrapping_add(page[0])));
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // Before it is unmapped: the addresses may be another's at once.
        self.range.unregister();
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}

/// Addresses of a map, for the handler of the signal, which may take neither a lock nor memory. `end` is 0 while it is
/// free. It is filled before its map is given out, and freed before that is unmapped: for the map that a fault is in it
/// stands still, while others may change as the handler looks.
#[derive(Debug, Default)]
struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
    damaged: AtomicBool,
}

/// Some ranges, and more of them. Never freed.
struct Ranges {
    some: [Range; 64],
    more: *const Ranges,
}

static RANGES: AtomicPtr<Ranges> = AtomicPtr::new(null_mut());
static FREE: Mutex<Vec<&'static Range>> = Mutex::new(Vec::new());
/// Pages that could not be read, of all maps.
static FAULTS: AtomicU64 = AtomicU64::new(0);
/// Bytes of a page.
static PAGE: AtomicUsize = AtomicUsize::new(4096);
/// What handled the signal before, once ours is there.
static PREVIOUS: OnceLock<sigaction> = OnceLock::new();

/// Pages of maps of this process that could not be read so far. Who finds the same number before and after looking at
/// maps has not seen one of them become zeros meanwhile.
pub(crate) fn faults() -> u64 {
    FAULTS.load(SeqCst)
}

impl Range {
    fn register(start: usize, bytes: usize) -> &'static Range {
        let mut free = FREE.lock();
        if free.is_empty() {
            let more = RANGES.load(Relaxed).cast_const();
            let added = Box::leak(Box::new(Ranges { some: std::array::from_fn(|_| Range::default()), more }));
            RANGES.store(added, Release);
            free.extend(&added.some);
        }
        let range = free.pop().expect("some were added");
        range.damaged.store(false, SeqCst);
        range.start.store(start, Relaxed);
        range.end.store(start + bytes.next_multiple_of(PAGE.load(Relaxed)), Release);
        range
    }

    fn unregister(&'static self) {
        self.end.store(0, Release);
        FREE.lock().push(self);
    }

    /// The range of the map that an address is in.
    fn of(address: usize) -> Option<&'static Range> {
        let mut at = RANGES.load(Acquire).cast_const();
        // SAFETY: null, or a list of which no part is ever freed or changed except by its atomics.
        while let Some(ranges) = unsafe { at.as_ref() } {
            let found = ranges.some.iter().find(|range| range.has(address));
            if found.is_some() {
                return found;
            }
            at = ranges.more;
        }
        None
    }

    fn has(&self, address: usize) -> bool {
        let (start, end) = (self.start.load(Acquire), self.end.load(Acquire));
        // The start of a range that was freed and filled in between would not fit its end.
        (start..end).contains(&address) && self.start.load(Acquire) == start
    }

    /// Puts zeros in the place of the page at an address; `false` if that cannot be done. Marked first, so that whoever
    /// sees the zeros finds the mark.
    fn patch(&self, address: usize) -> bool {
        self.damaged.store(true, SeqCst);
        FAULTS.fetch_add(1, SeqCst);
        let (start, page) = (self.start.load(Relaxed), PAGE.load(Relaxed));
        // The whole map where there are too many holes in it for the kernel.
        zeros(address / page * page, page) || zeros(start, self.end.load(Relaxed) - start)
    }
}

fn zeros(at: usize, bytes: usize) -> bool {
    // SAFETY: the addresses are those of a map that is in use by the thread whose fault this is, so nothing else is
    // there; it is read only, and its bytes may be anything where they cannot be read.
    let mapped =
        unsafe { mmap_anonymous(at as *mut _, bytes, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED) };
    mapped.is_ok()
}

/// Installs the handler, once.
fn install() -> io::Result<()> {
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock();
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    PAGE.store(rustix::param::page_size(), Relaxed);
    // SAFETY: all zeros is a valid `sigaction`. The handler does what a handler may: atomics and system calls. What was
    // there before is known before ours can run.
    unsafe {
        let mut previous: sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, null(), &mut previous) != 0 {
            return Err(io::Error::last_os_error());
        }
        let _ = PREVIOUS.set(previous);
        let mut ours: sigaction = std::mem::zeroed();
        ours.sa_sigaction = on_bus_error as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        match libc::sigaction(libc::SIGBUS, &ours, null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// A page could not be read. If it is one of a map, whoever looked at it sees zeros when this returns.
extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives what SA_SIGINFO promises.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Without a positive code somebody sent the signal, and there is no address.
    if code > 0 && Range::of(address).is_some_and(|range| range.patch(address)) {
        return;
    }
    let previous = PREVIOUS
        .get()
        .filter(|previous| previous.sa_sigaction != libc::SIG_DFL && previous.sa_sigaction != libc::SIG_IGN);
    // SAFETY: a handler that is neither the default nor none is a function of the kind that its flags say. Without one
    // the process ends as if ours were not there.
    unsafe {
        match previous {
            Some(previous) if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    std::mem::transmute(previous.sa_sigaction);
                handler(signal, info, context);
            }
            Some(previous) => {
                let handler: extern "C" fn(c_int) = std::mem::transmute(previous.sa_sigaction);
                handler(signal);
            }
            None => {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
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
