//! The shape of a view: a graph of blocks. A block is a run of slots with a literal piece of text before each but the
//! first, and then a choice of branches, each a piece that leads to another block or to the end of the payload. A
//! payload is a walk from block 0, which has no slots. Optional fields are branches that meet again, arrays are
//! branches back. Built by training, read from a generation file; both go through `Graph::new`, which proves that every
//! walk is a valid JSON object, that no walk stands still, and that every field fits.

use std::ops::Range;

use super::bits::MAX_WIDTH;
use super::commons::{HEAD, masked_difference};
use super::scalar::{self, PAD};
use super::slot::{Kind, PRINT_SLACK, Slot};
use super::structure::Structure;
use super::{commons, number};

/// The target of a branch that ends the payload.
pub(super) const END: u32 = u32::MAX;
/// Most blocks, steps or branches.
pub(super) const MAX_PARTS: usize = 1 << 16;

/// A verified graph.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) blocks: Vec<Block>,
    pub(super) steps: Vec<Step>,
    pub(super) branches: Vec<Branch>,
}

/// A run of steps and where it can lead.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) steps: Range<u32>,
    pub(super) branches: Range<u32>,
    /// Bits of all its slots.
    pub(super) bits: u32,
    /// Bits of the choice of a branch.
    pub(super) choice_bits: u32,
    /// Most bytes of text it writes, escapes not counted, and `PRINT_SLACK`.
    pub(super) room: usize,
}

/// A piece (empty at the first of a block) and the slot behind it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) piece: Piece,
    pub(super) slot: Slot,
    /// The slot's first bit, counted from the block's.
    pub(super) at: u32,
    /// Slots of the block before it.
    pub(super) number: u32,
    /// Most bytes of text it writes, escapes not counted.
    pub(super) longest: usize,
}

/// A piece and the block it leads to, or `END`.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) piece: Piece,
    pub(super) target: u32,
}

/// Literal text, in chunks of `HEAD` bytes, the last filled with zeros.
#[derive(Debug)]
pub(super) struct Piece {
    head: [u8; HEAD],
    length: usize,
    more: Box<[[u8; HEAD]]>,
}

/// A graph as it is learned or written: per block its steps and its branches.
pub(super) type Draft = Vec<DraftBlock>;

/// A block as it is learned or written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct DraftBlock {
    pub(super) steps: Vec<(Vec<u8>, Slot)>,
    pub(super) branches: Vec<(Vec<u8>, u32)>,
}

impl Piece {
    fn new(text: &[u8]) -> Piece {
        let mut chunks = text.chunks(HEAD).map(|part| {
            let mut chunk = [0; HEAD];
            chunk[..part.len()].copy_from_slice(part);
            chunk
        });
        let head = chunks.next().unwrap_or_default();
        Piece { head, length: text.len(), more: chunks.collect() }
    }

    fn text(&self) -> Vec<u8> {
        let mut text = [&[self.head], &*self.more].concat().concat();
        text.truncate(self.length);
        text
    }

    /// Its length in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The place behind the piece, if it is at `at`.
    #[inline(always)]
    pub(super) fn skip(&self, text: &[u8], at: usize) -> Option<usize> {
        let found = text.get(at..)?.first_chunk::<HEAD>()?;
        if masked_difference(found, &self.head, self.length) != 0 {
            return None;
        }
        let mut rest = at + HEAD;
        for chunk in &self.more {
            let found = text.get(rest..)?.first_chunk::<HEAD>()?;
            if masked_difference(found, chunk, at + self.length - rest) != 0 {
                return None;
            }
            rest += HEAD;
        }
        Some(at + self.length)
    }

    /// Writes the piece at `at` of `out`, with up to a head of other bytes behind it; returns the place behind it.
    #[inline(always)]
    pub(super) fn print(&self, out: &mut [u8], at: usize) -> Option<usize> {
        let out = out.get_mut(at..)?;
        *out.first_chunk_mut()? = self.head;
        for (index, chunk) in self.more.iter().enumerate() {
            *out.get_mut((index + 1) * HEAD..)?.first_chunk_mut()? = *chunk;
        }
        Some(at + self.length)
    }
}

impl Graph {
    /// Verifies and lays out a draft; the error says what is wrong with it.
    pub(super) fn new(draft: Draft) -> Result<Graph, &'static str> {
        check_sizes(&draft)?;
        check_slots(&draft)?;
        check_progress(&draft)?;
        structures(&draft)?;
        let mut graph = Graph { blocks: Vec::new(), steps: Vec::new(), branches: Vec::new() };
        for block in draft {
            graph.add(block);
        }
        Ok(graph)
    }

    fn add(&mut self, draft: DraftBlock) {
        let (first_step, first_branch) = (self.steps.len() as u32, self.branches.len() as u32);
        let (mut bits, mut room) = (0, PRINT_SLACK);
        for (number, (piece, slot)) in (0..).zip(draft.steps) {
            let at = bits;
            bits += slot.bits();
            let longest = piece.len() + slot.longest();
            room += longest;
            self.steps.push(Step { piece: Piece::new(&piece), slot, at, number, longest });
        }
        let choice_bits = choice_bits(draft.branches.len());
        room += draft.branches.iter().map(|(piece, _)| piece.len()).max().unwrap_or(0);
        self.branches.extend(
            draft.branches.into_iter().map(|(text, target)| Branch { piece: Piece::new(&text), target }),
        );
        let (steps, branches) =
            (first_step..self.steps.len() as u32, first_branch..self.branches.len() as u32);
        self.blocks.push(Block { steps, branches, bits, choice_bits, room });
    }

    #[inline(always)]
    pub(super) fn steps(&self, block: &Block) -> &[Step] {
        &self.steps[block.steps.start as usize..block.steps.end as usize]
    }

    #[inline(always)]
    pub(super) fn branches(&self, block: &Block) -> &[Branch] {
        &self.branches[block.branches.start as usize..block.branches.end as usize]
    }

    /// The draft this was made of.
    pub(super) fn draft(&self) -> Draft {
        let draft = |block: &Block| DraftBlock {
            steps: self.steps(block).iter().map(|step| (step.piece.text(), step.slot.clone())).collect(),
            branches: self.branches(block).iter().map(|to| (to.piece.text(), to.target)).collect(),
        };
        self.blocks.iter().map(draft).collect()
    }
}

/// Bits that tell `branches` apart.
pub(super) fn choice_bits(branches: usize) -> u32 {
    branches.next_power_of_two().trailing_zeros()
}

fn check_sizes(draft: &Draft) -> Result<(), &'static str> {
    let steps: usize = draft.iter().map(|block| block.steps.len()).sum();
    let branches: usize = draft.iter().map(|block| block.branches.len()).sum();
    if draft.is_empty() || draft.len().max(steps).max(branches) > MAX_PARTS {
        return Err("number of blocks, steps or branches out of range");
    }
    if !draft[0].steps.is_empty() || draft[1..].iter().any(|block| block.steps.is_empty()) {
        return Err("the first block, and no other, has no slots");
    }
    let known = |target: u32| target == END || (target > 0 && (target as usize) < draft.len());
    if !draft.iter().flat_map(|block| &block.branches).all(|(_, target)| known(*target)) {
        return Err("a branch leads nowhere");
    }
    Ok(())
}

fn check_slots(draft: &Draft) -> Result<(), &'static str> {
    for (_, slot) in draft.iter().flat_map(|block| &block.steps) {
        let count = slot.commons.count() as u64;
        let own = match &slot.kind {
            Kind::Other => 0,
            Kind::Template(_) => 1,
            Kind::Number(number::Range { form, base, .. }) => {
                let form_fits = u32::from(form.scale) <= number::MAX_DIGITS && form.least <= form.scale;
                if !form_fits || base.unsigned_abs() > i64::MAX as u64 / 2 {
                    return Err("a number form out of range");
                }
                1
            }
        };
        if slot.width > MAX_WIDTH || (count + own) >> slot.width != 0 || count as usize > commons::MAX_COUNT {
            return Err("a code field too wide, or too narrow for its values");
        }
        if !slot.commons.texts().all(|text| is_scalar(&text)) {
            return Err("a usual value that is no scalar");
        }
    }
    Ok(())
}

fn is_scalar(text: &[u8]) -> bool {
    let mut padded = text.to_vec();
    padded.resize(text.len() + PAD, 0);
    text.len() <= commons::MAX_LENGTH && scalar::end(&padded, 0) == Some(text.len())
}

/// A walk along blocks of one branch each takes no bits: it must not come back to where it was.
fn check_progress(draft: &Draft) -> Result<(), &'static str> {
    for start in 0..draft.len() {
        let mut at = start;
        for passed in 0.. {
            match draft[at].branches[..] {
                [(_, target)] if target != END => at = target as usize,
                _ => break,
            }
            if passed > draft.len() || at == start {
                return Err("a walk without an end");
            }
        }
    }
    Ok(())
}

/// The structure at each block's first slot, that slot read. All walks to a block must agree.
pub(super) fn structures(draft: &Draft) -> Result<Vec<Structure>, &'static str> {
    let mut entries: Vec<Option<Structure>> = vec![None; draft.len()];
    entries[0] = Some(Structure::start());
    let mut open = vec![0usize];
    while let Some(block) = open.pop() {
        let mut at = entries[block].clone().expect("set before it was pushed");
        for (index, (piece, _)) in draft[block].steps.iter().enumerate() {
            match index {
                0 if piece.is_empty() => {}
                0 => return Err("a piece before the first slot of a block"),
                _ => advance(&mut at, piece, false)?,
            }
        }
        for (piece, target) in &draft[block].branches {
            let mut there = at.clone();
            advance(&mut there, piece, *target == END)?;
            if *target == END {
                continue;
            }
            match &entries[*target as usize] {
                Some(known) if *known != there => return Err("a block is reached in two ways"),
                Some(_) => {}
                None => {
                    entries[*target as usize] = Some(there);
                    open.push(*target as usize);
                }
            }
        }
    }
    entries.into_iter().collect::<Option<_>>().ok_or("a block that is never reached")
}

fn advance(structure: &mut Structure, piece: &[u8], end: bool) -> Result<(), &'static str> {
    let mut text = piece.to_vec();
    text.extend(if end { None } else { Some(b'0') });
    text.resize(piece.len() + PAD, 0);
    let object = !structure.levels().is_empty() || piece.trim_ascii_start().first() == Some(&b'{');
    let walked = structure.advance(&text, |_, _| {});
    match walked == Some(piece.len()) && structure.is_done() == end && object {
        true => Ok(()),
        false => Err("a piece that is not JSON at its place"),
    }
}
