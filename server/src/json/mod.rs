//! One pass over a payload: is it a valid JSON object, and where are the declared paths in it. `scan` walks, `plan`
//! compiles the paths a view asks for, `typed` turns captured text into values. Called by ingest, pushes and typed reads.
//! Knows nothing of Kafka or storage.

#[cfg(test)]
mod agreement;
mod eight;
mod keys;
pub mod plan;
pub mod scan;
pub mod typed;
mod unescape;

pub use plan::{Plan, Slots};
pub use scan::JsonError;
