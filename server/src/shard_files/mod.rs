//! The files of one shard: a directory of the engine for each TTL class of its views, so that what expires early is not
//! held by what expires late, and what keeps all versions not thinned out with what keeps the newest. Opened by `ingest`,
//! which writes; read by the services. Knows neither Kafka nor gRPC.
//!
//! ```text
//!  <lane>/<partition>/            the engine's files of the first class
//!  <lane>/<partition>/CLASSES     which classes there are, and which view is in which
//!  <lane>/<partition>/full-32d/   the engine's files of another class
//! ```
//!
//! The classes of a shard share nothing: each has positions of its own, written with its records. After a crash they may
//! have come to different offsets; the shard goes on from the lowest, and a class that has a record passes it. So a
//! commit need not be atomic across classes, and all that is promised of a directory holds for a shard.

mod layout;
mod open;
mod readers;
#[cfg(test)]
mod tests;
mod writers;

pub use layout::{Layout, LayoutError, is_layout};
pub use open::{Directories, FilesError, directories, open};
pub use readers::{Readers, Share};
pub use writers::Writers;
