//! A set of object names with a number for each, made once and asked for every name of every payload. Called by `plan`.

use super::unescape::unescaped_eq;

/// Open addressing over a table at least four times as large as the set, so that most names that are not in it meet an
/// empty place at once and are not compared with anything.
#[derive(Debug, Default)]
pub(super) struct Keys {
    names: Vec<(Box<[u8]>, u32)>,
    /// Index into `names`, or `EMPTY`.
    table: Box<[u16]>,
}

const EMPTY: u16 = u16::MAX;

impl Keys {
    /// `names` are distinct and fewer than 65,535.
    pub fn new(names: Vec<(Box<[u8]>, u32)>) -> Keys {
        let size = if names.is_empty() { 0 } else { (names.len() * 4).next_power_of_two() };
        let mut table = vec![EMPTY; size].into_boxed_slice();
        for (index, (name, _)) in names.iter().enumerate() {
            let mut at = digest(name) as usize & (size - 1);
            while table[at] != EMPTY {
                at = (at + 1) & (size - 1);
            }
            table[at] = index as u16;
        }
        Keys { names, table }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The number of a name.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        let mask = self.table.len().checked_sub(1)?;
        let mut at = digest(name) as usize & mask;
        while self.table[at] != EMPTY {
            let (candidate, number) = &self.names[self.table[at] as usize];
            if **candidate == *name {
                return Some(*number);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The number of a name that is written with escapes, "\u0061" for "a".
    #[cold]
    pub fn find_escaped(&self, raw: &[u8]) -> Option<u32> {
        self.names.iter().find(|(name, _)| unescaped_eq(raw, name)).map(|(_, number)| *number)
    }
}

/// Mixes the length, the first and the last eight bytes; names of fewer are covered by two overlapping reads.
#[inline(always)]
fn digest(name: &[u8]) -> u64 {
    let (first, last) = if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64)
    } else {
        let byte = |at: usize| name.get(at).copied().unwrap_or(0) as u64;
        (byte(0) | byte(1) << 8, byte(2))
    };
    let mixed = (first ^ last.rotate_left(29) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed >> 32
}
