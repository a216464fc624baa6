//! One field of a stored payload: the choices are followed from block to block, and only the field's own slots are
//! read. Called by typed reads. As with decoding, wrong stored bytes give nothing or wrong text, never a panic.

use super::bind::{Binding, Mark, What};
use super::decode::{Parts, Passed, Printer, Walk};
use super::generation::Generation;
use super::graph::{Graph, Step};
use super::tail::TailReader;
use super::zstd::MAX_RAW;

/// Where the field is, as far as is known.
#[derive(Clone, Copy)]
enum Found<'a> {
    Nothing,
    /// A scalar in the next block's first slot.
    Next,
    Scalar(Passed<'a>, &'a Step),
    /// A container that starts in the block that `walk` passes next, at a mark, and its end, if it was seen.
    Container {
        walk: Walk<'a>,
        start: Mark,
        end: Option<(usize, Mark)>,
    },
}

/// Appends the raw JSON text at path number `path` of `binding` in a payload stored by shape, and returns it. Nothing if
/// the payload has no such path, if `stored` is damaged, or if `binding` is not of this generation.
pub fn field<'o>(
    generation: &Generation,
    binding: &Binding,
    stored: &[u8],
    path: usize,
    out: &'o mut Vec<u8>,
) -> Option<&'o [u8]> {
    if binding.generation() != generation.number() {
        return None;
    }
    let start = out.len();
    let parts = Parts::split(generation, stored)?;
    let graph = generation.graph();
    let written = match find(graph, binding, &parts, path)? {
        Found::Nothing | Found::Next => None,
        Found::Scalar(passed, step) => scalar(&parts, &passed, step, out),
        Found::Container { walk, start, end } => container(graph, &parts, walk, start, end?, out),
    };
    if written.is_none() {
        out.truncate(start);
    }
    written?;
    out.get(start..)
}

/// Walks as long as the path may come (again).
#[inline(always)]
fn find<'a>(graph: &'a Graph, binding: &Binding, parts: &'a Parts<'_>, path: usize) -> Option<Found<'a>> {
    let mut found = Found::Nothing;
    let mut walk = Walk::new(graph, parts.bits);
    loop {
        let before = walk;
        if !matches!(found, Found::Next) && walk.block().is_none_or(|block| !binding.reaches(path, block)) {
            return Some(found);
        }
        let Some(passed) = walk.next() else { return Some(found) };
        let passed = passed?;
        let steps = graph.steps(passed.block);
        if matches!(found, Found::Next) {
            found = Found::Scalar(passed, steps.first()?);
        }
        for mark in binding.marks(passed.number).iter().filter(|mark| mark.path as usize == path) {
            if mark.slots as usize == steps.len() && mark.branch != passed.choice {
                continue;
            }
            match mark.what {
                What::Forget => found = Found::Nothing,
                What::Start => found = Found::Container { walk: before, start: *mark, end: None },
                What::Scalar => {
                    found =
                        steps.get(mark.slots as usize).map_or(Found::Next, |step| Found::Scalar(passed, step))
                }
                What::End => {
                    if let Found::Container { end, .. } = &mut found {
                        *end = Some((before.blocks(), *mark));
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn scalar(parts: &Parts<'_>, passed: &Passed<'_>, step: &Step, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.resize(start + step.slot.room(), 0);
    let length = step.slot.print(parts.bits, passed.at + step.at as usize, &mut out[start..])?;
    out.truncate(start + length);
    if length == 0 {
        let number = passed.slots + u64::from(step.number);
        step.slot.print_escape(TailReader::new(&parts.tail).find(number)?, out)?;
    }
    Some(())
}

/// Prints the blocks from the container's start to its end and cuts what is around it.
fn container(
    graph: &Graph,
    parts: &Parts<'_>,
    mut walk: Walk<'_>,
    start: Mark,
    (last, end): (usize, Mark),
    out: &mut Vec<u8>,
) -> Option<()> {
    let from = out.len();
    let mut printer = Printer::new(graph, parts, out);
    printer.seek(walk.slots())?;
    let (mut begins, mut ends) = (from, from);
    let mut number = walk.blocks();
    let mut first = true;
    loop {
        let passed = walk.next()??;
        printer.block(&passed, |slots, at| {
            if first && slots == start.slots {
                begins = at + start.offset as usize;
            }
            if number == last && slots == end.slots {
                ends = at + end.offset as usize;
            }
        })?;
        if number == last {
            break;
        }
        if printer.at - from > MAX_RAW {
            return None;
        }
        first = false;
        number += 1;
    }
    out.truncate(ends);
    (begins <= ends).then(|| out.drain(from..begins));
    Some(())
}
