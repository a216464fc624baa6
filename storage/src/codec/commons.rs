//! The usual values of a slot: tokens that come again and again (states, firmware versions, booleans, null), found by
//! a small hash table of their text. Called by slots; knows nothing of JSON.

use super::scalar::load8;

/// Longest usual value in bytes.
pub(super) const MAX_LENGTH: usize = 255;
/// Most usual values of a slot.
pub(super) const MAX_COUNT: usize = 1023;

/// Bytes of pieces that are copied and compared at once.
pub(super) const HEAD: usize = 32;

/// Bytes of a usual value that lie beside its length.
const NEAR: usize = 24;

/// Usual values, numbered from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Commons {
    values: Vec<Common>,
    /// What of longer values is behind their first bytes.
    rests: Vec<u8>,
    /// Open addressing by hash: value number + 1, 0 is free. Empty without values, else over half is free.
    table: Vec<u16>,
    shift: u32,
}

/// A value: half a cache line, so that a look at it is one miss at most. Zeros behind a short text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(align(32))]
struct Common {
    head: [u8; NEAR],
    /// Where in `rests` the text goes on, if it is longer.
    rest: u32,
    length: u8,
}
const _: () = assert!(size_of::<Common>() == 32 && MAX_LENGTH <= u8::MAX as usize);

impl Commons {
    pub(super) fn new(texts: Vec<Vec<u8>>) -> Commons {
        let bits = (texts.len().max(2) * 4 - 1).ilog2() + 1;
        let mut commons = Commons {
            values: Vec::with_capacity(texts.len()),
            rests: Vec::new(),
            table: vec![0; 1 << bits],
            shift: 64 - bits,
        };
        for text in texts {
            commons.add(text);
        }
        if commons.values.is_empty() {
            commons.table = Vec::new();
        }
        commons
    }

    fn add(&mut self, text: Vec<u8>) {
        let mut padded = text.clone();
        padded.resize(text.len() + NEAR, 0);
        let mut place = hash(&padded, 0, text.len()) >> self.shift;
        while self.table[place as usize] != 0 {
            place = (place + 1) & (self.table.len() as u64 - 1);
        }
        let head = *padded.first_chunk().expect("padded to more than a head");
        self.values.push(Common { head, rest: self.rests.len() as u32, length: text.len() as u8 });
        self.rests.extend(text.get(NEAR..).unwrap_or_default());
        self.table[place as usize] = self.values.len() as u16;
    }

    /// How many there are.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = Vec<u8>> {
        self.values.iter().map(|value| {
            let near = &value.head[..value.length().min(NEAR)];
            [near, self.rest(value).unwrap_or_default()].concat()
        })
    }

    /// Longest text.
    pub(super) fn longest(&self) -> usize {
        self.values.iter().map(Common::length).max().unwrap_or(0)
    }

    /// The number of the value that is `text[at..end]`; `text` is padded.
    #[inline(always)]
    pub(super) fn find(&self, text: &[u8], at: usize, end: usize) -> Option<usize> {
        if self.values.is_empty() {
            return None;
        }
        let mut place = (hash(text, at, end - at) >> self.shift) as usize;
        loop {
            let number = usize::from(*self.table.get(place)?).checked_sub(1)?;
            if self.is(&self.values[number], text, at, end) {
                return Some(number);
            }
            place = (place + 1) & (self.table.len() - 1);
        }
    }

    #[inline(always)]
    fn is(&self, value: &Common, text: &[u8], at: usize, end: usize) -> bool {
        let length = end - at;
        let differs = |found: &[u8; NEAR]| {
            let (found, head, mask) = (near(found), near(&value.head), &MASKS[length.min(NEAR)]);
            ((found[0] & mask[0]) ^ head[0])
                | ((found[1] & mask[1]) ^ head[1])
                | ((found[2] & mask[2]) ^ head[2])
                != 0
        };
        length == value.length()
            && !text.get(at..).and_then(|rest| rest.first_chunk()).is_none_or(differs)
            && (length <= NEAR || self.rest(value) == text.get(at + NEAR..end))
    }

    /// What of a value is behind its first bytes; nothing if it is short.
    fn rest(&self, value: &Common) -> Option<&[u8]> {
        let length = value.length().checked_sub(NEAR).filter(|length| *length > 0)?;
        self.rests.get(value.rest as usize..value.rest as usize + length)
    }

    /// Writes the text of value `number` to the start of `out`, with other bytes behind a short one; returns its length.
    #[inline(always)]
    pub(super) fn print(&self, number: usize, out: &mut [u8]) -> Option<usize> {
        let value = self.values.get(number)?;
        *out.first_chunk_mut()? = value.head;
        if let Some(rest) = self.rest(value) {
            out.get_mut(NEAR..NEAR + rest.len())?.copy_from_slice(rest);
        }
        Some(value.length())
    }
}

impl Common {
    #[inline(always)]
    fn length(&self) -> usize {
        usize::from(self.length)
    }
}

/// Three words, the first bytes in the lowest.
#[inline(always)]
fn near(bytes: &[u8; NEAR]) -> [u64; 3] {
    let (words, _) = bytes.as_chunks::<8>();
    [words[0], words[1], words[2]].map(u64::from_le_bytes)
}

/// Not zero if the first `length` bytes of `found` are not those of `head`, whose others are zero.
#[inline(always)]
pub(super) fn masked_difference(found: &[u8; HEAD], head: &[u8; HEAD], length: usize) -> u64 {
    let (found, mask, head) = (words(found), &MASKS[length.min(HEAD)], words(head));
    let wrong = |i: usize| (found[i] & mask[i]) ^ head[i];
    (wrong(0) | wrong(1)) | (wrong(2) | wrong(3))
}

/// Four words, the first bytes in the lowest.
#[inline(always)]
fn words(bytes: &[u8; HEAD]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    [words[0], words[1], words[2], words[3]].map(u64::from_le_bytes)
}

/// Per length, the words with 0xff in as many bytes.
const MASKS: [[u64; 4]; HEAD + 1] = {
    let mut masks = [[0; 4]; HEAD + 1];
    let mut length = 0;
    while length <= HEAD {
        let mut byte = 0;
        while byte < length {
            masks[length][byte / 8] |= 0xff << (8 * (byte % 8));
            byte += 1;
        }
        length += 1;
    }
    masks
};

/// Of the first eight bytes, the last eight and the length.
#[inline(always)]
fn hash(text: &[u8], at: usize, length: usize) -> u64 {
    let first = load8(text, at).unwrap_or(0);
    let kept = if length < 8 { first & ((1 << (8 * length)) - 1) } else { first };
    let last = if length > 8 { load8(text, at + length - 8).unwrap_or(0) } else { 0 };
    let mixed = kept ^ last.rotate_left(29) ^ ((length as u64) << 57);
    let product = u128::from(mixed) * 0x9e37_79b9_7f4a_7c15;
    ((product as u64) ^ (product >> 64) as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_and_no_other() {
        let texts: Vec<Vec<u8>> = (0..700)
            .map(|i| format!("\"{} value {}\"", "long ".repeat(i % 20), i * i).into_bytes())
            .collect();
        let commons = Commons::new(texts.clone());
        assert!(commons.texts().eq(texts.iter().cloned()));
        for (number, text) in texts.iter().enumerate() {
            let mut padded = text.clone();
            padded.resize(text.len() + 64, 0);
            assert_eq!(commons.find(&padded, 0, text.len()), Some(number));
            assert_eq!(commons.find(&padded, 0, text.len() - 1), None);
            let mut out = [0; 64 + MAX_LENGTH];
            assert_eq!(commons.print(number, &mut out), Some(text.len()));
            assert_eq!(&out[..text.len()], &text[..]);
        }
    }
}
