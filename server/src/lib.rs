//! The Forebay server as a library, so that the simulator and the harness can use its parts; `main.rs` is the binary.
//! ARCHITECTURE.md has the map: records come in through `kafka` and `ingest`, rest in `forebay_storage`, and go out
//! through `service`.

pub mod assembly;
pub mod cli;
pub mod clock;
pub mod config;
pub mod definitions;
pub mod demo;
pub mod diagnosis;
pub mod executor;
pub mod ingest;
pub mod json;
pub mod kafka;
pub mod lane;
pub mod memory;
pub mod metrics;
pub mod mix;
pub mod registry;
pub mod rest;
pub mod serve;
pub mod service;
pub mod shard_files;
pub mod trigger;
pub mod tuning;
