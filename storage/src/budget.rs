//! How much disk the shards of a lane may use together, and what one shard uses of it. Segment files count with their
//! whole size from when they are made until they are unlinked, codings from when they are learned; index checkpoints, which
//! may be deleted at any time, do not. Asked by the keeper, and by the writer before each frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::WriteError;
use crate::log::segment::Segments;

/// A budget of disk that several shards share.
#[derive(Debug)]
pub struct DiskBudget {
    soft: u64,
    hard: u64,
    used: AtomicU64,
}

impl DiskBudget {
    /// Above `soft` bytes dead versions are thinned out as far as it pays at all; `hard` bytes are never passed by data
    /// points, and then a shard takes no more of them until something expired or was thinned out.
    pub fn new(soft: u64, hard: u64) -> Arc<DiskBudget> {
        Arc::new(DiskBudget { soft: soft.min(hard), hard, used: AtomicU64::new(0) })
    }

    /// Bytes of segment files and codings now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The hard limit, bytes.
    pub fn hard(&self) -> u64 {
        self.hard
    }

    /// Whether the soft limit is passed.
    pub fn is_tight(&self) -> bool {
        self.used() > self.soft
    }

    /// Whether the hard limit is passed: what thinning may use to make room is in use.
    pub fn is_over(&self) -> bool {
        self.used() > self.hard
    }
}

/// What one shard uses.
#[derive(Debug, Default)]
pub(crate) struct DiskUse {
    budget: Option<Arc<DiskBudget>>,
    bytes: AtomicU64,
}

impl DiskUse {
    /// Of a shard that has these segments, and so many bytes of codings; both count whatever the limits say.
    pub fn new(budget: Option<Arc<DiskBudget>>, segments: &Segments, coding_bytes: u64) -> DiskUse {
        let disk = DiskUse { budget, bytes: AtomicU64::new(0) };
        disk.add(segments.list.iter().map(|segment| segment.capacity()).sum());
        disk.add(coding_bytes);
        disk
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn budget(&self) -> Option<&DiskBudget> {
        self.budget.as_deref()
    }

    /// Takes the space of a new segment. One that `thins` may pass the limit, if it is not passed already: without room to
    /// copy what lives nothing dead would ever go.
    pub fn take(&self, bytes: u64, thins: bool) -> Result<(), WriteError> {
        if let Some(budget) = &self.budget {
            let most = if thins { budget.hard } else { budget.hard.saturating_sub(bytes) };
            if budget.used() > most {
                return Err(self.refusal(budget));
            }
        }
        self.add(bytes);
        Ok(())
    }

    /// Refuses data points while the limit is passed.
    pub fn check(&self) -> Result<(), WriteError> {
        match &self.budget {
            Some(budget) if budget.is_over() => Err(self.refusal(budget)),
            _ => Ok(()),
        }
    }

    #[cold]
    fn refusal(&self, budget: &DiskBudget) -> WriteError {
        WriteError::OverBudget { used: budget.used(), hard: budget.hard }
    }

    /// Takes space that nobody is asked for.
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.iter().for_each(|budget| {
            budget.used.fetch_add(bytes, Ordering::Relaxed);
        });
    }

    /// Gives space back.
    pub fn give(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.iter().for_each(|budget| {
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
        });
    }

    /// Gives all back: whoever opens the directory next counts it.
    pub fn give_all(&self) {
        self.give(self.bytes());
    }
}
