//! Single fields of a stored payload: the choices are followed from block to block, and only the fields' own slots are
//! read. Called by typed reads. As with decoding, wrong stored bytes give nothing or wrong text, never a panic.

use std::borrow::Cow;

use super::bind::{Binding, Mark, What};
use super::decode::{Parts, Passed, Printer, Walk};
use super::generation::Generation;
use super::graph::{Graph, Step};
use super::slot::PRINT_SLACK;
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
    let parts = Parts::split(stored)?;
    let found = find(generation.graph(), binding, &parts, path)?;
    let written = write(&mut Tail::new(generation, &parts), found, out);
    if written.is_none() {
        out.truncate(start);
    }
    written?;
    out.get(start..)
}

/// As `field` for several paths, in one walk: `each` is told the text of each path in turn. `out` is used, and left as it
/// was.
pub fn fields(
    generation: &Generation,
    binding: &Binding,
    stored: &[u8],
    paths: impl Iterator<Item = usize>,
    out: &mut Vec<u8>,
    mut each: impl FnMut(Option<&[u8]>),
) {
    let start = out.len();
    let parts = Parts::split(stored).filter(|_| binding.generation() == generation.number());
    let found = parts.as_ref().and_then(|parts| find_all(generation.graph(), binding, parts));
    let mut tail = parts.as_ref().map(|parts| Tail::new(generation, parts));
    for path in paths {
        let found = found.as_ref().and_then(|found| found.get(path).copied());
        let written = tail.as_mut().zip(found).and_then(|(tail, found)| write(tail, found, out));
        each(written.and_then(|()| out.get(start..)));
        out.truncate(start);
    }
}

/// What does not fit its slot, unpacked when it is first looked into.
struct Tail<'p> {
    generation: &'p Generation,
    parts: &'p Parts<'p>,
    unpacked: Option<Cow<'p, [u8]>>,
}

impl<'p> Tail<'p> {
    fn new(generation: &'p Generation, parts: &'p Parts<'p>) -> Tail<'p> {
        Tail { generation, parts, unpacked: None }
    }

    fn get(&mut self) -> Option<&[u8]> {
        if self.unpacked.is_none() {
            self.unpacked = Some(self.parts.tail(self.generation)?);
        }
        self.unpacked.as_deref()
    }
}

fn write(tail: &mut Tail<'_>, found: Found<'_>, out: &mut Vec<u8>) -> Option<()> {
    match found {
        Found::Nothing | Found::Next => None,
        Found::Scalar(passed, step) => scalar(tail, &passed, step, out),
        Found::Container { walk, start, end } => container(tail, walk, start, end?, out),
    }
}

/// Where every path of the binding is.
fn find_all<'a>(graph: &'a Graph, binding: &Binding, parts: &'a Parts<'_>) -> Option<Vec<Found<'a>>> {
    let mut found = vec![Found::Nothing; binding.paths()];
    let mut waiting: Vec<usize> = Vec::new();
    let mut walk = Walk::new(graph, parts.bits);
    loop {
        let before = walk;
        if waiting.is_empty() && walk.block().is_none_or(|block| !binding.reaches_any(block)) {
            return Some(found);
        }
        let Some(passed) = walk.next() else { return Some(found) };
        let passed = passed?;
        let steps = graph.steps(passed.block);
        for path in waiting.drain(..) {
            if matches!(found[path], Found::Next) {
                found[path] = Found::Scalar(passed, steps.first()?);
            }
        }
        for mark in binding.marks(passed.number) {
            note(&mut found[mark.path as usize], mark, &passed, steps, before);
            if matches!(found[mark.path as usize], Found::Next) {
                waiting.push(mark.path as usize);
            }
        }
    }
}

/// What a mark of a block that was just passed says of its path.
#[inline(always)]
fn note<'a>(found: &mut Found<'a>, mark: &Mark, passed: &Passed<'a>, steps: &'a [Step], before: Walk<'a>) {
    if mark.slots as usize == steps.len() && mark.branch != passed.choice {
        return;
    }
    match mark.what {
        What::Forget => *found = Found::Nothing,
        What::Start => *found = Found::Container { walk: before, start: *mark, end: None },
        What::Scalar => {
            let step = steps.get(mark.slots as usize);
            *found = step.map_or(Found::Next, |step| Found::Scalar(*passed, step));
        }
        What::End => {
            if let Found::Container { end, .. } = found {
                *end = Some((before.blocks(), *mark));
            }
        }
    }
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
            note(&mut found, mark, &passed, steps, before);
        }
    }
}

#[inline(always)]
fn scalar(tail: &mut Tail<'_>, passed: &Passed<'_>, step: &Step, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.resize(start + step.longest + PRINT_SLACK, 0);
    let length = step.slot.print(tail.parts.bits, passed.at + step.at as usize, &mut out[start..])?;
    out.truncate(start + length);
    if length == 0 {
        let number = passed.slots + u64::from(step.number);
        let symbols = tail.generation.symbols();
        step.slot.print_escape(TailReader::new(tail.get()?).find(number)?, symbols, out)?;
    }
    Some(())
}

/// Prints a container. Nearly none has an escape in it, so the tail, which may have to be unpacked for that, is looked
/// into only when one is met.
fn container(
    tail: &mut Tail<'_>,
    walk: Walk<'_>,
    start: Mark,
    end: (usize, Mark),
    out: &mut Vec<u8>,
) -> Option<()> {
    let (from, generation, parts) = (out.len(), tail.generation, tail.parts);
    if let Some(done) = print_container(generation, parts, &[], walk, start, end, out) {
        return Some(done);
    }
    let tail = tail.get().filter(|tail| !tail.is_empty())?;
    out.truncate(from);
    print_container(generation, parts, tail, walk, start, end, out)
}

/// Prints from the piece the container starts in to the piece it ends in, and cuts what is around it.
fn print_container(
    generation: &Generation,
    parts: &Parts<'_>,
    tail: &[u8],
    mut walk: Walk<'_>,
    start: Mark,
    (last, end): (usize, Mark),
    out: &mut Vec<u8>,
) -> Option<()> {
    let from = out.len();
    let graph = generation.graph();
    let mut printer = Printer::new(generation, parts.bits, tail, out);
    if !tail.is_empty() {
        let steps = u64::from(start.slots);
        printer.seek(walk.slots() + steps)?;
    }
    let mut first = start.slots as usize;
    let ends = loop {
        let is_last = walk.blocks() == last;
        let passed = walk.next()??;
        let steps = graph.steps(passed.block);
        let behind = if is_last { end.slots as usize } else { steps.len() };
        for step in steps.get(first..behind)? {
            printer.reserve(step.longest + PRINT_SLACK);
            printer.piece(&step.piece)?;
            printer.slot(&passed, step, PRINT_SLACK)?;
        }
        let piece = match steps.get(behind) {
            Some(step) => &step.piece,
            None => &graph.branches(passed.block).get(passed.choice as usize)?.piece,
        };
        printer.reserve(piece.length() + PRINT_SLACK);
        if is_last {
            let ends = printer.at + end.offset as usize;
            printer.piece(piece)?;
            break ends;
        }
        printer.piece(piece)?;
        if printer.at - from > MAX_RAW {
            return None;
        }
        first = 0;
    };
    let begins = from + start.offset as usize;
    out.truncate(ends);
    out.get(begins..ends)?;
    out.drain(from..begins);
    Some(())
}
