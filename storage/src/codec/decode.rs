//! From stored bytes to the payload, or to one field of it. Called by the engine's readers. Stored bytes may be anything:
//! wrong ones give an error or wrong text, never a panic or more than `zstd::MAX_RAW` bytes.

use std::borrow::Cow;

use super::bits::{self, take_varint};
use super::generation::Generation;
use super::graph::{Block, END, Graph, Piece, Step};
use super::slot::Slot;
use super::tail::TailReader;
use super::zstd;
use super::{Coding, DecodeError, TAIL_BITS, TAIL_NONE, TAIL_PLAIN, TAIL_ZSTD};

/// Appends the payload of `stored` to `out`; after an error `out` is as before.
pub fn decode(
    generation: &Generation,
    coding: Coding,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let start = out.len();
    let done = match coding {
        Coding::Raw => {
            out.extend_from_slice(stored);
            Some(())
        }
        Coding::Zstd => generation.dictionary().decompress(stored, out),
        Coding::Shape => shape(generation, stored, out),
    };
    done.ok_or_else(|| {
        out.truncate(start);
        DecodeError { generation: generation.number(), coding }
    })
}

fn shape(generation: &Generation, stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let parts = Parts::split(stored)?;
    let tail = parts.tail(generation)?;
    let start = out.len();
    let mut printer = Printer::new(generation, parts.bits, &tail, out);
    let mut walk = Walk::new(generation.graph(), parts.bits);
    while let Some(visit) = walk.next() {
        let visit = visit?;
        printer.block(&visit)?;
        if printer.at - start > zstd::MAX_RAW {
            return None;
        }
    }
    let end = printer.at;
    out.truncate(end);
    Some(())
}

/// The two parts of a stored payload.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) bits: &'a [u8],
    tail: &'a [u8],
    packed: bool,
}

impl<'a> Parts<'a> {
    #[inline(always)]
    pub(super) fn split(stored: &'a [u8]) -> Option<Parts<'a>> {
        let kind = u64::from(*stored.first()?) & ((1 << TAIL_BITS) - 1);
        let (bits, tail) = match kind {
            TAIL_NONE => (stored, &[][..]),
            TAIL_PLAIN | TAIL_ZSTD => split_tail(stored)?,
            _ => return None,
        };
        Some(Parts { bits, tail, packed: kind == TAIL_ZSTD })
    }

    /// The tail, unpacked.
    pub(super) fn tail(&self, generation: &Generation) -> Option<Cow<'a, [u8]>> {
        if !self.packed {
            return Some(Cow::Borrowed(self.tail));
        }
        let mut tail = Vec::new();
        generation.dictionary().decompress(self.tail, &mut tail)?;
        Some(Cow::Owned(tail))
    }
}

/// The bits and the tail, whose length stands backwards at the end.
fn split_tail(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut last = [0; 10];
    let kept = stored.len().min(last.len());
    for (to, from) in last.iter_mut().zip(stored.iter().rev()) {
        *to = *from;
    }
    let mut rest = &last[..kept];
    let length = usize::try_from(take_varint(&mut rest)?).ok()?;
    let end = stored.len() - (kept - rest.len());
    Some(stored[..end].split_at(end.checked_sub(length)?))
}

/// A block on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed<'g> {
    pub(super) number: u32,
    pub(super) block: &'g Block,
    /// Its first bit.
    pub(super) at: usize,
    /// Slots before it.
    pub(super) slots: u64,
    /// The branch taken at its end.
    pub(super) choice: u32,
}

/// Follows the choices of a stored payload from block to block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    graph: &'a Graph,
    bits: &'a [u8],
    number: u32,
    at: usize,
    slots: u64,
    blocks: usize,
}

impl<'a> Walk<'a> {
    #[inline(always)]
    pub(super) fn new(graph: &'a Graph, bits: &'a [u8]) -> Walk<'a> {
        Walk { graph, bits, number: 0, at: TAIL_BITS as usize, slots: 0, blocks: 0 }
    }

    /// The next block; nothing at the end, `Some(None)` if the bits are no walk.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Option<Passed<'a>>> {
        if self.number == END {
            return None;
        }
        let block = &self.graph.blocks[self.number as usize];
        let choice_at = self.at + block.bits as usize;
        let choice = bits::get(self.bits, choice_at, block.choice_bits) as u32;
        let next = choice_at + block.choice_bits as usize;
        let passed = Passed { number: self.number, block, at: self.at, slots: self.slots, choice };
        if next > self.bits.len() * 8 {
            return Some(None);
        }
        let Some(branch) = self.graph.branches(block).get(choice as usize) else { return Some(None) };
        self.at = next;
        self.slots += u64::from(block.steps.end - block.steps.start);
        self.number = branch.target;
        self.blocks += 1;
        Some(Some(passed))
    }

    /// The block that is next, if there is one.
    #[inline(always)]
    pub(super) fn block(&self) -> Option<u32> {
        (self.number != END).then_some(self.number)
    }

    /// Slots passed.
    pub(super) fn slots(&self) -> u64 {
        self.slots
    }

    /// Blocks passed.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }
}

/// Prints blocks one after the other.
#[derive(Debug)]
pub(super) struct Printer<'a> {
    generation: &'a Generation,
    bits: &'a [u8],
    tail: TailReader<'a>,
    out: &'a mut Vec<u8>,
    /// End of what is printed in `out`.
    pub(super) at: usize,
}

impl<'a> Printer<'a> {
    #[inline(always)]
    pub(super) fn new(
        generation: &'a Generation,
        bits: &'a [u8],
        tail: &'a [u8],
        out: &'a mut Vec<u8>,
    ) -> Printer<'a> {
        let at = out.len();
        Printer { generation, bits, tail: TailReader::new(tail), out, at }
    }

    /// Room for `bytes` behind what is printed.
    #[inline(always)]
    pub(super) fn reserve(&mut self, bytes: usize) {
        if self.out.len() < self.at + bytes {
            self.out.resize(self.at + bytes, 0);
        }
    }

    /// Passes the escapes of the slots before number `slot`.
    pub(super) fn seek(&mut self, slot: u64) -> Option<()> {
        self.tail.seek(slot)
    }

    #[inline(always)]
    fn block(&mut self, passed: &Passed<'_>) -> Option<()> {
        self.reserve(passed.block.room);
        let graph = self.generation.graph();
        for step in graph.steps(passed.block) {
            self.piece(&step.piece)?;
            self.slot(passed, step, passed.block.room)?;
        }
        self.piece(&graph.branches(passed.block)[passed.choice as usize].piece)
    }

    /// Prints a piece into room that is reserved.
    #[inline(always)]
    pub(super) fn piece(&mut self, piece: &Piece) -> Option<()> {
        self.at = piece.print(self.out, self.at)?;
        Some(())
    }

    /// Prints a slot into room that is reserved, and has `room` for more behind it after an escape.
    #[inline(always)]
    pub(super) fn slot(&mut self, passed: &Passed<'_>, step: &Step, room: usize) -> Option<()> {
        let length =
            step.slot.print(self.bits, passed.at + step.at as usize, self.out.get_mut(self.at..)?)?;
        self.at += length;
        if length > 0 { Some(()) } else { self.escape(&step.slot, room) }
    }

    #[cold]
    fn escape(&mut self, slot: &Slot, room: usize) -> Option<()> {
        let (_, value) = self.tail.next()?;
        self.out.truncate(self.at);
        slot.print_escape(value, self.generation.symbols(), self.out)?;
        self.at = self.out.len();
        self.reserve(room);
        Some(())
    }
}
