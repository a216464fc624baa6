//! Looking at eight bytes at a time, as one number: where a string's plain text ends and how long a run of digits is.
//! Called by `scan` for every string and number. Safe code, and no instruction that a 64-bit machine may lack.

const ONES: u64 = 0x0101_0101_0101_0101;

/// How many bytes from the start are neither a quote, a backslash nor a control character. Eight at a time: in each
/// test the lowest marked byte is exact, borrows only disturb those above it (Mycroft's zero-byte test).
#[inline(always)]
pub(super) fn plain(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

/// How many bytes from the start are digits. Numbers are short and of unforeseeable length: one test for eight bytes
/// spares a branch that the processor would guess wrong once per number.
#[inline(always)]
pub(super) fn digits(bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(word) = bytes[count..].first_chunk() {
        // A digit is 0x30 to 0x39: with 0x30 taken away it is at most 9, and adding 0x76 does not reach the top bit.
        // Carries only disturb bytes above one that is marked already.
        let word = u64::from_le_bytes(*word) ^ (0x30 * ONES);
        let others = (word.wrapping_add(0x76 * ONES) | word) & (0x80 * ONES);
        if others != 0 {
            return count + others.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    count + bytes[count..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[inline(always)]
fn special(word: u64) -> u64 {
    // A quote is 0x22: with bit 1 flipped, quotes and control characters are exactly the bytes below 0x21.
    let quote_or_control = (word ^ (0x02 * ONES)).wrapping_sub(0x21 * ONES);
    let backslash = (word ^ (b'\\' as u64 * ONES)).wrapping_sub(ONES);
    // Bytes of 0x80 and up are text, and the two subtractions above can only mark them by accident.
    (quote_or_control | backslash) & !word & (0x80 * ONES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_at_every_place() {
        for byte in 0..=255u8 {
            for at in 0..20 {
                let mut text = [b'5'; 20];
                text[at] = byte;
                let is_plain = !matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(plain(&text), if is_plain { 20 } else { at }, "{byte:#x} at {at}");
                assert_eq!(digits(&text), if byte.is_ascii_digit() { 20 } else { at }, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn the_first_of_several_counts() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let text = [b'1', first, second, b'"', b'1', b'1', b'1', b'1'];
                let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(plain(&text), text.iter().position(ends).unwrap());
                assert_eq!(digits(&text), text.iter().position(|byte| !byte.is_ascii_digit()).unwrap());
            }
        }
    }
}
