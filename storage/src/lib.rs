//! The Forebay storage engine: one shard is one directory, one writer and any number of lock-free readers.
//!
//! Called by the server's ingest (writer) and services (readers). It knows positions, entities, views and bytes; it
//! knows nothing of Kafka, gRPC or async, and never reads the wall clock. `FORMAT.md` beside this crate is the byte map.
//!
//! ```text
//!  put, skip ─► pending frame ── commit ─► one pwrite ─► segment ─► index slots ─► applied positions
//!                                                          │                          │
//!                             sync thread ── fdatasync ◄───┘        readers ◄─────────┘  (mmap, epoch)
//!                                   └────────► durable positions
//! ```

mod atomics;
mod budget;
mod chain;
mod checkpoint;
pub mod codec;
mod coding;
mod digest;
mod disk;
mod error;
mod expire;
#[cfg(test)]
mod failures;
mod history;
mod index;
mod index_file;
pub mod inspect;
mod keeper;
mod layout;
mod listing;
mod log;
mod manifest;
mod map;
mod open;
mod planted;
mod read;
mod record;
mod recover;
mod residency;
mod shard;
mod sync;
mod thin;
mod types;
mod unreadable;
mod worker;
mod write;

pub use budget::DiskBudget;
pub use coding::{FieldPlan, Fields, Fit};
pub use error::{CheckpointError, InspectError, OpenError, ReadError, WriteError};
pub use open::open;
pub use read::{History, Pinned, ShardReader, Version};
pub use residency::share;
pub use sync::SyncGroup;
pub use types::{
    AppliedOffset, CheckpointReport, CurrentVersion, DurableOffset, ExpireReport, HistoryRange, Keep, Kind,
    OpenReport, Options, Outcome, PreloadReport, Put, ShardIdentity, Stats, SyncPolicy, ThinReport,
    TopicIndex, TopicLog, VersionKey, ViewPolicy,
};
pub use write::ShardWriter;
