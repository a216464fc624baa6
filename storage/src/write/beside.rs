//! Records derived from a data point that was just put, kept at its position and in its frame: what a writer's caller
//! makes of the data point, so that both are there after a crash or neither is. Part of the writer.

use super::*;

impl ShardWriter {
    /// Adds a record at the position of the last put of its topic, which stays where it is; any number of them, of other
    /// keys than that put's. They are in the same frame as it.
    ///
    /// # Errors
    /// As of `put`; `Invalid` if the frame has no put or skip at that position.
    pub fn put_beside(&mut self, put: &Put<'_>) -> Result<Outcome, WriteError> {
        self.shard.check()?;
        check(put)?;
        if !self.batch.advanced || put.offset != self.topic_position(put.topic)?.offset {
            return Err(WriteError::Invalid(
                "a record beside another has its position, and is put right after it",
            ));
        }
        self.apply(put).inspect_err(|error| self.stop_if_damaged(error))
    }

    /// The fields of the payload encoded last, if it was of this view and fits its shape: what `encode` gave, asked for
    /// again after the put.
    pub fn fitted<'p>(&self, view: u16, payload: &'p [u8]) -> Option<Fit<'_, 'p>> {
        self.coder.fitted(view, payload)
    }

    /// The version that the record added last took the place of; nothing if there was none, or if it has expired and its
    /// segment is gone. Waits for the disk if that is not in memory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn replaced(&self) -> Result<Option<CurrentVersion>, WriteError> {
        let Some(last) = self.batch.last() else { return Ok(None) };
        let guard = &crossbeam_epoch::pin();
        let before = match Location(last.prev) {
            Location::NONE => None,
            at => self.header(at, guard)?,
        };
        Ok(before.map(|before| CurrentVersion::of(&before)))
    }

    /// Number of the segment that the next frame goes to, or one before it.
    pub fn newest_segment(&self) -> u32 {
        self.active.as_ref().map_or(0, |active| active.segment.number)
    }

    /// Keeps thinning away from the segments of this number and above: someone still needs versions in them that were
    /// replaced.
    pub fn hold_from(&mut self, segment: u32) {
        self.thinning.hold_from(segment);
    }
}
