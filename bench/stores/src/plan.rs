//! What a side is asked to do. Written by the scenario, read by the process of the side, as JSON in one argument.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Views of every entity.
pub const VIEWS: u64 = 10;
/// Data points of a commit.
pub const BATCH: u64 = 1000;

/// Which part of the work a process does. A store is left behind by one and found by the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Everything on a new store, which is then left as a crash leaves it.
    Work,
    /// Opens what `Work` left with nothing in the page cache, reads keys, then opens it again warm.
    Reopen,
    /// A week of versions of some keys, as of any time.
    History,
    /// Makes the space of expired data points free.
    Expiry,
    /// Updates past the disk budget, with what the store does to hold it.
    Space,
    /// Payload coding alone; only Forebay has it.
    Coding,
    /// Opening with very many keys; only of Forebay.
    Rebuild,
}

/// Sizes of the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The part to do.
    pub step: Step,
    /// Directory of the store.
    pub dir: PathBuf,
    /// File of the data; see `Data`.
    pub data: PathBuf,
    /// Keys (entity, view), a multiple of ten.
    pub keys: u64,
    /// How long each rate of reads is measured, s.
    pub seconds: f64,
    /// Data points a second of the burst.
    pub burst: f64,
    /// Memory a store may use for data; see `Setup`.
    pub cache_bytes: u64,
    /// Keys of the history.
    pub histories: u64,
    /// Versions of each of them, five minutes apart.
    pub versions: u64,
    /// Reads from a cold store.
    pub cold_reads: u64,
}

impl Plan {
    /// Entities.
    pub fn entities(&self) -> u64 {
        (self.keys / VIEWS).max(1)
    }

    /// # Errors
    /// If it is no plan.
    pub fn parse(text: &str) -> anyhow::Result<Plan> {
        Ok(serde_json::from_str(text)?)
    }

    /// The argument that `parse` takes.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
