//! `forebay execute`: takes edges and explicit requests from Kafka, has the features of that moment frozen as a snapshot,
//! asks the models, and has their predictions stored. It keeps no state of its own: what is under way is in Kafka, and
//! whoever repeats a job finds its snapshot and prediction by their ids. Knows shards and storage only by gRPC.
//!
//! ```text
//!  edges, requests ──► source of model A ──► jobs (bounded) ──► CreateSnapshot ──► ModelInfer ──► RecordPrediction
//!   (Kafka)    │                                                                 (circuit, rate, attempts)
//!              ├─────► source of model B ──► ...          each model a consumer group of its own
//!              └─────► keeper ──► dead letters, requests for snapshots only
//! ```
//!
//! A model that is slow or away fills its own bounded set of jobs, and its own source stops fetching; the others do not
//! notice. Offsets are committed up to the oldest job that is not done.

mod answer;
mod circuit;
mod counts;
mod edge;
mod job;
mod letters;
mod model;
mod pace;
mod request;
mod run;
mod source;
mod status;
mod store;
mod tensors;
#[cfg(test)]
mod tests;
mod window;
mod work;

pub use run::{Running, start};
