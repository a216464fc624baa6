//! The tail of a stored payload: the values that did not fit their slots, in order, each with the number of slots
//! passed since the one before. Called by slots, encode, decode and bindings.
//!
//! An entry is `skipped: varint`, `length * 4 + form: varint`, then `length` bytes. Forms: 0 the token as it stands,
//! 1 a string without its quotes, 2 the mantissa of a number in its slot's form, zigzag, little-endian, no zero bytes at its end.

use super::bits::{put_varint, take_varint};

const VERBATIM: u64 = 0;
const STRING: u64 = 1;
const MANTISSA: u64 = 2;

/// Collects escapes; told of every slot.
#[derive(Debug, Default)]
pub(super) struct TailWriter {
    bytes: Vec<u8>,
    skipped: u64,
    escapes: u32,
}

/// An escaped value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// The token as it stands.
    Verbatim(&'a [u8]),
    /// A string without its quotes.
    String(&'a [u8]),
    /// A number in its slot's form.
    Mantissa(i64),
}

impl TailWriter {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.skipped = 0;
        self.escapes = 0;
    }

    /// A slot without escape.
    #[inline(always)]
    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// A slot whose number is out of its range.
    #[cold]
    pub(super) fn number(&mut self, mantissa: i64) {
        let zigzag = ((mantissa << 1) ^ (mantissa >> 63)) as u64;
        let length = 8 - zigzag.leading_zeros() as usize / 8;
        self.entry(MANTISSA, &zigzag.to_le_bytes()[..length]);
    }

    /// A slot with another token.
    pub(super) fn token(&mut self, token: &[u8]) {
        match token {
            [b'"', inner @ .., b'"'] => self.entry(STRING, inner),
            _ => self.entry(VERBATIM, token),
        }
    }

    fn entry(&mut self, form: u64, bytes: &[u8]) {
        put_varint(&mut self.bytes, self.skipped);
        put_varint(&mut self.bytes, bytes.len() as u64 * 4 + form);
        self.bytes.extend_from_slice(bytes);
        self.skipped = 0;
        self.escapes += 1;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
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
            _ => return None,
        };
        Some((skipped, value))
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
