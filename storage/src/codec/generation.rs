//! A generation: what was learned of a view at one time, numbered and immutable, and its file. Made by training, loaded
//! by the engine before the first record that needs it. The byte map is in the documentation of `codec`.

use std::sync::{Arc, Weak};

use super::bits::{put_varint, take_varint};
use super::commons::{self, Commons};
use super::graph::{Draft, DraftBlock, END, Graph};
use super::number::Form;
use super::slot::{Kind, Slot};
use super::symbols::Symbols;
use super::template::Template;
use super::zstd::Dictionary;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const MAGIC: [u8; 8] = *b"FBCODEC\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;

/// The shape and the zstd dictionary of a view, learned at one time. Immutable; shared freely between threads, and
/// between generations of several numbers. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Generation {
    number: u32,
    learned: Arc<Learned>,
}

#[derive(Debug)]
struct Learned {
    /// Over its bytes, if it was read from some.
    hash: Option<u128>,
    graph: Graph,
    symbols: Symbols,
    dictionary: Dictionary,
}

/// What generations of several numbers may have in common, as long as one of them is there.
#[derive(Debug)]
pub(crate) struct Content(Weak<Learned>);

/// Why bytes are no generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GenerationError {
    /// Not a generation file at all.
    #[error("not a codec generation: it does not start with FBCODEC")]
    Magic,
    /// Of a version this program does not know.
    #[error("codec generation of version {0}, expected {VERSION}: written by a newer program")]
    Version(u32),
    /// The checksum does not fit: the file is damaged or cut off.
    #[error("codec generation damaged: its checksum does not fit")]
    Checksum,
    /// The checksum fits, the content does not: the program that wrote it was wrong.
    #[error("codec generation invalid: {0}")]
    Invalid(&'static str),
}

impl Generation {
    pub(super) fn new(number: u32, draft: Draft) -> Result<Generation, GenerationError> {
        let graph = Graph::new(draft).map_err(GenerationError::Invalid)?;
        let learned =
            Learned { hash: None, graph, symbols: Symbols::default(), dictionary: Dictionary::empty() };
        Ok(Generation { number, learned: Arc::new(learned) })
    }

    /// One that codes everything by zstd.
    pub(super) fn without_shape(number: u32) -> Generation {
        let nothing = vec![DraftBlock::default()];
        Generation::new(number, nothing).expect("a graph of nothing is valid")
    }

    /// With what codes texts, for one that is being made.
    pub(super) fn with_texts(mut self, symbols: Symbols, dictionary: Dictionary) -> Generation {
        let learned = self.being_made();
        (learned.symbols, learned.dictionary) = (symbols, dictionary);
        self
    }

    fn being_made(&mut self) -> &mut Learned {
        Arc::get_mut(&mut self.learned).expect("what is being made is nobody else's yet")
    }

    /// The same under another number.
    pub(crate) fn renumbered(&self, number: u32) -> Generation {
        Generation { number, learned: self.learned.clone() }
    }

    /// Whether both have one content in memory.
    pub(crate) fn is_copy_of(&self, other: &Generation) -> bool {
        Arc::ptr_eq(&self.learned, &other.learned)
    }

    /// Its content, for others that have the same.
    pub(crate) fn content(&self) -> Content {
        Content(Arc::downgrade(&self.learned))
    }

    /// The same generation on a content that is equal to its own; nothing if nobody has that any more.
    pub(crate) fn with_content(&self, content: &Content) -> Option<Generation> {
        Some(Generation { number: self.number, learned: content.0.upgrade()? })
    }

    /// Names its content, whatever its number; nothing of one that was made and not read.
    pub(crate) fn content_hash(&self) -> Option<u128> {
        self.learned.hash
    }

    /// Its number, given by the caller of training.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Scalars the shape has places for; 0 if nothing was learned and every payload goes to zstd.
    pub fn slots(&self) -> usize {
        self.learned.graph.steps.len()
    }

    /// Size of the zstd dictionary in bytes; 0 if there is none.
    pub fn dictionary_bytes(&self) -> usize {
        self.learned.dictionary.bytes().len()
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.learned.graph
    }

    pub(super) fn symbols(&self) -> &Symbols {
        &self.learned.symbols
    }

    pub(super) fn dictionary(&self) -> &Dictionary {
        &self.learned.dictionary
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        let draft = self.graph().draft();
        put_varint(&mut out, draft.len() as u64);
        for block in &draft {
            put_block(&mut out, block);
        }
        let symbols = self.symbols().texts();
        put_varint(&mut out, symbols.len() as u64);
        symbols.iter().for_each(|text| put_text(&mut out, text));
        put_text(&mut out, self.dictionary().bytes());
        let checksum = xxh3_64(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a file's bytes. Never panics, whatever they are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Generation, GenerationError> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(GenerationError::Magic)?;
        let (header, mut body) = content.split_first_chunk::<HEADER_BYTES>().ok_or(GenerationError::Magic)?;
        if header[..8] != MAGIC {
            return Err(GenerationError::Magic);
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        if word(8) != VERSION {
            return Err(GenerationError::Version(word(8)));
        }
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return Err(GenerationError::Checksum);
        }
        let hash = xxh3_128(body);
        let (draft, symbols, dictionary) =
            take_body(&mut body).ok_or(GenerationError::Invalid("malformed"))?;
        let mut read = Generation::new(word(12), draft)?.with_texts(symbols, dictionary);
        read.being_made().hash = Some(hash);
        Ok(read)
    }
}

impl Content {
    /// Whether some generation has it.
    pub(crate) fn is_used(&self) -> bool {
        self.0.strong_count() > 0
    }
}

fn take_body(body: &mut &[u8]) -> Option<(Draft, Symbols, Dictionary)> {
    let draft = take_list(body, take_block)?;
    let symbols = Symbols::new(&take_list(body, take_text)?)?;
    let dictionary = Dictionary::new(take_text(body)?);
    body.is_empty().then_some((draft, symbols, dictionary))
}

fn put_block(out: &mut Vec<u8>, block: &DraftBlock) {
    put_varint(out, block.steps.len() as u64);
    for (piece, slot) in &block.steps {
        put_text(out, piece);
        put_slot(out, slot);
    }
    put_varint(out, block.branches.len() as u64);
    for (piece, target) in &block.branches {
        put_text(out, piece);
        put_varint(out, u64::from(target.wrapping_add(1)));
    }
}

fn take_block(from: &mut &[u8]) -> Option<DraftBlock> {
    let steps = take_list(from, |from| Some((take_text(from)?, take_slot(from)?)))?;
    let branches = take_list(from, |from| Some((take_text(from)?, take_target(from)?)))?;
    Some(DraftBlock { steps, branches })
}

fn take_target(from: &mut &[u8]) -> Option<u32> {
    let target = u32::try_from(take_varint(from)?).ok()?;
    Some(target.checked_sub(1).unwrap_or(END))
}

const OTHER: u8 = 0;
const NUMBER: u8 = 1;
const TEMPLATE: u8 = 2;

fn put_slot(out: &mut Vec<u8>, slot: &Slot) {
    out.push(slot.width as u8);
    put_varint(out, slot.commons.count() as u64);
    for text in slot.commons.texts() {
        put_text(out, &text);
    }
    match &slot.kind {
        Kind::Other => out.push(OTHER),
        Kind::Number(range) => {
            out.extend_from_slice(&[NUMBER, range.form.scale, range.form.least]);
            out.extend_from_slice(&range.base.to_le_bytes());
        }
        Kind::Template(template) => {
            let (text, digit, upper) = template.parts();
            out.extend_from_slice(&[TEMPLATE, u8::from(upper)]);
            put_text(out, text);
            out.extend(digit.iter().map(|digit| u8::from(*digit)));
        }
    }
}

fn take_slot(from: &mut &[u8]) -> Option<Slot> {
    let width = u32::from(take_byte(from)?);
    let usual: Vec<Vec<u8>> = take_list(from, take_text)?;
    if usual.len() > commons::MAX_COUNT || usual.iter().any(|text| text.len() > commons::MAX_LENGTH) {
        return None;
    }
    let commons = Commons::new(usual);
    let kind = match take_byte(from)? {
        OTHER => Kind::Other,
        NUMBER => {
            let form = Form { scale: take_byte(from)?, least: take_byte(from)? };
            let base = i64::from_le_bytes(take(from, 8)?.try_into().ok()?);
            return Some(Slot::numbers(width, commons, form, base));
        }
        TEMPLATE => {
            let upper = take_byte(from)? != 0;
            let text = take_text(from)?;
            let digit = take(from, text.len())?.iter().map(|digit| *digit != 0).collect();
            Kind::Template(Box::new(Template::new(text, digit, upper)?))
        }
        _ => return None,
    };
    Some(Slot { width, commons, kind })
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn take_text(from: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(take_varint(from)?).ok()?;
    take(from, length).map(<[u8]>::to_vec)
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

fn take_byte(from: &mut &[u8]) -> Option<u8> {
    take(from, 1).map(|byte| byte[0])
}

/// A count and as many items; memory grows with what is there, not with what the count says.
fn take_list<T>(from: &mut &[u8], item: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = take_varint(from)?;
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(item(from)?);
    }
    Some(list)
}
