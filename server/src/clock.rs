//! The wall clock as a value that is handed down, so that tests can hold time still. It decides what a read shows and
//! when files are removed; state never depends on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time in ms since the epoch.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// Shows whatever the cell holds, in ms since the epoch.
    pub fn fixed(now_ms: Arc<AtomicI64>) -> Self {
        Clock(Source::Fixed(now_ms))
    }

    /// Now, in ms since the epoch.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
            }
            Source::Fixed(now_ms) => now_ms.load(Ordering::Acquire),
        }
    }
}
