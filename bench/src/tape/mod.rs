//! A tape: records of some topics in one file, as they were and in the order of their Kafka timestamps, to be replayed.
//! Opening one and iterating over it needs nothing else:
//!
//! ```no_run
//! let mut tape = Tape::open(Path::new("day.tape"))?;
//! while let Some(record) = tape.next().transpose()? {
//!     println!("{} {:?}", tape.topics()[record.topic].name, record.payload);
//! }
//! ```
//!
//! The file, numbers little-endian. A cut or damaged one says in which block, and gives every record before it.
//!
//! | Part | Bytes | |
//! |---|---|---|
//! | head | 8 | `FBAYTAPE` |
//! | | 4 | version: 1 |
//! | | 4 | length D of the description |
//! | | D | [`Description`] as JSON |
//! | | 8 | XXH3-64 of everything before |
//! | block, any number | 4 | `BLCK` |
//! | | 4 | stored bytes S, at most 1 GiB |
//! | | 4 | bytes of the records as they are, at most 1 GiB |
//! | | 4 | how many records |
//! | | S | the records, one Zstandard frame |
//! | | 8 | XXH3-64 of the block before this, seeded with its number (from 0), so that none can be missing |
//! | end | 4 | `ENDS` |
//! | | 8 | records in all |
//! | | 8 | XXH3-64 of the end before this, seeded with the number of blocks |
//!
//! A record is: topic (its number in the description, 4), partition (4), offset (8), Kafka timestamp in ms (8, -1 for none),
//! key, payload, number of headers (4), and each header's name and value. Key, payload, names and values are a length (4,
//! 0xFFFFFFFF for null) and so many bytes.

mod consume;
mod produce;
mod read;
mod record;
pub mod recording;
pub mod replay;
mod write;

use std::path::PathBuf;

use bytes::Bytes;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

pub use read::Tape;
pub use write::Writer;

const MAGIC: &[u8; 8] = b"FBAYTAPE";
const VERSION: u32 = 1;
const BLOCK: &[u8; 4] = b"BLCK";
const END: &[u8; 4] = b"ENDS";
/// Bytes of a block before its stored ones: mark and three lengths.
const BLOCK_HEAD: usize = 16;
/// More than Kafka can have in a record; what says more is damaged.
const MOST_BYTES: usize = 1 << 30;

/// What a tape says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// When recording began, ms since the epoch.
    pub recorded_ms: i64,
    /// The topics, in the order of their numbers.
    pub topics: Vec<Topic>,
}

/// A topic as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it had.
    pub partitions: u32,
}

/// A record of a tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which of the tape's topics.
    pub topic: usize,
    /// Partition it was in.
    pub partition: u32,
    /// Offset it had there.
    pub offset: i64,
    /// Kafka's timestamp, ms since the epoch; -1 for none.
    pub timestamp_ms: i64,
    /// Key, none for null.
    pub key: Option<Bytes>,
    /// Headers in their order, with null values as none.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Payload, none for null (a tombstone).
    pub payload: Option<Bytes>,
}

/// Why a tape cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// The file system refuses.
    #[error("{}: {error}", .path.display())]
    File {
        /// The tape.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// It begins with something else, or its description is damaged.
    #[error("{} is no tape: {what}", .path.display())]
    NoTape {
        /// The file.
        path: PathBuf,
        /// What is wrong with its head.
        what: String,
    },
    /// The file ends too early.
    #[error("{} is cut {at}: {needed} more bytes are needed there, {left} are left. {}", .at.path.display(), .at.before())]
    Cut {
        /// Where.
        at: Place,
        /// Bytes.
        needed: u64,
        /// Bytes.
        left: u64,
    },
    /// The bytes are not those that were written.
    #[error("{} is damaged {at}: {what}. {}", .at.path.display(), .at.before())]
    Damaged {
        /// Where.
        at: Place,
        /// How it shows.
        what: String,
    },
}

/// A place in a tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The tape.
    pub path: PathBuf,
    /// Number of the block, from 0.
    pub block: u64,
    /// Where the block begins, in bytes.
    pub byte: u64,
    /// Records in the blocks before it.
    pub records: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in block {} (from byte {})", self.block, self.byte)
    }
}

impl Place {
    fn before(&self) -> String {
        format!("The {} records before it are whole", self.records)
    }
}

/// How to reach the brokers.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// Kafka's host:port,...
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    /// A librdkafka setting, such as security.protocol=SSL; again for another
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((key.into(), value.into()))
}

impl Connection {
    /// These defaults with what was given over them.
    fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "forebay-bench");
        config.set("allow.auto.create.topics", "false").set("log_level", "3");
        let given = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in defaults.iter().copied().chain(given) {
            config.set(key, value);
        }
        config
    }
}

#[cfg(test)]
mod tests;
