//! Payload coding: a JSON payload as stored bytes and back, byte for byte, learned per view.

mod bind;
mod bits;
mod commons;
mod decode;
mod encode;
mod field;
mod generation;
mod graph;
mod learn;
mod network;
mod number;
mod scalar;
mod slot;
mod structure;
mod tail;
mod template;
mod train;
mod zstd;

pub use bind::{Binding, Ranges};
pub use decode::decode;
pub use encode::{Encoder, encode};
pub use field::field;
pub use generation::{Generation, GenerationError};
pub use train::{Limits, Trainer};

/// Bits at the start of a payload stored by shape: what tail it has.
const TAIL_BITS: u32 = 2;
const TAIL_NONE: u64 = 0;
const TAIL_PLAIN: u64 = 1;
const TAIL_ZSTD: u64 = 2;

/// How a payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// As it is.
    Raw,
    /// By zstd with the generation's dictionary.
    Zstd,
    /// By the generation's shape.
    Shape,
}

/// What encoding did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// How the payload is stored.
    pub coding: Coding,
    /// The payload fits the shape: it is a valid JSON object, at most 128 levels deep, and its scalars are known. If
    /// not, it may be anything.
    pub valid: bool,
}

/// Stored bytes that no payload has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored payload damaged: not {coding:?} of codec generation {generation}")]
pub struct DecodeError {
    /// Number of the generation it was decoded with.
    pub generation: u32,
    /// The coding it was to have.
    pub coding: Coding,
}

#[cfg(test)]
mod tests;
