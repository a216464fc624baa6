//! Group sync.
use crate::SyncPolicy;
use std::io;

/// One thread that syncs registered shards.
#[derive(Debug, Clone)]
pub struct SyncGroup;

impl SyncGroup {
    /// Starts the thread.
    pub fn spawn(_name: &str, _policy: SyncPolicy) -> io::Result<SyncGroup> {
        unimplemented!()
    }
}
