//! The Forebay client: finds the server of a partition, keeps a pool of channels, retries what is safe to retry, and
//! gives typed rows. Depends on the contract alone.

pub mod partition;

pub use partition::Partitioner;
