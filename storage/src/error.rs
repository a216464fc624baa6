//! Everything that can go wrong, by what the caller should do about it. No error here is retried by the engine itself.

use std::io;
use std::path::{Path, PathBuf};

use crate::types::TopicIndex;

/// Why a shard directory was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory holds files, but no shard.
    #[error(
        "{dir}: not a shard: it has {found:?} but no MANIFEST; name an empty directory, or restore the MANIFEST"
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of the names found there.
        found: String,
    },
    /// Another process, or another part of this one, writes to it.
    #[error("{dir}: in use by another writer; stop it first, or name another directory")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It belongs to another lane or partition.
    #[error("{dir}: belongs to {stored}, not to {now}; correct the storage directory")]
    WrongShard {
        /// The directory.
        dir: PathBuf,
        /// Lane and partition it was made for.
        stored: String,
        /// Lane and partition asked for.
        now: String,
    },
    /// The topics have another number of partitions than the data was routed by.
    #[error(
        "{dir}: made for {stored} partitions, the topics now have {now}: entities would be looked for in the wrong \
         shard; rebuild the lane in a new directory"
    )]
    PartitionsChanged {
        /// The directory.
        dir: PathBuf,
        /// Partitions when it was made.
        stored: u32,
        /// Partitions now.
        now: u32,
    },
    /// A topic was deleted and made again: its offsets mean other records.
    #[error(
        "{dir}: topic {topic} was recreated: id {stored} is stored, the broker has {now}; its offsets mean other \
         records now, so rebuild the lane in a new directory"
    )]
    TopicRecreated {
        /// The directory.
        dir: PathBuf,
        /// Topic name.
        topic: String,
        /// Stored id, hex.
        stored: String,
        /// Id now, hex.
        now: String,
    },
    /// A topic's priority changed, which would reorder versions already chosen.
    #[error(
        "{dir}: topic {topic} had priority {stored}, now {now}: versions already chosen would be others; set it back, or rebuild the lane"
    )]
    TopicChanged {
        /// The directory.
        dir: PathBuf,
        /// Topic name.
        topic: String,
        /// Stored priority.
        stored: u8,
        /// Priority now.
        now: u8,
    },
    /// A view id means something else now.
    #[error("{dir}: view {id} was {stored:?}, now {now:?}: give the changed view a new id")]
    ViewChanged {
        /// The directory.
        dir: PathBuf,
        /// View id.
        id: u16,
        /// Stored description.
        stored: String,
        /// Description now.
        now: String,
    },
    /// Written by a newer version of this program.
    #[error(
        "{file}: format {found} is newer than {known}, the newest this version reads; use a newer version"
    )]
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// Its format number.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// Bytes that were once whole are not what was written.
    #[error(
        "{file}: damaged at byte {at}: {detail}; restore the directory, or remove it and replay the topics"
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Byte where the damage shows.
        at: u64,
        /// What is wrong and which positions it hides.
        detail: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

impl OpenError {
    /// Puts the path to a system's refusal.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
        let path = path.to_path_buf();
        move |source| OpenError::Io { path, source }
    }

    pub(crate) fn corrupt(file: &Path, at: u64, detail: impl Into<String>) -> OpenError {
        OpenError::Corrupt { file: file.to_path_buf(), at, detail: detail.into() }
    }
}

/// Why a write did nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A write or a sync failed earlier: the shard serves reads, never advances, and must be reopened.
    #[error("the shard stopped after a failure and must be reopened: {0}")]
    Poisoned(String),
    /// No room for the next segment: disk, file descriptors or memory. Nothing is lost: the batch is kept, and the same
    /// call may be made again.
    #[error(
        "no room for another segment ({path}): the disk is full, or descriptors or memory are used up; it is \
         tried again when asked"
    )]
    NoSpace {
        /// The segment that could not be made.
        path: PathBuf,
    },
    /// The disk budget is used up. Nothing is lost: the batch is kept, and the same call may be made again, which succeeds
    /// once something expired or was thinned out.
    #[error("the disk budget is used up: {used} of {hard} bytes; it is tried again when asked")]
    OverBudget {
        /// Bytes of segment files and codings of all shards that share the budget.
        used: u64,
        /// The most there may be.
        hard: u64,
    },
    /// The put is not one the format can hold. A mistake of the caller.
    #[error("not storable: {0}")]
    Invalid(&'static str),
    /// The topic number is not one of this shard's.
    #[error("no topic has number {}", .0.0)]
    UnknownTopic(TopicIndex),
    /// Two entity ids have the same 84 bits of hash, which the index takes for one entity. Nothing was changed; the data
    /// point cannot be stored in this shard. Among a billion entities the odds of it ever happening are 1 in 40 million.
    #[error("not storable: the index cannot tell entity {} from {}", show(.entity), show(.stored))]
    Collision {
        /// The entity to put.
        entity: Box<[u8]>,
        /// The one that is there.
        stored: Box<[u8]>,
    },
    /// Bytes on disk that the write needed are damaged. The shard stopped.
    #[error(transparent)]
    Damaged(#[from] ReadError),
}

fn show(entity: &[u8]) -> String {
    entity.escape_ascii().to_string()
}

impl WriteError {
    /// Whether the batch is kept and the same call may succeed later.
    pub fn can_be_waited_out(&self) -> bool {
        matches!(self, WriteError::NoSpace { .. } | WriteError::OverBudget { .. })
    }
}

/// Why a read gave nothing. Never other bytes than those that were put.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Data that was stored and cannot be given back: data loss.
    #[error("data loss: {file}: damaged at byte {at}: {detail}")]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Byte where the damaged record begins.
        at: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// A record on the way is not among those held in memory, and may have to come from the disk. Nothing is wrong: the
    /// same read through `ShardReader::pin_blocking`, on a thread that may wait, gives it.
    #[error("a record is not in memory, and this read may not wait for the disk")]
    Cold,
}

/// Why no copy of a shard was made. What was copied so far is no shard: it has no MANIFEST.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A copy needs a directory of its own.
    #[error("{dir}: not empty; name an empty directory, or one that is not there")]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// What was to be copied is damaged.
    #[error(transparent)]
    Damaged(#[from] ReadError),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// Why a file could not be shown as it should be.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Not a file this program writes.
    #[error("{0}: not a file of a shard")]
    Unknown(PathBuf),
    /// The file was shown as far as it is whole.
    #[error("{file}: damaged at byte {at}: {detail}")]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Byte where the damage shows.
        at: u64,
        /// What is wrong.
        detail: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}
