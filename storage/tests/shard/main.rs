//! Tests of the storage engine through its public API, against a model of a few lines.

mod bad_files;
mod basics;
mod beside;
mod budget;
mod checkpoint;
mod coding;
mod decoder;
mod formats;
mod inspection;
mod memory;
mod model;
#[cfg(feature = "planted-bugs")]
mod planted;
mod promises;
mod random;
mod saved_index;
mod store;
mod thinning;
