//! Which addresses are those of maps, and which maps had a page that could not be read. Kept by `map` for the handler of
//! the signal that such a page is, which may take neither a lock nor memory. Knows nothing of files.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use parking_lot::Mutex;

/// Addresses of a map. `end` is 0 while it is free. It is filled before its map is given out, and freed before that is
/// unmapped: for the map that a fault is in it stands still, while others may change as the handler looks.
#[derive(Debug, Default)]
pub(crate) struct Span {
    start: AtomicUsize,
    end: AtomicUsize,
    damaged: AtomicBool,
}

/// Some spans, and more of them. Never freed.
struct Spans {
    some: [Span; 128],
    more: OnceLock<Box<Spans>>,
}

static SPANS: OnceLock<Box<Spans>> = OnceLock::new();
static FREE: Mutex<Vec<&'static Span>> = Mutex::new(Vec::new());
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// Pages of maps of this process that could not be read so far. Who finds the same number before and after looking at
/// maps has not seen one of them become zeros meanwhile.
#[inline]
pub(crate) fn faults() -> u64 {
    FAULTS.load(SeqCst)
}

impl Span {
    /// Of a map from `start` to before `end`.
    pub fn register(start: usize, end: usize) -> &'static Span {
        let mut free = FREE.lock();
        if free.is_empty() {
            free.extend(&add().some);
        }
        let span = free.pop().expect("some were added");
        span.damaged.store(false, SeqCst);
        span.start.store(start, Relaxed);
        span.end.store(end, Release);
        span
    }

    /// To be called before the map goes.
    pub fn unregister(&'static self) {
        self.end.store(0, Release);
        FREE.lock().push(self);
    }

    /// That of the map that an address is in.
    pub fn of(address: usize) -> Option<&'static Span> {
        let all = std::iter::successors(SPANS.get(), |spans| spans.more.get());
        all.flat_map(|spans| &spans.some).find(|span| span.has(address))
    }

    fn has(&self, address: usize) -> bool {
        let (start, end) = (self.start.load(Acquire), self.end.load(Acquire));
        // The start of one that was freed and filled in between would not fit its end.
        (start..end).contains(&address) && self.start.load(Acquire) == start
    }

    /// Notes that a page cannot be read. To be called before it becomes zeros: who sees the zeros finds the mark.
    pub fn damage(&self) {
        self.damaged.store(true, SeqCst);
        FAULTS.fetch_add(1, SeqCst);
    }

    /// Whether a page of the map could not be read.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(SeqCst)
    }

    /// First address, and the one after the last.
    pub fn bounds(&self) -> (usize, usize) {
        (self.start.load(Relaxed), self.end.load(Relaxed))
    }
}

/// More spans at the end of the list. Called with `FREE` locked, so one at a time.
fn add() -> &'static Spans {
    let mut end = &SPANS;
    while let Some(spans) = end.get() {
        end = &spans.more;
    }
    end.get_or_init(|| {
        Box::new(Spans { some: std::array::from_fn(|_| Span::default()), more: OnceLock::new() })
    })
}
