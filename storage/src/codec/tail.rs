//! The tail of a stored payload: the values that did not fit their slots, in order, each with the number of slots
//! passed since the one before. Called by slots, encode, decode and bindings.
//!
//! An entry is `skipped: varint`, `length * 4 + form: varint`, then `length` bytes. Forms: 0 the token as it stands,
//! 1 a string without its quotes, 3 the same by symbols, 2 the mantissa of a number in its slot's form, zigzag, little-endian, no zero bytes at its end.

use super::bits::{put_varint, take_varint};
use super::symbols::Symbols;

const VERBATIM: u64 = 0;
const STRING: u64 = 1;
const MANTISSA: u64 = 2;
const SYMBOLS: u64 = 3;

/// Collects escapes.
#[derive(Debug, Default)]
pub(super) struct TailWriter {
    bytes: Vec<u8>,
    /// The slot behind the last escape.
    next: u64,
    escapes: u32,
    text_bytes: usize,
}

/// An escaped value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// The token as it stands.
    Verbatim(&'a [u8]),
    /// A string without its quotes.
    String(&'a [u8]),
    /// A string without its quotes, by symbols.
    Symbols(&'a [u8]),
    /// A number in its slot's form.
    Mantissa(i64),
}

impl TailWriter {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.next = 0;
        self.escapes = 0;
        self.text_bytes = 0;
    }

    /// The value of slot number `slot`, behind those put before.
    pub(super) fn put(&mut self, slot: u64, value: Value<'_>) {
        match value {
            Value::Verbatim(text) => {
                self.text_bytes += text.len();
                self.entry(slot, VERBATIM, text);
            }
            Value::String(text) => {
                self.text_bytes += text.len();
                self.entry(slot, STRING, text);
            }
            Value::Symbols(codes) => self.entry(slot, SYMBOLS, codes),
            Value::Mantissa(mantissa) => {
                let zigzag = ((mantissa << 1) ^ (mantissa >> 63)) as u64;
                let length = 8 - zigzag.leading_zeros() as usize / 8;
                self.entry(slot, MANTISSA, &zigzag.to_le_bytes()[..length]);
            }
        }
    }

    fn entry(&mut self, slot: u64, form: u64, bytes: &[u8]) {
        put_varint(&mut self.bytes, slot - self.next);
        put_varint(&mut self.bytes, bytes.len() as u64 * 4 + form);
        self.bytes.extend_from_slice(bytes);
        self.next = slot + 1;
        self.escapes += 1;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts what is in `other`, strings by symbols where that is shorter. `codes` is working memory.
    pub(super) fn pack(&mut self, other: &mut TailWriter, symbols: &Symbols, codes: &mut Vec<u8>) {
        self.clear();
        let length = other.bytes.len();
        other.bytes.extend_from_slice(&[0; 8]);
        let mut reader = TailReader::new(&other.bytes[..length]);
        while let Some((skipped, value)) = reader.next() {
            let slot = self.next + skipped;
            match value {
                Value::String(plain) if plain.len() > 3 => {
                    let start = length - reader.rest.len() - plain.len();
                    codes.clear();
                    let packed = symbols.pack(&other.bytes[start..], plain.len(), codes);
                    let shorter = packed && codes.len() < plain.len();
                    self.put(slot, if shorter { Value::Symbols(codes) } else { value });
                }
                _ => self.put(slot, value),
            }
        }
        other.bytes.truncate(length);
    }

    /// Bytes of texts, which may compress.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    pub(super) fn escapes(&self) -> u32 {
        self.escapes
    }
}

/// Reads entries in order.
#[derive(Debug, Clone)]
pub(super) struct TailReader<'a> {
    rest: &'a [u8],
}

impl<'a> TailReader<'a> {
    pub(super) fn new(tail: &'a [u8]) -> TailReader<'a> {
        TailReader { rest: tail }
    }

    /// The next entry and the slots skipped before it.
    pub(super) fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let skipped = take_varint(&mut self.rest)?;
        let head = take_varint(&mut self.rest)?;
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(head / 4).ok()?)?;
        self.rest = rest;
        let value = match head % 4 {
            VERBATIM => Value::Verbatim(bytes),
            STRING => Value::String(bytes),
            MANTISSA => Value::Mantissa(mantissa(bytes)?),
            _ => Value::Symbols(bytes),
        };
        Some((skipped, value))
    }

    /// The strings that are left.
    pub(super) fn strings(mut self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(move || self.next()).filter_map(|(_, value)| match value {
            Value::String(text) => Some(text.to_vec()),
            _ => None,
        })
    }

    /// Passes the entries of the slots before number `slot`.
    pub(super) fn seek(&mut self, slot: u64) -> Option<()> {
        let mut next = 0u64;
        loop {
            let mut ahead = self.clone();
            let Some((skipped, _)) = ahead.next() else { return Some(()) };
            next = next.checked_add(skipped)?;
            if next >= slot {
                return Some(());
            }
            next += 1;
            *self = ahead;
        }
    }

    /// The escape of slot number `slot`, if it has one.
    pub(super) fn find(mut self, slot: u64) -> Option<Value<'a>> {
        let mut next = 0u64;
        while let Some((skipped, value)) = self.next() {
            next = next.checked_add(skipped)?;
            if next >= slot {
                return (next == slot).then_some(value);
            }
            next += 1;
        }
        None
    }
}

fn mantissa(bytes: &[u8]) -> Option<i64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let zigzag = u64::from_le_bytes(word);
    Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}
