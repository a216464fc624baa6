//! The gRPC services: reads, writes and administration over the lanes of this server. Started by `serve`; every RPC has
//! a module of its own here. Knows shards through `lane` and never a consumer; writes leave through the producer only.
//!
//! ```text
//!  call ─► admission (bounds, shedding)
//!  request ─► request (checks, selection) ─► route (lane, shard) ─► wait ─► read | history ─► columns, typed ─► answer
//!                                                                      what is not in memory: cold
//!             push, delete ─► producer ─► Kafka        admin ─► lanes, definitions        health follows readiness
//! ```

mod admin;
mod admission;
pub(crate) mod calls;
mod cold;
mod columns;
mod deadline;
mod delete;
mod diagnoses;
mod errors;
mod explain;
mod health;
mod history;
mod listen;
mod page;
mod produce;
mod push;
mod reactor;
mod read;
mod registry;
mod request;
mod route;
mod server;
mod store;
mod stream;
#[cfg(test)]
mod tests;
mod typed;
mod wait;
mod wire;

use std::sync::Arc;
use std::time::Instant;

use rdkafka::producer::FutureProducer;

use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::{InForce, SharedDefinitions};
use crate::lane::Lane;
use crate::registry::Registry;
use crate::tuning::Tuned;

pub use admission::{Admission, Limits, Shed};
pub use cold::ColdReads;
pub use health::not_ready;
pub use server::{check, serve};

/// What every handler works with; one for the life of the process.
pub struct Context {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// What the configuration leaves open, as it was decided.
    pub tuned: Tuned,
    /// The definitions in force; replaced by a reload, or by what the registry says.
    pub definitions: SharedDefinitions,
    /// Replaces them.
    pub in_force: Arc<InForce>,
    /// Where definitions are kept besides the files, if anywhere.
    pub registry: Option<Arc<Registry>>,
    /// Held by a change of the registry, so that two of them are not both checked against the same old definitions.
    pub applying: tokio::sync::Mutex<()>,
    /// The lanes of this server.
    pub lanes: Vec<Arc<Lane>>,
    /// Decides what has expired.
    pub clock: Clock,
    /// Where writes go.
    pub producer: FutureProducer,
    /// When the process began to serve.
    pub started: Instant,
    /// Bounds the reads that wait for the disk.
    pub cold: ColdReads,
    /// Bounds the reads under way.
    pub admission: Arc<Admission>,
}

impl Context {
    /// The lane of this name.
    pub fn lane(&self, name: &str) -> Option<&Arc<Lane>> {
        self.lanes.iter().find(|lane| lane.definition.name == name)
    }
}
