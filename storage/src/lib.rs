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

pub mod codec;
mod error;
pub mod inspect;
mod read;
mod sync;
mod types;
mod write;

pub use error::{InspectError, OpenError, ReadError, WriteError};
pub use read::{History, Pinned, ShardReader, Version};
pub use sync::SyncGroup;
pub use types::{
    ExpireReport, HistoryRange, Kind, Options, Outcome, Put, ShardIdentity, Stats, SyncPolicy, TopicIndex,
    TopicLog, VersionKey,
};
pub use write::{ShardWriter, open};
