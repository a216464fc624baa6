//! Payload coding: a JSON payload as stored bytes and back, byte for byte, learned per view.
//!
//! Called by the engine's writer (`encode`), its readers (`decode`, `field`) and by whoever decides when to learn
//! (`Trainer`, `Drift`). Knows nothing of records, segments, views' names or Kafka. No JSON parser is needed for a payload
//! that fits the shape: fitting is the proof that it is a JSON object, and tells where every scalar is.
//!
//! Telemetry of one view repeats its text and changes its scalars. What repeats is learned as a graph of *blocks*: a block
//! is a run of *slots* (places of scalars) with literal *pieces* between them, then a choice of *branches*, each a piece that
//! leads to another block or to the end. Optional members are branches that meet again, arrays are branches back. A slot takes the
//! same number of bits for every value: a number of known decimals in a range, a string of hexadecimal digits at known
//! places (UUID, MAC, identifiers), one of the usual values (states, versions, `true`, `null`), or an escape to the tail. So
//! a payload is a bit string in which, once the choices are followed, every field has a known place.
//!
//! ```text
//! payload  {"id":7,"on":true,"xs":[1.5,2.5]}
//! block 0  ──{"id":──► block 1: (number) ,"on": (usual) ──,"xs":[──► block 2: (number) ──,──► block 2
//!                                                       └─,"xs":[]}──► end            └─]}──► end
//! stored   kind of tail | 7 | true | branch 0 | 1.5 | branch 0 | 2.5 | branch 1 | tail
//! ```
//!
//! # A stored payload
//!
//! Which of three codings a payload has, and the generation's number, is kept by the record, not here.
//!
//! *Raw*: the payload.
//!
//! *Zstd*: one zstd frame with content size, without checksum, made with the generation's dictionary (whose identifier is set to 0, so
//! that frames do not carry it), without the frame's 4 bytes of magic number.
//!
//! *Shape*: bits, then a tail that may be missing. Bit fields are little-endian and follow each other without gaps: the
//! first is in the lowest bits of the first byte. The last byte of the bits is filled with zeros.
//!
//! | Field | Width | Content |
//! |---|---|---|
//! | kind of tail | 2 | 0 none, 1 plain, 2 one zstd frame as above |
//! | per block of the walk, from block 0, per slot: code | the slot's width | 0 escape; 1 to n the slot's usual values; n + 1 + v the number with mantissa base + v, or n + 1 a string of the template |
//! | digits, at slots with a template | 4 per digit | for groups of 8 characters of the token (with quotes) the digits in it, the first in the lowest bits; zeros if the code is another |
//! | after the block's slots: branch | ceil(log2(branches)), 0 for one | index of the branch taken |
//!
//! A number's text is its mantissa with `scale` decimals, less the zeros at its end that go beyond `least` decimals; the
//! decimal point goes with the last decimal.
//!
//! The tail is followed by its length in bytes as a LEB128 number with its bytes in reverse order, so that it is read from the end. Unpacked, it
//! has the escaped values in order:
//!
//! | Field | Size | Content |
//! |---|---|---|
//! | skipped | LEB128 | slots since the one of the entry before, or since the start, that have none |
//! | head | LEB128 | 4 * length + form |
//! | value | length | form 0: the token; 1: a string's text between its quotes; 3: the same by symbols, a byte per symbol, 255 before a byte as it is; 2: a mantissa in the slot's form, zigzag, little-endian without zero bytes at its end |
//!
//! # A generation file
//!
//! Numbers are little-endian; `varint` is LEB128; `text` is a varint length and as many bytes.
//!
//! | Offset | Size | Content |
//! |---|---|---|
//! | 0 | 8 | `FBCODEC` and a zero byte |
//! | 8 | 4 | version of this format, 1 |
//! | 12 | 4 | number of the generation |
//! | 16 | varint | number of blocks, then each block |
//! | | varint | number of symbols for free text, at most 255, then each (text of 1 to 8 bytes) |
//! | | text | zstd dictionary, empty for none |
//! | end - 8 | 8 | xxh3 (64 bits, seed 0) of all before |
//!
//! A block: varint number of steps; per step its piece (text; empty at the first) and its slot; varint number of branches; per
//! branch its piece (text) and target (varint: 0 the end, else block + 1). Block 0 has no steps.
//!
//! A slot: width of the code in bits (1 byte, at most 62); usual values (varint count, texts); kind (1 byte): 0 none of its own; 1 numbers:
//! scale (1 byte), least (1 byte), base (8 bytes, signed); 2 a template: upper case letters (1 byte, 0 or 1), token (text, with quotes), and per
//! character 1 byte, 1 at a digit.
//!
//! Loading proves what encoding relies on: every walk is a JSON object of at most 128 levels, blocks are reached in one
//! way only, no walk stands still, and usual values and templates are valid scalars.

mod bind;
mod bits;
mod commons;
mod decode;
mod drift;
mod encode;
mod field;
mod generation;
mod graph;
mod learn;
mod network;
mod number;
mod scalar;
mod show;
mod slot;
mod structure;
mod symbols;
mod tail;
mod template;
mod train;
mod zstd;

pub use bind::{Binding, Ranges};
pub use decode::decode;
pub use drift::Drift;
pub use encode::{Encoder, encode};
pub use field::{field, fields};
pub(crate) use generation::Content;
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
