//! The usual values of a slot: tokens that come again and again (states, firmware versions, booleans, null), found by
//! a small hash table of their text. Called by slots; knows nothing of JSON.

use super::scalar::load8;

/// Longest usual value in bytes.
pub(super) const MAX_LENGTH: usize = 255;
/// Most usual values of a slot.
pub(super) const MAX_COUNT: usize = 1023;

/// Bytes copied and compared at once.
pub(super) const HEAD: usize = 32;

/// Usual values, numbered from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Commons {
    values: Vec<Common>,
    /// Open addressing by hash: value number + 1, 0 is free. Empty without values, else over half is free.
    table: Vec<u16>,
    shift: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Common {
    head: [u8; HEAD],
    text: Box<[u8]>,
}

impl Commons {
    pub(super) fn new(texts: Vec<Vec<u8>>) -> Commons {
        let bits = (texts.len().max(2) * 4 - 1).ilog2() + 1;
        let mut commons = Commons { values: Vec::new(), table: vec![0; 1 << bits], shift: 64 - bits };
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
        padded.resize(text.len() + HEAD, 0);
        let mut place = hash(&padded, 0, text.len()) >> self.shift;
        while self.table[place as usize] != 0 {
            place = (place + 1) & (self.table.len() as u64 - 1);
        }
        let head = *padded.first_chunk().expect("padded to more than a head");
        self.values.push(Common { head, text: text.into() });
        self.table[place as usize] = self.values.len() as u16;
    }

    /// How many there are.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.values.iter().map(|value| &*value.text)
    }

    /// Longest text.
    pub(super) fn longest(&self) -> usize {
        self.texts().map(<[u8]>::len).max().unwrap_or(0)
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
            let value = &self.values[number];
            if value.is(text, at, end) {
                return Some(number);
            }
            place = (place + 1) & (self.table.len() - 1);
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<&Common> {
        self.values.get(number)
    }
}

impl Common {
    #[inline(always)]
    fn is(&self, text: &[u8], at: usize, end: usize) -> bool {
        let length = end - at;
        let differs = |found: &[u8; HEAD]| masked_difference(found, &self.head, length) != 0;
        length == self.text.len()
            && !text.get(at..).and_then(|rest| rest.first_chunk()).is_none_or(differs)
            && (length <= HEAD || self.text[HEAD..] == text[at + HEAD..end])
    }

    /// Writes the text to the start of `out`, with up to a head of other bytes behind it; returns its length.
    #[inline(always)]
    pub(super) fn print(&self, out: &mut [u8]) -> Option<usize> {
        *out.first_chunk_mut()? = self.head;
        if self.text.len() > HEAD {
            out.get_mut(..self.text.len())?.copy_from_slice(&self.text);
        }
        Some(self.text.len())
    }
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
        let texts: Vec<Vec<u8>> = (0..700).map(|i| format!("\"value {}\"", i * i).into_bytes()).collect();
        let commons = Commons::new(texts.clone());
        for (number, text) in texts.iter().enumerate() {
            let mut padded = text.clone();
            padded.resize(text.len() + 64, 0);
            assert_eq!(commons.find(&padded, 0, text.len()), Some(number));
            assert_eq!(commons.find(&padded, 0, text.len() - 1), None);
        }
    }
}
