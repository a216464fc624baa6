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
/// Bits of the hashes by which symbols of three or more bytes, and of two, are found.
const LONG_BITS: u32 = 10;
const PAIR_BITS: u32 = 11;
/// Parts of a text that are coded side by side, and the length from which on it is cut into them.
const LANES: usize = 4;
const SPLIT_BYTES: usize = 128;
/// How far behind its place a cut may go to the end of a word.
const WORD_BYTES: usize = 16;

/// Symbols, ready for use. Without symbols nothing is coded.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    symbols: Vec<Symbol>,
    finder: Option<Box<Finder>>,
}

/// Finds the symbol at the start of a text: the longest kind first, by its first bytes.
#[derive(Debug)]
struct Finder {
    /// By hash of the first three bytes.
    long: [Candidate; 1 << LONG_BITS],
    /// By hash of both bytes.
    pairs: [(u16, Found); 1 << PAIR_BITS],
    singles: [Found; 256],
}

/// What is at a place of a finder: fits if the text has its bytes.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    bytes: u64,
    /// Bits of a word that are not the symbol's.
    rest: u8,
    found: Found,
}

/// A symbol's code, or that of a literal, and how many bytes of the text it stands for.
#[derive(Debug, Clone, Copy)]
struct Found {
    code: u8,
    length: u8,
}

const A_LITERAL: Found = Found { code: LITERAL, length: 1 };
/// Fits eight zero bytes, which are a literal indeed: symbols have no zero bytes.
const NOTHING: Candidate = Candidate { bytes: 0, rest: 0, found: A_LITERAL };

#[derive(Debug, Clone, Copy, Default)]
struct Symbol {
    /// Its bytes, the first lowest.
    bytes: u64,
    length: u32,
}

impl Finder {
    fn new(symbols: &[Symbol]) -> Box<Finder> {
        let mut finder = Box::new(Finder {
            long: [NOTHING; 1 << LONG_BITS],
            pairs: [(0, A_LITERAL); 1 << PAIR_BITS],
            singles: [A_LITERAL; 256],
        });
        for (code, symbol) in symbols.iter().enumerate() {
            let found = Found { code: code as u8, length: symbol.length as u8 };
            finder.add(*symbol, found);
        }
        finder
    }

    /// Where a symbol's place is taken by a better one, it is kept for decoding only.
    fn add(&mut self, symbol: Symbol, found: Found) {
        let bytes = symbol.bytes;
        match symbol.length {
            1 => self.singles[bytes as usize] = found,
            2 => {
                let place = &mut self.pairs[pair_place(bytes)];
                *place = if place.0 == 0 { (bytes as u16, found) } else { *place };
            }
            _ => {
                let place = &mut self.long[long_place(bytes)];
                let candidate = Candidate { bytes, rest: 64 - 8 * symbol.length as u8, found };
                *place = if place.bytes == 0 { candidate } else { *place };
            }
        }
    }

    /// The symbol at the start of a word, or the literal of its first byte.
    #[inline(always)]
    fn find(&self, word: u64) -> Found {
        let (long, pair) = (&self.long[long_place(word)], &self.pairs[pair_place(word)]);
        let shorter = if pair.0 == word as u16 { pair.1 } else { self.singles[word as usize & 0xff] };
        if (word ^ long.bytes) << long.rest == 0 { long.found } else { shorter }
    }

    /// Codes the rest of a lane.
    #[inline]
    fn finish(&self, text: &[u8], lane: &mut Lane, out: &mut [u8]) {
        while lane.at < lane.until {
            let word = load8(text, lane.at).unwrap_or_default();
            // No symbol has zero bytes: none goes on behind the lane.
            let left = (lane.until - lane.at).min(MAX_LENGTH);
            self.step(word & (u64::MAX >> (64 - 8 * left)), lane, out);
        }
    }

    /// Codes what is at a place of a text. No branch is foretold by what the text says next: a byte is written behind
    /// each code, and overwritten if that was no literal.
    #[inline(always)]
    fn step(&self, word: u64, lane: &mut Lane, out: &mut [u8]) {
        let found = self.find(word);
        out[lane.end..lane.end + 2].copy_from_slice(&[found.code, word as u8]);
        lane.end += 1 + usize::from(found.code == LITERAL);
        lane.at += usize::from(found.length);
    }
}

/// A part of a text on its way to codes.
#[derive(Debug, Clone, Copy)]
struct Lane {
    at: usize,
    until: usize,
    /// Where its codes begin, and where the next goes.
    start: usize,
    end: usize,
}

impl Symbols {
    /// From their texts, the most useful first. Nothing if there are too many, or one is too long, empty, or has a zero byte.
    pub(super) fn new(texts: &[Vec<u8>]) -> Option<Symbols> {
        let good = |text: &Vec<u8>| (1..=MAX_LENGTH).contains(&text.len()) && !text.contains(&0);
        if texts.len() > MAX_SYMBOLS || !texts.iter().all(good) {
            return None;
        }
        let symbol = |text: &Vec<u8>| {
            let mut word = [0; 8];
            word[..text.len()].copy_from_slice(text);
            Symbol { bytes: u64::from_le_bytes(word), length: text.len() as u32 }
        };
        let symbols: Vec<Symbol> = texts.iter().map(symbol).collect();
        let finder = (!symbols.is_empty()).then(|| Finder::new(&symbols));
        Some(Symbols { symbols, finder })
    }

    pub(super) fn texts(&self) -> Vec<Vec<u8>> {
        let text = |symbol: &Symbol| symbol.bytes.to_le_bytes()[..symbol.length as usize].to_vec();
        self.symbols.iter().map(text).collect()
    }

    /// Appends the codes of `text[..length]`, which has eight more bytes behind it; false if there are no symbols. Each step
    /// waits for the one before, so parts of a long text are coded side by side; what they give is put together.
    pub(super) fn pack(&self, text: &[u8], length: usize, out: &mut Vec<u8>) -> bool {
        let Some(finder) = &self.finder else { return false };
        let mut end = out.len();
        out.resize(end + 2 * length + LANES, 0);
        if length < SPLIT_BYTES {
            let mut lane = Lane { at: 0, until: length, start: end, end };
            finder.finish(text, &mut lane, out);
            out.truncate(lane.end);
            return true;
        }
        let cuts = cuts(&text[..length]);
        let mut lanes: [Lane; LANES] = std::array::from_fn(|part| {
            let start = end + 2 * cuts[part] + part;
            Lane { at: cuts[part], until: cuts[part + 1], start, end: start }
        });
        while lanes.iter().all(|lane| lane.at + MAX_LENGTH <= lane.until) {
            for lane in &mut lanes {
                finder.step(load8(text, lane.at).unwrap_or_default(), lane, out);
            }
        }
        for lane in &mut lanes {
            finder.finish(text, lane, out);
            out.copy_within(lane.start..lane.end, end);
            end += lane.end - lane.start;
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
            let found = self.finder.as_ref().zip(load8(&padded, at)).map(|(finder, word)| finder.find(word));
            let length = found.map_or(1, |found| usize::from(found.length));
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

/// Where a text is cut: behind words, since symbols are learned from whole texts and a cut word takes more of them.
fn cuts(text: &[u8]) -> [usize; LANES + 1] {
    std::array::from_fn(|part| match part {
        0 => 0,
        LANES => text.len(),
        _ => {
            let nominal = text.len() * part / LANES;
            let near = &text[nominal..nominal + WORD_BYTES];
            near.iter().position(|byte| *byte == b' ').map_or(nominal, |space| nominal + space + 1)
        }
    })
}

#[inline(always)]
fn long_place(word: u64) -> usize {
    ((word & 0x00ff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LONG_BITS)) as usize
}

#[inline(always)]
fn pair_place(word: u64) -> usize {
    ((word & 0xffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PAIR_BITS)) as usize
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
        fn long_texts_come_back(words in prop::collection::vec("[a-z\u{e9}]{1,30}", 10..80)) {
            let texts: Vec<Vec<u8>> = words.chunks(10).map(|words| words.join(" ").into_bytes()).collect();
            let symbols = Symbols::learn(&texts);
            let text = words.join(" ").into_bytes();
            let mut padded = text.clone();
            padded.extend_from_slice(b"the next");
            let (mut codes, mut back) = (Vec::new(), Vec::new());
            if symbols.pack(&padded, text.len(), &mut codes) {
                symbols.unpack(&codes, &mut back).unwrap();
                prop_assert_eq!(back, text);
            }
        }

        #[test]
        fn damaged_codes_never_panic(codes in prop::collection::vec(any::<u8>(), 0..40)) {
            let symbols = Symbols::new(&[b"the ".to_vec(), b"a".to_vec()]).unwrap();
            symbols.unpack(&codes, &mut Vec::new());
        }
    }
}
