//! From a payload to its stored bytes. Called by the engine's writer, once a record.

use super::bits::BitWriter;
use super::generation::Generation;
use super::graph::{END, Graph};
use super::scalar::PAD;
use super::slot::{ESCAPE, Kind};
use super::tail::TailWriter;
use super::template::Packed;
use super::zstd;
use super::{Coding, Encoded, TAIL_BITS, TAIL_NONE, TAIL_PLAIN, TAIL_ZSTD};

/// With less text than this in a tail, symbols are nearly as short as zstd, and much faster.
const ZSTD_TEXT_BYTES: usize = 2048;

/// The memory of encoding, reused from payload to payload; also what is known of the last payload that fit the shape.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The payload and `PAD` zero bytes.
    text: Vec<u8>,
    bits: BitWriter,
    tail: TailWriter,
    packed_tail: TailWriter,
    codes: Vec<u8>,
    /// Ranges of scalars; only the first `used` are of the last payload.
    scalars: Vec<(u32, u32)>,
    used: usize,
    visits: Vec<Visit>,
    packed: Vec<u8>,
}

/// A block that the last payload's walk passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub(super) block: u32,
    /// Index of its first scalar.
    pub(super) first: u32,
    /// The branch taken at its end.
    pub(super) choice: u32,
}

impl Encoder {
    /// Empty.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Byte ranges of the last payload's scalars, in order; empty if it did not fit the shape.
    pub fn scalars(&self) -> &[(u32, u32)] {
        &self.scalars[..self.used]
    }

    /// Whether the last payload encoded has these bytes.
    #[inline]
    pub fn is_of(&self, payload: &[u8]) -> bool {
        self.text.len() == payload.len() + PAD && self.text[..payload.len()] == *payload
    }

    /// Bytes of the scalars that did not fit their slots.
    pub(super) fn tail(&self) -> &[u8] {
        self.tail.bytes()
    }

    pub(super) fn visits(&self) -> &[Visit] {
        &self.visits
    }

    /// Scalars of the last payload that did not fit their slots, of `scalars().len()`: a measure of drift.
    pub fn escapes(&self) -> u32 {
        self.tail.escapes()
    }

    fn clear(&mut self) {
        self.bits.clear();
        self.tail.clear();
        self.used = 0;
        self.visits.clear();
    }

    fn load(&mut self, payload: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(payload);
        self.text.extend_from_slice(&[0; PAD]);
    }

    /// Walks the shape along the payload; false if it does not fit.
    fn walk(&mut self, graph: &Graph) -> bool {
        let length = self.text.len() - PAD;
        self.bits.reserve(TAIL_BITS);
        self.bits.put(TAIL_NONE, TAIL_BITS);
        let (mut at, mut number) = (0, 0u32);
        // A copy, so that its fields are in registers.
        let mut bits = std::mem::take(&mut self.bits);
        let fits = loop {
            let Some(next) = self.block(graph, number, at, &mut bits) else { break false };
            (at, number) = next;
            if number == END {
                break at == length;
            }
        };
        self.bits = bits;
        fits
    }

    /// One block from `at`, its choice included: the place behind it and the next block.
    #[inline(always)]
    fn block(
        &mut self,
        graph: &Graph,
        number: u32,
        mut at: usize,
        bits: &mut BitWriter,
    ) -> Option<(usize, u32)> {
        let block = &graph.blocks[number as usize];
        let first = self.used;
        let steps = graph.steps(block);
        bits.reserve(block.bits + block.choice_bits);
        self.used += steps.len();
        if self.scalars.len() < self.used {
            self.scalars.resize(2 * self.used, (0, 0));
        }
        let text = self.text.as_slice();
        let mut packed = Packed::default();
        for (step, scalar) in steps.iter().zip(&mut self.scalars[first..]) {
            at = step.piece.skip(text, at)?;
            let (code, end) = step.slot.read(text, at, &mut packed)?;
            bits.put(code, step.slot.width);
            if let Kind::Template(template) = &step.slot.kind {
                template.put(&packed, bits);
            }
            if code == ESCAPE {
                self.tail
                    .put((first as u64) + u64::from(step.number), step.slot.escape(&text[at..], end - at));
            }
            *scalar = (at as u32, end as u32);
            at = end;
        }
        for (choice, branch) in graph.branches(block).iter().enumerate() {
            if let Some(end) = branch.piece.skip(text, at) {
                bits.put(choice as u64, block.choice_bits);
                self.visits.push(Visit { block: number, first: first as u32, choice: choice as u32 });
                return Some((end, branch.target));
            }
        }
        None
    }

    /// Appends the stored bytes of the walk.
    fn finish(&mut self, generation: &Generation, out: &mut Vec<u8>) {
        let mut tail = self.tail.bytes();
        let bits = self.bits.finish();
        if !tail.is_empty() {
            bits[0] |= TAIL_PLAIN as u8;
        }
        if self.tail.text_bytes() >= ZSTD_TEXT_BYTES {
            self.packed.clear();
            if generation.dictionary().compress(tail, &mut self.packed) && self.packed.len() < tail.len() {
                bits[0] = bits[0] & !(TAIL_PLAIN as u8) | TAIL_ZSTD as u8;
                tail = &self.packed;
            }
        } else if self.tail.text_bytes() > 0 {
            self.packed_tail.pack(&mut self.tail, generation.symbols(), &mut self.codes);
            tail = self.packed_tail.bytes();
        }
        out.extend_from_slice(bits);
        if !tail.is_empty() {
            out.extend_from_slice(tail);
            put_varint_backwards(out, tail.len());
        }
    }
}

/// A LEB128 number whose first byte is the last.
fn put_varint_backwards(out: &mut Vec<u8>, value: usize) {
    let start = out.len();
    super::bits::put_varint(out, value as u64);
    out[start..].reverse();
}

/// Appends the stored bytes of `payload` to `out`; over 64 MiB they are the payload. If the result says `valid`, the
/// payload is a JSON object and `encoder` knows its scalars; if not, nothing is known, and the caller's own scanner decides.
pub fn encode(generation: &Generation, payload: &[u8], encoder: &mut Encoder, out: &mut Vec<u8>) -> Encoded {
    encoder.clear();
    encoder.load(payload);
    let start = out.len();
    let valid = payload.len() <= zstd::MAX_RAW && encoder.walk(generation.graph());
    if valid {
        encoder.finish(generation, out);
        if out.len() - start < payload.len() {
            return Encoded { coding: Coding::Shape, valid };
        }
        out.truncate(start);
    } else {
        encoder.clear();
    }
    let short = payload.len() <= zstd::MAX_RAW;
    if short && generation.dictionary().compress(payload, out) && out.len() - start < payload.len() {
        return Encoded { coding: Coding::Zstd, valid };
    }
    out.truncate(start);
    out.extend_from_slice(payload);
    Encoded { coding: Coding::Raw, valid }
}
