//! Little-endian bit fields: the first field is in the lowest bits of the first byte. Written in order, read anywhere.
//! Called by encode, decode and bindings; knows nothing of what the fields mean.

use super::scalar::load8;

/// Widest field.
pub(super) const MAX_WIDTH: u32 = 62;
/// Widest field that is one load or store.
const WORD_WIDTH: u32 = 56;

/// Fields in the order they were put.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    at: usize,
    pending: u64,
    pending_bits: u32,
}

impl BitWriter {
    /// Starts again, keeping the memory.
    pub(super) fn clear(&mut self) {
        (self.at, self.pending, self.pending_bits) = (0, 0, 0);
    }

    /// Room for `bits` more.
    #[inline(always)]
    pub(super) fn reserve(&mut self, bits: u32) {
        let needed = self.at + bits as usize / 8 + 24;
        if self.bytes.len() < needed {
            self.bytes.resize(needed * 2, 0);
        }
    }

    /// Appends a field; `value` has no bits above `width`, which is at most `MAX_WIDTH`, and room is reserved.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u64, width: u32) {
        if width > WORD_WIDTH {
            self.put_word(value & 0xffff_ffff, 32);
            self.put_word(value >> 32, width - 32);
        } else {
            self.put_word(value, width);
        }
    }

    #[inline(always)]
    fn put_word(&mut self, value: u64, width: u32) {
        self.pending |= value << self.pending_bits;
        self.pending_bits += width;
        self.bytes[self.at..self.at + 8].copy_from_slice(&self.pending.to_le_bytes());
        self.at += (self.pending_bits / 8) as usize;
        self.pending >>= self.pending_bits & 0x38;
        self.pending_bits &= 7;
    }

    /// All fields, the last byte filled with zero bits.
    pub(super) fn finish(&mut self) -> &mut [u8] {
        let length = self.at + usize::from(self.pending_bits > 0);
        &mut self.bytes[..length]
    }
}

/// The field of `width` bits at bit `at`; bits behind the end are zero.
#[inline(always)]
pub(super) fn get(bytes: &[u8], at: usize, width: u32) -> u64 {
    if width > WORD_WIDTH {
        return get_word(bytes, at, 32) | (get_word(bytes, at + 32, width - 32) << 32);
    }
    get_word(bytes, at, width)
}

#[inline(always)]
fn get_word(bytes: &[u8], at: usize, width: u32) -> u64 {
    let word = match load8(bytes, at / 8) {
        Some(word) => word,
        None => load_end(bytes, at / 8),
    };
    (word >> (at % 8)) & ((1u64 << width) - 1)
}

/// Eight bytes at `at`, those behind the end zero.
#[inline(always)]
fn load_end(bytes: &[u8], at: usize) -> u64 {
    let missing = (at + 8).saturating_sub(bytes.len());
    match bytes.last_chunk::<8>() {
        Some(last) if missing < 8 => u64::from_le_bytes(*last) >> (8 * missing),
        Some(_) => 0,
        None => load_short(bytes, at),
    }
}

#[cold]
fn load_short(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// Appends a LEB128 number.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a LEB128 number from the front of `bytes`.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_come_back_from_their_places(fields in prop::collection::vec((any::<u64>(), 0u32..=MAX_WIDTH), 0..50)) {
            let mut writer = BitWriter::default();
            for (value, width) in &fields {
                writer.reserve(*width);
                writer.put(value & ((1 << width) - 1), *width);
            }
            let bytes = writer.finish().to_vec();
            let mut at = 0;
            for (value, width) in fields {
                prop_assert_eq!(get(&bytes, at, width), value & ((1 << width) - 1));
                at += width as usize;
            }
            prop_assert_eq!(bytes.len(), at.div_ceil(8));
        }

        #[test]
        fn varints_come_back(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(take_varint(&mut &bytes[..]), Some(value));
        }
    }
}
