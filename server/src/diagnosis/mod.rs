//! What is stored of a diagnosis, as JSON documents in a fixed order of keys: the snapshot of features, what the model
//! said, what turned out to be true, and the entries of the indexes. Each is written once from a message of the contract
//! and read back into it. Pure; called by `service::diagnoses`. Knows no shard, no Kafka and no clock.
//!
//! What is JSON already (payloads, features, outputs) is embedded byte for byte; entity ids that are no text are
//! base64 under another key.

pub mod entry;
pub mod outcome;
pub mod prediction;
pub mod snapshot;
mod text;
pub mod value;

#[cfg(test)]
mod tests;

/// Stored bytes that are not the document they should be.
#[derive(Debug, thiserror::Error)]
#[error("not a {kind} document: {detail}")]
pub struct NotADocument {
    /// What was expected.
    pub kind: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl NotADocument {
    fn of(kind: &'static str) -> impl Fn(serde_json::Error) -> NotADocument {
        move |error| NotADocument { kind, detail: error.to_string() }
    }

    fn because(kind: &'static str, detail: impl Into<String>) -> NotADocument {
        NotADocument { kind, detail: detail.into() }
    }
}
