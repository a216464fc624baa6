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
            if value.text.len() == end - at && *value.text == text[at..end] {
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
