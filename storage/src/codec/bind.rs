//! Paths of a view bound to a generation's shape: which piece of which block starts or ends which path. Compiled once per
//! view and generation; then the fields of a payload that was just encoded, and of one that is stored, are found without
//! parsing. Called by ingest and by typed reads. The meaning is that of the server's JSON scanner: of duplicate names the
//! last counts, and for Avro-JSON an object whose members all have one name that no path asks for is looked through.

use super::encode::Encoder;
use super::generation::Generation;
use super::graph::{END, Graph, structures};
use super::structure::{Event, Level, Structure};

/// Paths bound to one generation.
#[derive(Debug)]
pub struct Binding {
    generation: u32,
    paths: usize,
    /// Per block: its marks in `marks`, in order.
    blocks: Vec<(u32, u32)>,
    marks: Vec<Mark>,
    /// Per path and block: a mark of this path may come in or behind this block.
    reachable: Vec<Vec<bool>>,
    /// Per block: the same of any path.
    reachable_any: Vec<bool>,
}

/// A path starts, ends or is void at a place of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) path: u32,
    pub(super) what: What,
    /// The piece: that behind as many slots of the block, its branch's for all.
    pub(super) slots: u32,
    /// The branch it is in, if it is behind all slots.
    pub(super) branch: u32,
    /// Byte in the piece.
    pub(super) offset: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// What was found does not count.
    Forget,
    Start,
    /// Start of a scalar: it is the slot behind the piece.
    Scalar,
    End,
}

impl Generation {
    /// Binds `paths` (names of members, from the root) to this generation. With `avro`, intermediate steps look through
    /// Avro-JSON wrappers.
    pub fn bind(&self, paths: &[Vec<String>], avro: bool) -> Binding {
        self.bind_wanted(paths, avro, |_| true)
    }

    /// As `bind`, for paths of which only some are wanted: the others are never found. They are given all the same, for
    /// a name that a path asks for is no wrapper.
    pub fn bind_wanted(&self, paths: &[Vec<String>], avro: bool, wanted: impl Fn(usize) -> bool) -> Binding {
        let wanted = (0..paths.len()).map(wanted).collect();
        let mut binder = Binder { plan: Plan { paths, avro, wanted }, marks: Vec::new(), blocks: Vec::new() };
        let draft = self.graph().draft();
        let entries = structures(&draft).expect("verified when it was made");
        for (block, entry) in draft.iter().zip(entries) {
            binder.block(block, entry);
        }
        let (blocks, marks) = (binder.blocks, binder.marks);
        let reachable: Vec<Vec<bool>> =
            (0..paths.len()).map(|path| reachable(self.graph(), &blocks, &marks, path as u32)).collect();
        let any = |block: usize| reachable.iter().any(|blocks| blocks[block]);
        let reachable_any = (0..blocks.len()).map(any).collect();
        Binding { generation: self.number(), paths: paths.len(), blocks, marks, reachable, reachable_any }
    }
}

/// Per block: whether a mark of `path` is in it or in a block that can follow.
fn reachable(graph: &Graph, blocks: &[(u32, u32)], marks: &[Mark], path: u32) -> Vec<bool> {
    let own = |(start, end): &(u32, u32)| {
        marks[*start as usize..*end as usize].iter().any(|mark| mark.path == path)
    };
    let mut reach: Vec<bool> = blocks.iter().map(own).collect();
    loop {
        let mut changed = false;
        for (number, block) in graph.blocks.iter().enumerate().rev() {
            let follows =
                graph.branches(block).iter().any(|to| to.target != END && reach[to.target as usize]);
            if follows && !reach[number] {
                reach[number] = true;
                changed = true;
            }
        }
        if !changed {
            return reach;
        }
    }
}

struct Plan<'a> {
    paths: &'a [Vec<String>],
    avro: bool,
    /// By path.
    wanted: Vec<bool>,
}

struct Binder<'a> {
    plan: Plan<'a>,
    marks: Vec<Mark>,
    blocks: Vec<(u32, u32)>,
}

/// What a value is to the paths.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// On no path.
    Aside,
    /// The value after as many steps of the paths that start with these names.
    Named(usize),
    /// What is in a wrapper of such a value.
    Wrapped,
}

impl Plan<'_> {
    /// Paths that start with the names of `prefix`.
    fn within<'p>(&'p self, prefix: &'p [&[u8]]) -> impl Iterator<Item = (u32, &'p Vec<String>)> {
        let starts = move |path: &&Vec<String>| {
            path.len() >= prefix.len() && path.iter().zip(prefix).all(|(step, name)| step.as_bytes() == *name)
        };
        (0u32..).zip(self.paths).filter(move |(_, path)| starts(path))
    }

    fn asked(&self, prefix: &[&[u8]]) -> bool {
        self.within(prefix).next().is_some()
    }

    /// Follows `levels`; the names matched are put in `prefix`.
    fn place<'l>(&self, levels: &'l [Level], prefix: &mut Vec<&'l [u8]>) -> Place {
        let mut wrapped = false;
        for level in levels {
            let Level::Object { name, only } = level else { return Place::Aside };
            let may_wrap = self.avro && !prefix.is_empty() && !wrapped;
            prefix.push(name);
            wrapped = false;
            if !self.asked(prefix) {
                prefix.pop();
                let deeper = self.within(prefix).any(|(_, path)| path.len() > prefix.len());
                if !(may_wrap && *only && deeper) {
                    return Place::Aside;
                }
                wrapped = true;
            }
        }
        if wrapped { Place::Wrapped } else { Place::Named(prefix.len()) }
    }
}

impl Binder<'_> {
    fn block(&mut self, block: &super::graph::DraftBlock, mut structure: Structure) {
        let start = self.marks.len() as u32;
        for (slots, (piece, _)) in block.steps.iter().enumerate().skip(1) {
            self.piece(&mut structure, piece, false, (slots as u32, 0));
        }
        for (branch, (piece, target)) in block.branches.iter().enumerate() {
            let place = (block.steps.len() as u32, branch as u32);
            self.piece(&mut structure.clone(), piece, *target == END, place);
        }
        self.blocks.push((start, self.marks.len() as u32));
    }

    fn piece(&mut self, structure: &mut Structure, piece: &[u8], end: bool, place: (u32, u32)) {
        let mut text = piece.to_vec();
        text.extend(if end { None } else { Some(b'0') });
        text.resize(piece.len() + super::scalar::PAD, 0);
        let (plan, marks) = (&self.plan, &mut self.marks);
        let length = piece.len();
        structure.advance(&text, |at, event| mark(plan, marks, at.levels(), event, length, place));
    }
}

/// Appends the marks of an event.
fn mark(
    plan: &Plan<'_>,
    marks: &mut Vec<Mark>,
    levels: &[Level],
    event: Event,
    piece: usize,
    place: (u32, u32),
) {
    let mut prefix = Vec::new();
    let found = plan.place(levels, &mut prefix);
    let depth = prefix.len();
    let mut add = |path: u32, what: What, offset: usize| {
        marks.push(Mark { path, what, slots: place.0, branch: place.1, offset: offset as u32 });
    };
    for (path, steps) in plan.within(&prefix).filter(|(path, _)| plan.wanted[*path as usize]) {
        let (own, below) = (steps.len() == depth, steps.len() > depth);
        match (&found, event) {
            (Place::Named(1..), Event::Start(at)) if own => {
                add(path, if at == piece { What::Scalar } else { What::Start }, at)
            }
            (Place::Named(1..), Event::End(at)) if own => add(path, What::End, at),
            (Place::Named(1..) | Place::Wrapped, Event::Start(at)) if below => add(path, What::Forget, at),
            (Place::Wrapped, Event::Second) if below => add(path, What::Forget, 0),
            _ => {}
        }
    }
}

/// Where each path of a binding is in a payload.
#[derive(Debug, Default, Clone)]
pub struct Ranges {
    ranges: Vec<(u32, u32)>,
    starts: Vec<u32>,
}

const ABSENT: (u32, u32) = (0, 0);

impl Ranges {
    /// None yet.
    pub fn new() -> Ranges {
        Ranges::default()
    }

    /// Byte range of the raw text at path `path`, if the payload has it.
    #[inline]
    pub fn get(&self, path: usize) -> Option<(u32, u32)> {
        self.ranges.get(path).copied().filter(|range| *range != ABSENT)
    }
}

impl Binding {
    /// Number of the generation it belongs to.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The marks of a block, in order.
    pub(super) fn marks(&self, block: u32) -> &[Mark] {
        let (start, end) = self.blocks[block as usize];
        &self.marks[start as usize..end as usize]
    }

    /// Whether a mark of `path` may come in or behind `block`.
    pub(super) fn reaches(&self, path: usize, block: u32) -> bool {
        self.reachable.get(path).is_some_and(|blocks| blocks[block as usize])
    }

    /// Whether a mark of any path may.
    pub(super) fn reaches_any(&self, block: u32) -> bool {
        self.reachable_any.get(block as usize).is_some_and(|any| *any)
    }

    /// How many paths it has.
    pub(super) fn paths(&self) -> usize {
        self.paths
    }

    /// Finds the paths in the payload that `encoder` has just encoded with this generation as valid.
    pub fn ranges(&self, generation: &Generation, encoder: &Encoder, ranges: &mut Ranges) {
        ranges.ranges.clear();
        ranges.ranges.resize(self.paths, ABSENT);
        ranges.starts.resize(self.paths, 0);
        for visit in encoder.visits() {
            for mark in self.marks(visit.block) {
                let steps = &generation.graph().blocks[visit.block as usize].steps;
                if mark.slots == steps.end - steps.start && mark.branch != visit.choice {
                    continue;
                }
                let before = (visit.first + mark.slots).checked_sub(1);
                let piece = before.map_or(0, |slot| encoder.scalars()[slot as usize].1);
                let at = piece + mark.offset;
                match mark.what {
                    What::Forget => ranges.ranges[mark.path as usize] = ABSENT,
                    What::Start | What::Scalar => ranges.starts[mark.path as usize] = at,
                    What::End => ranges.ranges[mark.path as usize] = (ranges.starts[mark.path as usize], at),
                }
            }
        }
    }
}
