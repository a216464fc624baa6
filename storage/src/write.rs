//! The writer of a shard.
use crate::*;
use std::path::Path;

/// Opens or initialises a shard.
pub fn open(
    _dir: &Path,
    _identity: &ShardIdentity,
    _options: &Options,
    _sync: &SyncGroup,
) -> Result<(ShardWriter, ShardReader), OpenError> {
    unimplemented!()
}

/// The one writer.
#[derive(Debug)]
pub struct ShardWriter;

impl ShardWriter {
    /// A topic's number.
    pub fn topic(&self, _name: &str) -> Option<TopicIndex> {
        unimplemented!()
    }
    /// Last offset put or skipped, uncommitted ones included.
    pub fn position(&self, _topic: TopicIndex) -> Option<i64> {
        unimplemented!()
    }
    /// Ingest time of the topic, 0 if none.
    pub fn ingest_time_ms(&self, _topic: TopicIndex) -> i64 {
        unimplemented!()
    }
    /// Adds a data point to the batch.
    pub fn put(&mut self, _put: &Put<'_>) -> Result<Outcome, WriteError> {
        unimplemented!()
    }
    /// Advances the position without a record.
    pub fn skip(&mut self, _topic: TopicIndex, _offset: i64, _ingest_time_ms: i64) -> Result<(), WriteError> {
        unimplemented!()
    }
    /// Writes the batch as one frame; visible after this.
    pub fn commit(&mut self) -> Result<(), WriteError> {
        unimplemented!()
    }
    /// Unlinks segments past their expiry.
    pub fn expire(&mut self, _now_ms: i64) -> Result<ExpireReport, WriteError> {
        unimplemented!()
    }
    /// Syncs what is committed.
    pub fn sync_now(&mut self) -> Result<(), WriteError> {
        unimplemented!()
    }
    /// Commits, syncs, and lets go of the directory.
    pub fn close(self) -> Result<(), WriteError> {
        unimplemented!()
    }
    /// Bytes of the batch.
    pub fn pending_bytes(&self) -> u64 {
        unimplemented!()
    }
}
