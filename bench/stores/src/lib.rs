//! The work of the `engine` scenario, the same for every store: what is put and read, in what order, and how it is
//! measured. A side is one process that runs it on one store; the scenario starts the sides in turn and compares them.

mod beside;
pub mod data;
pub mod meter;
pub mod plan;
mod space;
pub mod store;
pub mod work;

pub use data::{Data, Point};
pub use meter::Meter;
pub use plan::{Plan, Step};
pub use store::{Background, Purpose, Reads, Setup, Sizes, Store};
