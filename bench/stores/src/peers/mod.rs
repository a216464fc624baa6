//! Stores of others, each a side of the `engine` scenario.

pub mod fjall_store;
pub mod rocks;
