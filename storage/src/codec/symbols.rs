//! Free text by symbols: up to 255 frequent strings of 1 to 8 bytes, each stored as one byte; any other byte is stored behind
//! an escape byte. Much faster than zstd for short texts, and each text stands alone. After Boncz, Neumann and Leis, FSST:
//! Fast Random Access String Compression (VLDB 2020). Called by encode and by printing of escapes; learned by training.

use std::collections::HashMap;

use super::scalar::load8;

/// Most symbols.
pub(super) const MAX_SYMBOLS: usize = 255;
/// Longest symbol in bytes.
const MAX_LENGTH: usize = 8;
/// The code before a byte that no symbol has.
const LITERAL: u8 = 255;
/// Rounds of learning: each can double the length of symbols.
const ROUNDS: usize = 6;
/// Most bytes of text that are learned from.
const LEARN_BYTES: usize = 64 << 10;
const LONG_BITS: u32 = 10;
const NONE: u16 = 255;

/// Symbols, ready for use. Without symbols nothing is coded.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    symbols: Vec<Symbol>,
    /// By hash of the first three bytes: a symbol of three or more.
    long: Vec<u16>,
    /// By seven bits of the first two bytes each: a symbol of two, or of the first one.
    short: Vec<u16>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Symbol {
    /// Its bytes, the first lowest.
    bytes: u64,
    length: u32,
}

impl Symbol {
    fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.length)
    }
}

impl Symbols {
    /// From their texts, the most useful first. Nothing if there are too many, or one is too long, empty, or has a zero byte.
    pub(super) fn new(texts: &[Vec<u8>]) -> Option<Symbols> {
        if texts.is_empty() {
            return Some(Symbols::default());
        }
        let good = |text: &Vec<u8>| (1..=MAX_LENGTH).contains(&text.len()) && !text.contains(&0);
        if texts.len() > MAX_SYMBOLS || !texts.iter().all(good) {
            return None;
        }
        let mut symbols =
            Symbols { symbols: Vec::new(), long: vec![NONE; 1 << LONG_BITS], short: vec![NONE; 1 << 14] };
        for text in texts {
            let mut word = [0; 8];
            word[..text.len()].copy_from_slice(text);
            symbols.add(Symbol { bytes: u64::from_le_bytes(word), length: text.len() as u32 });
        }
        Some(symbols)
    }

    /// Where a symbol's place is taken by a better one, it is kept for decoding only.
    fn add(&mut self, symbol: Symbol) {
        let code = self.symbols.len() as u16;
        self.symbols.push(symbol);
        match symbol.length {
            1 => {
                for second in 0..128 {
                    let place = &mut self.short[short_place(symbol.bytes | second << 8)];
                    if *place == NONE || self.symbols[usize::from(*place)].length < 2 {
                        *place = code;
                    }
                }
            }
            2 => self.short[short_place(symbol.bytes)] = code,
            _ => {
                let place = &mut self.long[long_place(symbol.bytes)];
                if *place == NONE {
                    *place = code;
                }
            }
        }
    }

    pub(super) fn texts(&self) -> Vec<Vec<u8>> {
        let text = |symbol: &Symbol| symbol.bytes.to_le_bytes()[..symbol.length as usize].to_vec();
        self.symbols.iter().map(text).collect()
    }

    /// The symbol at the start of a word.
    #[inline(always)]
    fn find(&self, word: u64) -> Option<(u16, Symbol)> {
        let fits = |code: u16| {
            let symbol = *self.symbols.get(usize::from(code))?;
            (word & symbol.mask() == symbol.bytes).then_some((code, symbol))
        };
        fits(self.long[long_place(word)]).or_else(|| fits(self.short[short_place(word)]))
    }

    /// Appends the codes of `text[..length]`, which has eight zero bytes behind it; false if there are no symbols.
    pub(super) fn pack(&self, text: &[u8], length: usize, out: &mut Vec<u8>) -> bool {
        if self.symbols.is_empty() {
            return false;
        }
        let (mut at, mut end) = (0, out.len());
        out.resize(end + 2 * length, 0);
        while at < length {
            let Some(word) = load8(text, at) else { return false };
            match self.find(word) {
                Some((code, symbol)) => {
                    out[end] = code as u8;
                    (at, end) = (at + symbol.length as usize, end + 1);
                }
                None => {
                    out[end..end + 2].copy_from_slice(&[LITERAL, word as u8]);
                    (at, end) = (at + 1, end + 2);
                }
            }
        }
        out.truncate(end);
        true
    }

    /// Appends the text of `codes`; nothing if they are damaged.
    pub(super) fn unpack(&self, codes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut at = out.len();
        out.resize(at + MAX_LENGTH * codes.len() + MAX_LENGTH, 0);
        let mut codes = codes.iter();
        while let Some(code) = codes.next() {
            let symbol = match *code {
                LITERAL => Symbol { bytes: u64::from(*codes.next()?), length: 1 },
                code => *self.symbols.get(usize::from(code))?,
            };
            *out.get_mut(at..)?.first_chunk_mut()? = symbol.bytes.to_le_bytes();
            at += symbol.length as usize;
        }
        out.truncate(at);
        Some(())
    }

    /// Learned from `texts`: in rounds, the text is coded by what is known, and the best of symbols and pairs of neighbours are kept.
    pub(super) fn learn(texts: &[Vec<u8>]) -> Symbols {
        let mut symbols = Symbols::default();
        for _ in 0..ROUNDS {
            let mut gains: HashMap<Vec<u8>, usize> = HashMap::new();
            let mut bytes = 0;
            for text in texts.iter().take_while(|text| {
                bytes += text.len();
                bytes <= LEARN_BYTES
            }) {
                symbols.count(text, &mut gains);
            }
            let mut best: Vec<(Vec<u8>, usize)> = gains
                .into_iter()
                .filter(|(text, gain)| *gain > 2 * text.len() && !text.contains(&0))
                .collect();
            best.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            best.truncate(MAX_SYMBOLS);
            let best: Vec<Vec<u8>> = best.into_iter().map(|(text, _)| text).collect();
            symbols = Symbols::new(&best).unwrap_or_default();
        }
        symbols
    }

    /// Adds the bytes that each symbol of `text`, and each pair of neighbours, would stand for.
    fn count(&self, text: &[u8], gains: &mut HashMap<Vec<u8>, usize>) {
        let mut padded = text.to_vec();
        padded.resize(text.len() + MAX_LENGTH, 0);
        let mut before = 0..0;
        let mut at = 0;
        while at < text.len() {
            let found = if self.symbols.is_empty() {
                None
            } else {
                load8(&padded, at).and_then(|word| self.find(word))
            };
            let length = found.map_or(1, |(_, symbol)| symbol.length as usize);
            *gains.entry(text[at..at + length].to_vec()).or_default() += length;
            let pair = before.start..at + length;
            if !before.is_empty() && pair.len() <= MAX_LENGTH {
                *gains.entry(text[pair.clone()].to_vec()).or_default() += pair.len();
            }
            before = at..at + length;
            at += length;
        }
    }
}

#[inline(always)]
fn long_place(word: u64) -> usize {
    ((word & 0x00ff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LONG_BITS)) as usize
}

#[inline(always)]
fn short_place(word: u64) -> usize {
    ((word & 0x7f) | ((word >> 1) & 0x3f80)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back(texts in prop::collection::vec("[a-e\u{e9} ]{0,40}", 1..40), other in "\\PC{0,40}") {
            let samples: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
            let symbols = Symbols::learn(&samples);
            let symbols = Symbols::new(&symbols.texts()).unwrap();
            for text in samples.iter().chain([&other.into_bytes()]) {
                let mut padded = text.clone();
                padded.resize(text.len() + 8, 0);
                let mut codes = Vec::new();
                if symbols.pack(&padded, text.len(), &mut codes) {
                    let mut back = b"before".to_vec();
                    symbols.unpack(&codes, &mut back).unwrap();
                    prop_assert_eq!(&back[6..], &text[..]);
                }
            }
        }

        #[test]
        fn damaged_codes_never_panic(codes in prop::collection::vec(any::<u8>(), 0..40)) {
            let symbols = Symbols::new(&[b"the ".to_vec(), b"a".to_vec()]).unwrap();
            symbols.unpack(&codes, &mut Vec::new());
        }
    }
}
