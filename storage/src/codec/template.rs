//! Strings of one length in which every character is either always the same or a hexadecimal digit: UUIDs, MAC
//! addresses, hex identifiers, times of day. Four bits per digit are stored, nothing for the rest. Called by slots.

use super::bits::{self, BitWriter};
use super::scalar::load8;

/// Longest token, quotes included.
pub(super) const MAX_LENGTH: usize = 64;

const ONES: u64 = 0x0101_0101_0101_0101;

/// A template, worked out for eight characters at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// The token with its quotes; at a digit's place any character.
    text: Vec<u8>,
    /// Per character: a hexadecimal digit.
    digit: Vec<bool>,
    /// What a letter is above its value less ten, less the place of `9`: 39 for lower case, 7 for upper.
    letter: u64,
    words: Vec<Word>,
    bits: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Word {
    /// 0xff at digits.
    digits: u64,
    /// The other characters, zero at digits.
    fixed: u64,
    /// 0xff at characters of the token.
    used: u64,
    /// Runs of characters that are no digits: (bits of the packed digits before the run, its length in bits).
    gaps: Vec<(u32, u32)>,
    bits: u32,
}

impl Template {
    /// From a token's text and which of its characters are digits. Nothing if it is too long or would not be a valid
    /// JSON string for all digits.
    pub(super) fn new(text: Vec<u8>, digit: Vec<bool>, upper: bool) -> Option<Template> {
        let length = text.len();
        let inner = length.checked_sub(1)?;
        let fits = (2..=MAX_LENGTH).contains(&length) && digit.len() == length;
        let plain = |(at, byte): (usize, &u8)| match (at == 0 || at == inner, digit[at]) {
            (true, digit) => *byte == b'"' && !digit,
            (false, digit) => digit || (matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')),
        };
        if !fits || !text.iter().enumerate().all(plain) {
            return None;
        }
        let words: Vec<Word> =
            text.chunks(8).zip(digit.chunks(8)).map(|(text, digit)| Word::new(text, digit)).collect();
        let bits = words.iter().map(|word| word.bits).sum();
        Some(Template { text, digit, letter: if upper { 7 } else { 39 }, words, bits })
    }

    /// What describes it: text, digits, upper case.
    pub(super) fn parts(&self) -> (&[u8], &[bool], bool) {
        (&self.text, &self.digit, self.letter == 7)
    }

    /// Length of the token.
    pub(super) fn length(&self) -> usize {
        self.text.len()
    }

    /// Bits of its digits.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// Packs the token at `at` into `packed`; false if it does not fit.
    #[inline]
    pub(super) fn read(&self, text: &[u8], at: usize, packed: &mut Packed) -> bool {
        let mut wrong = 0;
        for (index, word) in self.words.iter().enumerate() {
            let Some(chars) = load8(text, at + 8 * index) else { return false };
            let (values, printed) = values(chars & word.digits, self.letter);
            wrong |= ((printed & word.digits) | word.fixed) ^ (chars & word.used);
            packed[index & 7] = word.squeeze(pack(values & word.digits));
        }
        wrong == 0
    }

    /// Appends what `read` packed.
    #[inline]
    pub(super) fn put(&self, packed: &Packed, bits: &mut BitWriter) {
        for (index, word) in self.words.iter().enumerate() {
            bits.put(u64::from(packed[index & 7]), word.bits);
        }
    }

    /// Writes the token whose digits are at bit `at` to the start of `out`.
    #[inline]
    pub(super) fn print(&self, stored: &[u8], mut at: usize, out: &mut [u8; MAX_LENGTH]) {
        for (word, out) in self.words.iter().zip(out.chunks_exact_mut(8)) {
            let values = unpack(word.spread(bits::get(stored, at, word.bits) as u32));
            let printed = (print(values, self.letter) & word.digits) | word.fixed;
            out.copy_from_slice(&printed.to_le_bytes());
            at += word.bits as usize;
        }
    }
}

/// Digits of each word.
pub(super) type Packed = [u32; MAX_LENGTH / 8];

impl Word {
    fn new(text: &[u8], digit: &[bool]) -> Word {
        let mut word = Word::default();
        for (place, (byte, digit)) in text.iter().zip(digit).enumerate() {
            let mask = 0xffu64 << (8 * place);
            word.used |= mask;
            if *digit {
                word.digits |= mask;
                word.bits += 4;
            } else {
                word.fixed |= u64::from(*byte) << (8 * place);
                match word.gaps.last_mut() {
                    Some((at, length)) if *at == word.bits => *length += 4,
                    _ => word.gaps.push((word.bits, 4)),
                }
            }
        }
        word
    }

    /// Closes the gaps, the first first: places are counted without the gaps before them.
    #[inline(always)]
    fn squeeze(&self, mut packed: u32) -> u32 {
        for (at, length) in &self.gaps {
            let low = ((1u64 << at) - 1) as u32;
            packed = (packed & low) | (((u64::from(packed & !low)) >> length) as u32 & !low);
        }
        packed
    }

    #[inline(always)]
    fn spread(&self, mut packed: u32) -> u32 {
        for (at, length) in self.gaps.iter().rev() {
            let low = ((1u64 << at) - 1) as u32;
            packed = (packed & low) | ((u64::from(packed & !low) << length) as u32);
        }
        packed
    }
}

/// The values of eight hexadecimal digits, and how these values are printed (equal to `chars` if they were digits).
#[inline(always)]
fn values(chars: u64, letter: u64) -> (u64, u64) {
    let letters = (chars >> 6) & ONES;
    let values = ((chars & (ONES * 15)) + letters * 9) & (ONES * 15);
    (values, print(values, letter))
}

#[inline(always)]
fn print(values: u64, letter: u64) -> u64 {
    let letters = ((values + ONES * 6) >> 4) & ONES;
    values + ONES * u64::from(b'0') + letters * letter
}

/// Eight values of four bits, one a byte, side by side.
#[inline(always)]
fn pack(values: u64) -> u32 {
    let pairs = (values | (values >> 4)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    (fours | (fours >> 16)) as u32
}

#[inline(always)]
fn unpack(packed: u32) -> u64 {
    let packed = u64::from(packed);
    let fours = (packed | (packed << 16)) & 0x0000_ffff_0000_ffff;
    let pairs = (fours | (fours << 8)) & 0x00ff_00ff_00ff_00ff;
    (pairs | (pairs << 4)) & (ONES * 15)
}

#[cfg(test)]
mod tests {
    use super::super::scalar::PAD;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_come_back_and_others_are_refused(
            cells in prop::collection::vec((any::<bool>(), "[a-z:. -]", 0u8..16), 0..62), upper: bool, change: (u8, u8)
        ) {
            let hex = |value: u8| {
                let digit = char::from_digit(value.into(), 16).unwrap();
                if upper { digit.to_ascii_uppercase() as u8 } else { digit as u8 }
            };
            let mut token = vec![b'"'];
            token.extend(cells.iter().map(|(digit, fixed, value)| if *digit { hex(*value) } else { fixed.as_bytes()[0] }));
            token.push(b'"');
            let mut digit = vec![false];
            digit.extend(cells.iter().map(|cell| cell.0));
            digit.push(false);
            let template = Template::new(token.clone(), digit.clone(), upper).unwrap();
            let mut text = token.clone();
            text.resize(token.len() + PAD, 0);
            let mut packed = Packed::default();
            prop_assert!(template.read(&text, 0, &mut packed));
            let mut bits = BitWriter::default();
            bits.reserve(template.bits());
            template.put(&packed, &mut bits);
            let mut out = [0; MAX_LENGTH];
            template.print(bits.finish(), 0, &mut out);
            prop_assert_eq!(&out[..token.len()], &token[..]);
            let place = usize::from(change.0) % token.len();
            text[place] = change.1;
            let fits = if digit[place] { (0..16).any(|value| hex(value) == change.1) } else { token[place] == change.1 };
            prop_assert_eq!(template.read(&text, 0, &mut packed), fits);
        }
    }
}
